"""``breyta jobs create``, ``cancel`` and ``retry``."""

from __future__ import annotations

from typing import Any

import click

from breyta_cli import given, output
from breyta_cli.tree import command


@command()
@click.option("--type", "job_type", required=True, help="The job type: which workers may take it.")
@given.json_option("payload", "The input: any JSON value. Default: {}.", any_value=True, missing={})
@given.json_option("metadata", "An object for orchestration and operators.")
@click.option("--max-attempts", type=int, help="How many leases the job may use. Default: the spool's (3).")
@given.lineage
@click.option("--idempotency-key", metavar="KEY", help="A job submitted with this key before is given back instead.")
def create(
    job_type: str,
    payload: Any,
    metadata: dict[str, Any],
    max_attempts: int | None,
    root_workflow_id: str | None,
    parent_step_id: str | None,
    fanout_parent_step_id: str | None,
    fanout_max_concurrency: int | None,
    idempotency_key: str | None,
) -> None:
    """Submit a job. Printed means accepted: in a durable spool it survives a power cut.

    \b
    Example:
      breyta jobs create --type agent-review --payload '{"surface": "flows-api"}'
    """
    job = given.spool().submit(
        job_type,
        payload,
        metadata=metadata,
        max_attempts=max_attempts,
        root_workflow_id=root_workflow_id,
        parent_step_id=parent_step_id,
        fanout_parent_step_id=fanout_parent_step_id,
        fanout_max_concurrency=fanout_max_concurrency,
        idempotency_key=idempotency_key,
    )
    output.answer({"job": job.to_map()})


@command()
@click.argument("job_id", metavar="JOB-ID")
@click.option("--reason", default="", help="Why; shown with the job.")
def cancel(job_id: str, reason: str) -> None:
    """Cancel a job: at once when it waits; its worker ends it when it runs. A job that has ended stays as it is.

    \b
    Example:
      breyta jobs cancel job-01JD0W3Z8Q4X5V6B7N8M9K0P1R --reason "wrong input"
    """
    job = given.spool().cancel(job_id, reason=reason)
    if job.status == "cancelled":
        effect = "cancelled"
    else:
        effect = "already_ended" if job.is_terminal else "requested"
    output.answer({"job": job.to_map()}, cancel=effect)


@command()
@click.argument("job_id", metavar="JOB-ID")
def retry(job_id: str) -> None:
    """Submit the request of a job that has ended once more, as a new job that points at the old one (retryOf).

    \b
    Example:
      breyta jobs retry job-01JD0W3Z8Q4X5V6B7N8M9K0P1R
    """
    output.answer({"job": given.spool().retry(job_id).to_map()})
