"""The group ``workers``."""

from __future__ import annotations

import click

from breyta_cli import given, output
from breyta_cli.tree import Group, command


@click.command(
    cls=Group,
    members={"list": ("breyta_cli.workers:list_", "List the workers of a spool.")},
    aliases={"ls": "list"},
)
def workers() -> None:
    """See which workers live.

    \b
    Example:
      breyta workers list
    """


@command("list")
@click.option("--type", "job_type", help="Only workers of this job type.")
def list_(job_type: str | None) -> None:
    """List the workers that run, or ran and did not stop cleanly (alive false).

    \b
    Example:
      breyta workers list --type agent-review
    """
    found = given.spool().workers()
    output.answer({"items": [worker.to_map() for worker in found if job_type in (None, worker.job_type)]})
