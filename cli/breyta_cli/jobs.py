"""The group ``jobs`` and its commands for submitters and operators."""

from __future__ import annotations

import click

from breyta_cli.tree import Group


@click.command(
    cls=Group,
    members={
        "create": ("breyta_cli.jobs_submit:create", "Submit a job."),
        "list": ("breyta_cli.jobs_read:list_", "List jobs, newest first."),
        "show": ("breyta_cli.jobs_read:show", "Show one job, whole."),
        "await": ("breyta_cli.jobs_read:await_", "Wait until a job has ended."),
        "logs": ("breyta_cli.jobs_read:logs", "Print what the handler of a job wrote."),
        "cancel": ("breyta_cli.jobs_submit:cancel", "Cancel a job."),
        "retry": ("breyta_cli.jobs_submit:retry", "Submit a job that has ended once more."),
        "batches": ("breyta_cli.jobs_batches:batches", "Submit, await and cancel many jobs at once."),
        "claim": ("breyta_cli.jobs_lease:claim", "Claim a job by hand."),
        "heartbeat": ("breyta_cli.jobs_lease:heartbeat", "Renew a lease."),
        "progress": ("breyta_cli.jobs_lease:progress", "Report progress on a claimed job."),
        "complete": ("breyta_cli.jobs_lease:complete", "End a claimed job well."),
        "fail": ("breyta_cli.jobs_lease:fail", "End a claimed job as failed."),
        "worker": ("breyta_cli.jobs_worker:worker", "Run a worker; report from inside its handler."),
    },
    aliases={"ls": "list"},
)
def jobs() -> None:
    """Submit, list, show, await, cancel and work on jobs.

    \b
    Example:
      breyta jobs create --type agent-review --payload '{"surface": "flows-api"}'
      breyta jobs await job-01JD0W3Z8Q4X5V6B7N8M9K0P1R --timeout 5m
    """
