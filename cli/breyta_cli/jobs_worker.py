"""The group ``jobs worker``."""

from __future__ import annotations

import click

from breyta_cli.tree import Group


@click.command(
    cls=Group,
    members={
        "run": ("breyta_cli.worker_run:run", "Claim jobs of a type and run a handler for each."),
        "state": ("breyta_cli.worker_helpers:state", "Show the local state of a job (in a handler)."),
        "progress": ("breyta_cli.worker_helpers:progress", "Report progress (in a handler)."),
        "attach-file": (
            "breyta_cli.worker_attach:attach_file",
            "Keep a file as an artifact (in a handler).",
        ),
        "attach-kv": (
            "breyta_cli.worker_attach:attach_kv",
            "Keep a JSON value as an artifact (in a handler).",
        ),
        "attach-table": (
            "breyta_cli.worker_attach:attach_table",
            "Keep rows as an artifact (in a handler).",
        ),
        "finish": ("breyta_cli.worker_helpers:finish", "Say that the job went well (in a handler)."),
        "fail": ("breyta_cli.worker_helpers:fail", "Say that the job failed (in a handler)."),
    },
)
def worker() -> None:
    """Run a worker; inside its handler, report progress, attach artifacts, finish or fail.

    \b
    Example:
      breyta jobs worker run --type agent-review --handler ./run-agent-review.sh
    """
