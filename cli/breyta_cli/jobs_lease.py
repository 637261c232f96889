"""``breyta jobs claim``, ``heartbeat``, ``progress``, ``complete`` and ``fail``: a worker by hand, or of one's own."""

from __future__ import annotations

import os
import socket
from typing import Any

import click

from breyta_cli import given, output
from breyta_cli.tree import command

_token = click.option("--lease-token", required=True, help="The token that the claim answered.")


@command()
@click.option("--type", "job_type", required=True, help="The job type to take.")
@click.option("--worker-id", help="Who claims. Default: host-pid.")
@click.option("--batch-id", help="Only from this batch.")
@click.option("--label", "labels", multiple=True, metavar="K=V", help="A label of the worker; repeatable.")
@click.option("--lease-duration", metavar="DURATION", help="How long the lease lasts without a heartbeat. Default: 2m.")
def claim(
    job_type: str,
    worker_id: str | None,
    batch_id: str | None,
    labels: tuple[str, ...],
    lease_duration: str | None,
) -> None:
    """Claim the oldest job of a type. Answers data.job with its leaseToken, or data.job null when none waits.

    \b
    Example:
      breyta jobs claim --type agent-review --worker-id desk-1 --lease-duration 10m
    """
    lease = given.spool().claim(
        job_type,
        worker_id or f"{socket.gethostname()}-{os.getpid()}",
        labels=given.pairs("label", labels),
        lease=lease_duration,
        batch_id=batch_id,
    )
    output.answer({"job": {**lease.job.to_map(), "leaseToken": lease.token} if lease else None})


@command()
@click.argument("job_id", metavar="JOB-ID")
@_token
@click.option("--lease-duration", metavar="DURATION", help="A new duration for the lease.")
def heartbeat(job_id: str, lease_token: str, lease_duration: str | None) -> None:
    """Renew the lease of a claimed job. Exit code 6 when it is no longer held.

    \b
    Example:
      breyta jobs heartbeat job-01JD0W3Z8Q4X5V6B7N8M9K0P1R --lease-token 5d0c…
    """
    lease = given.spool().lease(job_id, lease_token)
    cancel = lease.heartbeat(lease_duration)
    output.answer({"job": lease.job.to_map()}, cancelRequested=cancel)


@command()
@click.argument("job_id", metavar="JOB-ID")
@_token
@click.option("--status", default="running", show_default=True, help="leased, started or running.")
@click.option("--message", default="", help="What is going on, for people.")
@given.json_option("details", "An object with details.")
@given.json_option("metrics", "An object with numbers.")
@given.json_option("artifacts", "Artifacts made so far, described.", any_value=True)
def progress(
    job_id: str,
    lease_token: str,
    status: str,
    message: str,
    details: dict[str, Any],
    metrics: dict[str, Any],
    artifacts: Any,
) -> None:
    """Report progress on a claimed job and renew its lease.

    \b
    Example:
      breyta jobs progress job-01JD0W3Z8Q4X5V6B7N8M9K0P1R --lease-token 5d0c… --message "half done"
    """
    lease = given.spool().lease(job_id, lease_token)
    lease.progress(
        message,
        status=status,
        details=details,
        metrics=metrics,
        artifacts=artifacts,
    )
    output.answer({"job": lease.job.to_map()})


@command()
@click.argument("job_id", metavar="JOB-ID")
@_token
@click.option("--status", default="succeeded", show_default=True, help="succeeded, no_changes or cancelled.")
@click.option("--summary", default="", help="The result in a sentence.")
@given.json_option("outputs", "An object with the facts a flow branches on.")
@given.json_option("metrics", "An object with numbers.")
@given.json_option("artifacts", "An array of artifacts, described.", any_value=True)
@given.json_option("worker-info", "An object that says who did it.")
def complete(
    job_id: str,
    lease_token: str,
    status: str,
    summary: str,
    outputs: dict[str, Any],
    metrics: dict[str, Any],
    artifacts: Any,
    worker_info: dict[str, Any],
) -> None:
    """End a claimed job well. Exit code 6 when the lease is no longer held: then nothing was changed.

    \b
    Example:
      breyta jobs complete job-01JD0W3Z8Q4X5V6B7N8M9K0P1R --lease-token 5d0c… --outputs '{"findings": 0}'
    """
    lease = given.spool().lease(job_id, lease_token)
    job = lease.complete(
        status=status,
        summary=summary,
        outputs=outputs,
        metrics=metrics,
        artifacts=artifacts,
        worker_info=worker_info,
    )
    output.answer({"job": job.to_map()})


@command()
@click.argument("job_id", metavar="JOB-ID")
@_token
@click.option("--message", required=True, help="Why, for people.")
@click.option("--code", default="failed", show_default=True, help="Why, for programs.")
@given.json_option("details", "An object with details.")
@given.json_option("artifacts", "An array of artifacts, described.", any_value=True)
def fail(
    job_id: str,
    lease_token: str,
    message: str,
    code: str,
    details: dict[str, Any],
    artifacts: Any,
) -> None:
    """End a claimed job as failed. Exit code 6 when the lease is no longer held.

    \b
    Example:
      breyta jobs fail job-01JD0W3Z8Q4X5V6B7N8M9K0P1R --lease-token 5d0c… --message "no such surface"
    """
    job = (
        given.spool()
        .lease(job_id, lease_token)
        .fail(
            message,
            code=code,
            details=details,
            artifacts=artifacts,
        )
    )
    output.answer({"job": job.to_map()})
