"""The group ``spool``: make a spool, and see what it holds."""

from __future__ import annotations

import os
from typing import Any

import click

from breyta_cli import given, output
from breyta_cli.tree import Group, command
from breyta_spool.errors import InvalidInput


@click.command(
    cls=Group,
    members={
        "init": ("breyta_cli.spool:init", "Make a spool."),
        "info": ("breyta_cli.spool:info", "Show what a spool is and holds, and the room it has."),
        "check": (
            "breyta_cli.spool_check:check",
            "Look for whatever is wrong, and whether the file system can be trusted.",
        ),
        "repair": ("breyta_cli.spool_check:repair", "Mend what a crash left, and rebuild the index. Deletes no data."),
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
@click.option("--require-keys", is_flag=True, help="Nobody changes it without a key. Answers the first key.")
@click.option("--workspace", "workspace", help="The workspace. Default: BREYTA_WORKSPACE, or 'local'.")
def init(directory: str, durability: str, group: str | None, require_keys: bool, workspace: str | None) -> None:
    """Make a spool in a directory that is empty or not there.

    With --require-keys, data.apiKey is the key of an account that may do everything. It is shown this once: keep it,
    and make accounts that may do less with 'breyta service-accounts create'.

    \b
    Example:
      breyta spool init /srv/spool --workspace ws-acme --durability durable
    """
    from breyta_spool import Spool

    if not directory:
        raise InvalidInput("DIR is empty: name the directory to make", field="spool")
    given.here()
    name = workspace or output.options().get("workspace") or os.environ.get("BREYTA_WORKSPACE") or "local"
    made = Spool.init(directory, name, durability, group, require_keys)
    output.about(made.settings.workspace_id)
    data: dict[str, Any] = {"spool": {"path": made.root, **made.settings.to_map()}}
    if first := made.first_key:
        data |= {"serviceAccount": first.account.to_map(), "key": first.key.to_map(), "apiKey": first.api_key}
    output.answer(data)


@command()
def info() -> None:
    """Show what a spool is, how many jobs of each type wait, run and have ended, its workers, and the room left.

    \b
    Example:
      breyta spool info --pretty
    """
    from breyta_spool.overview import overview

    output.answer(overview(given.spool()))
