"""``breyta jobs list``, ``show``, ``await`` and ``logs``."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import click

from breyta_cli import given, output
from breyta_cli.tree import command

if TYPE_CHECKING:
    from breyta_spool import Job, Spool

ENDED_BADLY = 5


@command("list")
@click.option("--type", "job_type", help="Only jobs of this type.")
@click.option("--batch-id", help="Only jobs of this batch.")
@click.option("--status", help="Only jobs of this status.")
@click.option("--limit", type=click.IntRange(min=1), default=10, show_default=True, help="At most so many.")
@click.option("--cursor", metavar="JOB-ID", help="Go on behind this one: meta.nextCursor of the page before.")
@click.option("--full", is_flag=True, help="Whole jobs, with payload and result.")
def list_(
    job_type: str | None, batch_id: str | None, status: str | None, limit: int, cursor: str | None, full: bool
) -> None:
    """List jobs, newest first: compact, or whole with --full.

    \b
    Example:
      breyta jobs list --type agent-review --status failed --limit 50
    """
    damaged: list[str] = []
    found = given.spool().list(job_type, status, batch_id, limit + 1, damaged, cursor)
    jobs = found[:limit]
    meta = output.page(limit, jobs[-1].job_id if len(found) > limit else None, damaged)
    items = [job.to_map() if full else job.summary_map() for job in jobs]
    output.answer({"items": items}, outputView="full" if full else "compact", **meta)


@command()
@click.argument("job_id", metavar="JOB-ID")
def show(job_id: str) -> None:
    """Show one job, whole.

    \b
    Example:
      breyta jobs show job-01JD0W3Z8Q4X5V6B7N8M9K0P1R --pretty
    """
    output.answer({"job": given.spool().get(job_id).to_map()})


@command("await")
@click.argument("job_id", metavar="JOB-ID")
@given.bounds
def await_(
    job_id: str, interval: str | None, timeout: str | None, max_attempts: int | None, backoff: dict[str, Any]
) -> None:
    """Wait until a job has ended and show it.

    Exit code 0: it ended well (succeeded, no_changes). 5: it ended otherwise. 4: the bound was reached first.

    \b
    Example:
      breyta jobs await job-01JD0W3Z8Q4X5V6B7N8M9K0P1R --timeout 5m
    """
    spool = given.spool()
    bounds: dict[str, Any] = {
        "interval": interval,
        "timeout": timeout,
        "max_attempts": max_attempts,
        "backoff": backoff or None,
    }
    if sys.stderr.isatty():
        job = _await_shown(spool, job_id, bounds)
    else:
        job = spool.await_job(job_id, **bounds)
    output.answer({"job": job.to_map()})
    if not job.succeeded:
        sys.exit(ENDED_BADLY)


def _await_shown(spool: Spool, job_id: str, bounds: dict[str, Any]) -> Job:
    from breyta_cli.terminal import Spinner

    began = time.monotonic()

    def line() -> str:
        return _waiting_for(spool, spool.get(job_id), time.monotonic() - began)

    with Spinner(line):
        return spool.await_job(job_id, **bounds)


def _waiting_for(spool: Spool, job: Job, seconds: float) -> str:
    from breyta_spool.durations import spoken

    said = job.progress.message if job.progress and job.status != "queued" else ""
    if job.status == "queued" and not any(w.alive and w.job_type == job.job_type for w in spool.workers()):
        said = f"no live worker for type {job.job_type}"
    attempt = f" (attempt {job.attempt} of {job.max_attempts})" if job.attempt > 1 else ""
    return f"{job.job_id} {job.status}{attempt}, {spoken(int(seconds) * 1000)}" + (f": {said}" if said else "")


@command()
@click.argument("job_id", metavar="JOB-ID")
@click.option("--attempt", type=click.IntRange(min=1), help="Of which attempt. Default: the last.")
@click.option("--follow", "-f", is_flag=True, help="Go on printing until the job has ended.")
def logs(job_id: str, attempt: int | None, follow: bool) -> None:
    """Print what the handler of a job wrote to stdout and stderr, as it is.

    \b
    Example:
      breyta jobs logs job-01JD0W3Z8Q4X5V6B7N8M9K0P1R --follow
    """
    spool = given.spool()
    job = spool.get(job_id)
    from breyta_spool.logs import HandlerLog

    if attempt is not None and attempt > job.attempt:
        from breyta_spool.errors import NotFound

        raise NotFound(f"{job_id} has had {job.attempt} attempts, not {attempt}", jobId=job_id)
    log = HandlerLog(spool, job_id, attempt)
    while True:
        ended = not follow or spool.get(job_id).is_terminal
        for chunk in log.new():
            sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
        if ended:
            return
        time.sleep(0.5)
