"""The group ``spool``: make a spool, and see what it holds."""

from __future__ import annotations

import os

import click

from breyta_cli import given, output
from breyta_cli.tree import Group, command
from breyta_spool.errors import InvalidInput


@click.command(
    cls=Group,
    members={
        "init": ("breyta_cli.spool:init", "Make a spool."),
        "info": ("breyta_cli.spool:info", "Show what a spool is and holds, and the room it has."),
    },
)
def spool() -> None:
    """Make a spool and look after it.

    \b
    Example:
      breyta spool init /srv/spool --workspace ws-acme
    """


@command()
@click.argument("directory", metavar="DIR")
@click.option(
    "--durability",
    default="durable",
    show_default=True,
    help="durable: what was acknowledged survives a power cut; none.",
)
@click.option("--group", help="A Unix group that shares the spool.")
@click.option("--workspace", "workspace", help="The workspace. Default: BREYTA_WORKSPACE, or 'local'.")
def init(directory: str, durability: str, group: str | None, workspace: str | None) -> None:
    """Make a spool in a directory that is empty or not there.

    \b
    Example:
      breyta spool init /srv/spool --workspace ws-acme --durability durable
    """
    from breyta_spool import Spool

    if not directory:
        raise InvalidInput("DIR is empty: name the directory to make", field="spool")
    given.here()
    name = workspace or output.options().get("workspace") or os.environ.get("BREYTA_WORKSPACE") or "local"
    made = Spool.init(directory, name, durability, group)
    output.about(made.settings.workspace_id)
    output.answer({"spool": {"path": made.root, **made.settings.to_map()}})


@command()
def info() -> None:
    """Show what a spool is, how many jobs of each type wait, run and have ended, its workers, and the room left.

    \b
    Example:
      breyta spool info --pretty
    """
    from breyta_spool.overview import overview

    output.answer(overview(given.spool()))
