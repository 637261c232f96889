"""The group ``jobs batches``: submit many jobs at once, see how far they are, await and cancel them."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from breyta_cli import given, output
from breyta_cli.tree import Group, command
from breyta_spool import jsonio
from breyta_spool.errors import InvalidInput

if TYPE_CHECKING:
    from breyta_spool import Batch, Spool

ENDED_BADLY = 5
ANSWERED = 1000
"""How many of its jobs the answer to a create has, unless --limit says otherwise."""


@click.command(
    cls=Group,
    members={
        "create": ("breyta_cli.jobs_batches:create", "Submit a batch: all of its jobs or none."),
        "show": ("breyta_cli.jobs_batches:show", "Show a batch and some of its jobs."),
        "list": ("breyta_cli.jobs_batches:list_", "List batches, newest first."),
        "await": ("breyta_cli.jobs_batches:await_", "Wait until every job of a batch has ended."),
        "cancel": ("breyta_cli.jobs_batches:cancel", "Cancel a batch."),
    },
    aliases={"ls": "list", "get": "show"},
)
def batches() -> None:
    """Submit many jobs of one type at once, see how far they are, await and cancel them.

    \b
    Example:
      breyta jobs batches create --type agent-review --jobs-file surfaces.jsonl
      breyta jobs batches await batch-01JD0W3Z8Q4X5V6B7N8M9K0P1R --timeout 2h
    """


@command()
@click.option("--type", "job_type", required=True, help="The job type of all.")
@click.option(
    "--job", "job", multiple=True, metavar="JSON", help="A job: {payload, metadata, maxAttempts}; repeatable."
)
@click.option("--jobs-file", metavar="FILE", help="Such jobs as a JSON array or as JSON lines, - for stdin.")
@given.json_option("metadata", "An object for orchestration and operators, kept with the batch.")
@click.option("--max-attempts", type=int, help="For jobs that do not say it. Default: the spool's (3).")
@given.lineage
@click.option(
    "--limit", type=click.IntRange(min=1), default=ANSWERED, show_default=True, help="How many jobs to answer with."
)
def create(job_type: str, job: tuple[str, ...], jobs_file: str | None, limit: int, **shared: Any) -> None:
    """Submit a batch: all of its jobs or none. Printed means accepted, however many there are.

    The jobs are read as a stream, so a file may be larger than the memory.

    \b
    Example:
      breyta jobs batches create --type agent-review --job '{"payload": {"surface": "flows-api"}}'
      jq -c '.surfaces[] | {payload: .}' plan.json | breyta jobs batches create --type agent-review --jobs-file -
    """
    if not job and jobs_file is None:
        raise InvalidInput("there are no jobs: give --job or --jobs-file", field="jobs")
    spool = given.spool()
    read = _Reading(jobs_file)

    def specs() -> Iterator[Any]:
        for number, text in enumerate(job, 1):
            yield jsonio.parse(text, f"--job {number}")
        if jobs_file is not None:
            yield from given.stream(jobs_file, "--jobs-file", read.seen)

    from breyta_cli.terminal import shown

    with shown(read.line):
        batch = spool.submit_batch(job_type, specs(), limit=limit, told=read.told, **shared)
    jobs = batch.jobs or []
    meta = {"jobsReturned": len(jobs)} if len(jobs) < batch.requested_count else {}
    output.answer({"batch": batch.to_map(), "jobs": [submitted.to_map() for submitted in jobs]}, **meta)


class _Reading:
    """How far a create has come."""

    def __init__(self, file: str | None) -> None:
        self._began = time.monotonic()
        self._size = os.path.getsize(file) if file and file != "-" and os.path.isfile(file) else 0
        self._bytes = 0
        self._jobs = 0

    def seen(self, count: int) -> None:
        self._bytes += count

    def told(self, count: int) -> None:
        self._jobs = count

    def line(self) -> str:
        from breyta_cli.terminal import bar

        seconds = time.monotonic() - self._began
        what = f"{self._jobs:,} jobs prepared, {self._jobs / max(seconds, 0.001):,.0f}/s"
        return f"{bar(self._bytes, self._size)} {what}" if self._size else what


@command()
@click.argument("batch_id", metavar="BATCH-ID")
@click.option("--limit", type=click.IntRange(min=1), default=10, show_default=True, help="At most so many jobs.")
@click.option("--full", is_flag=True, help="Whole jobs, with payload and result.")
def show(batch_id: str, limit: int, full: bool) -> None:
    """Show a batch: its status, how many of its jobs are in which state, and its first jobs.

    \b
    Example:
      breyta jobs batches show batch-01JD0W3Z8Q4X5V6B7N8M9K0P1R --limit 50
    """
    _answer(given.spool().get_batch(batch_id, include_jobs=True, limit=limit), full, limit)


def _answer(batch: Batch, full: bool, limit: int) -> None:
    data: dict[str, Any] = {"batch": batch.to_map()}
    meta: dict[str, Any] = {}
    if batch.jobs is not None:
        data["jobs"] = [job.to_map() if full else job.summary_map() for job in batch.jobs]
        meta = {"outputView": "full" if full else "compact", "limit": limit}
    output.answer(data, **meta)


@command("list")
@click.option("--type", "job_type", help="Only batches of this job type.")
@click.option("--status", help="Only batches of this status.")
@click.option("--limit", type=click.IntRange(min=1), default=10, show_default=True, help="At most so many.")
@click.option("--cursor", metavar="BATCH-ID", help="Go on behind this one: meta.nextCursor of the page before.")
def list_(job_type: str | None, status: str | None, limit: int, cursor: str | None) -> None:
    """List batches, newest first.

    \b
    Example:
      breyta jobs batches list --type agent-review --status running
    """
    damaged: list[str] = []
    found = given.spool().list_batches(job_type, status, limit + 1, damaged, cursor)
    items = [batch.to_map() for batch in found[:limit]]
    output.answer({"items": items}, **output.page(limit, items[-1]["batchId"] if len(found) > limit else None, damaged))


@command("await")
@click.argument("batch_id", metavar="BATCH-ID")
@given.bounds
@click.option("--include-jobs/--no-include-jobs", default=True, show_default=True, help="Answer with its jobs, too.")
@click.option("--limit", type=click.IntRange(min=1), default=10, show_default=True, help="At most so many jobs.")
@click.option("--full", is_flag=True, help="Whole jobs, with payload and result.")
def await_(batch_id: str, include_jobs: bool, limit: int, full: bool, **bounds: Any) -> None:
    """Wait until every job of a batch has ended and show it. On a terminal a bar shows how far it is.

    Exit code 0: completed. 5: it ended otherwise (partially_failed, failed, cancelled). 4: the bound was reached first.

    \b
    Example:
      breyta jobs batches await batch-01JD0W3Z8Q4X5V6B7N8M9K0P1R --timeout 2h
    """
    spool = given.spool()
    from breyta_cli.terminal import shown

    with shown(_Progress(spool, batch_id).line):
        batch = spool.await_batch(
            batch_id,
            interval=bounds["interval"],
            timeout=bounds["timeout"],
            max_attempts=bounds["max_attempts"],
            backoff=bounds["backoff"] or None,
            include_jobs=include_jobs,
            limit=limit,
        )
    _answer(batch, full, limit)
    if not batch.succeeded:
        sys.exit(ENDED_BADLY)


class _Progress:
    """How far a batch is, how fast it goes and how long it will take, by what was seen since the await began."""

    def __init__(self, spool: Spool, batch_id: str) -> None:
        self._spool = spool
        self._batch_id = batch_id
        self._first: tuple[float, int] | None = None

    def line(self) -> str:
        from breyta_cli.terminal import bar

        batch = self._spool.get_batch(self._batch_id, include_jobs=False)
        done, total, now = batch.ended_count, batch.requested_count, time.monotonic()
        began, first = self._first = self._first or (now, done)
        bad = batch.failed_count + batch.timed_out_count
        line = f"{bar(done, total, 12)} {done:,}/{total:,}, {bad:,} failed, {batch.running_count:,} running"
        if done > first and now > began:
            from breyta_spool.durations import spoken

            rate = (done - first) / (now - began)
            line += f", {rate:,.0f}/s" if rate >= 10 else f", {rate:.1g}/s"
            line += f", {spoken(int((total - done) / rate) * 1000)} left"
        return line


@command()
@click.argument("batch_id", metavar="BATCH-ID")
@click.option("--reason", default="", help="Why; shown with its jobs.")
def cancel(batch_id: str, reason: str) -> None:
    """Cancel a batch: jobs that wait at once; workers end those that run. What has ended stays as it is.

    \b
    Example:
      breyta jobs batches cancel batch-01JD0W3Z8Q4X5V6B7N8M9K0P1R --reason "wrong input"
    """
    batch = given.spool().cancel_batch(batch_id, reason=reason)
    output.answer({"batch": batch.to_map()}, cancel="requested" if batch.running_count else "done")
