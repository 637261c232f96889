"""Awaiting a job or a batch: looks that cost little as long as it goes on, and a barrier before its end is told."""

from __future__ import annotations

import time
from contextlib import suppress

from breyta_spool import batches, jobs, looking, paths, states, waiting
from breyta_spool.batches import Tally
from breyta_spool.claims import no_such_job
from breyta_spool.errors import AwaitBound, SpoolError, doing
from breyta_spool.index import status_in
from breyta_spool.reader import Reader
from breyta_spool.records import Batch, BatchRecord, Job
from breyta_spool.states import Status
from breyta_spool.waiting import Bound, Wake

MEND_SECONDS = 1.0
"""How often an await looks whether a lease ran out, at most."""
BREATH_SECONDS = 0.02
"""The pause between two looks at a batch whose jobs end one after the other."""


class JobAwait:
    """One await of one job."""

    def __init__(self, reader: Reader, job_id: str) -> None:
        self._reader = reader
        self._claims = reader.claims
        self._job_id = job_id
        self._dir = reader.tree.job(job_id)
        self._mended = 0.0

    def run(self, limits: Bound) -> Job:
        """Wait until the job has ended; gives it. Raises AwaitBound, NotFound, Damaged, OSError."""
        ended, done = waiting.poll(self._look, lambda job: job is not None, limits, self._wake)
        if ended is None or not done:
            raise bound_reached(self._job_id, self._reader.job(self._job_id), limits)
        with doing(f"make the result of {self._job_id} durable"):
            # DURABLE: its worker may not have come to its own barrier yet.
            self._claims.commit(lambda: self._claims.written_of(self._job_id, ended.attempt))
        return ended

    def _wake(self) -> Wake:
        wake = Wake()
        wake.watch(self._dir)
        return wake

    def _look(self) -> Job | None:
        """The job if it has ended, else None: one listing, as long as it goes on and no mending is due."""
        listed = looking.names_if_any(self._claims.index.job_dir(self._job_id))
        status = status_in(self._dir, listed)
        if status is None:
            raise no_such_job(self._job_id, self._reader.tree)
        if status.state == states.LEASED and time.monotonic() >= self._mended + MEND_SECONDS:
            self._mended = time.monotonic()
            self._expire(status)
        if not status.is_terminal:
            return None
        job = self._reader.job(self._job_id, listed)
        return job if job.is_terminal else None  # its result may be torn, and is done again

    def _expire(self, status: Status) -> None:
        """Take a lease back that ran out: maybe no worker is left to do it. As far as the caller may write."""
        with suppress(OSError, SpoolError):
            request, _ = jobs.load_request(self._dir, self._claims.settings.payload_limit_bytes)
            self._claims.expire_one(self._job_id, request.job_type, status, self._claims.index.now())


class BatchAwait:
    """One await of one batch. As long as jobs wait or run, a look costs two short listings and not a count."""

    def __init__(self, reader: Reader, record: BatchRecord) -> None:
        self._reader = reader
        self._claims = reader.claims
        self._record = record
        self._queued = reader.tree.top(f"{paths.queued(record.job_type)}/{record.batch_id}")
        self._leased = reader.tree.top(f"{paths.leased(record.job_type)}/{record.batch_id}")
        self._wake = Wake()
        self._mended = self._looked = 0.0
        self._unchecked: list[str] | None = None

    def run(self, limits: Bound, include_jobs: bool | None, limit: int | None) -> Batch:
        """Wait until every job has ended; gives the batch. Raises AwaitBound, OSError."""
        try:
            counted, done = waiting.poll(self._look, lambda found: found is not None, limits, lambda: self._wake)
        finally:
            self._wake.close()
        if counted is None or not done:
            batch = self._reader.batch(self._record, batches.tally(self._claims, self._record), False, None)
            raise bound_reached(batch.batch_id, batch, limits)
        with doing(f"make the results of {self._record.batch_id} durable"):
            # DURABLE: the workers may not have come to their own barriers yet.
            self._claims.commit(lambda: batches.written_of(self._claims, self._record.batch_id))
        return self._reader.batch(self._record, counted, include_jobs, limit)

    def _look(self) -> Tally | None:
        """The counts if the batch has ended, else None."""
        self._breathe()
        # Every time, since the leased bucket comes with the first claim, and goes when it is empty for long.
        for bucket in (self._queued, self._leased):
            self._wake.watch(bucket, left=True)
        if self._unchecked is not None and self._goes_on():
            return None
        counted = batches.tally(self._claims, self._record)
        if self._unchecked is None:
            # What ended before we came may have been torn by a power cut since; the barrier covers the rest.
            self._unchecked = [job_id for job_id, state in counted.states.items() if self._has_ended(job_id, state)]
        if counted.status not in states.BATCH_TERMINAL:
            return None
        unchecked, self._unchecked = self._unchecked, []
        return None if self._reader.redo_torn(unchecked) else counted

    def _has_ended(self, job_id: str, counted: str) -> bool:
        # Who ended it, or was about to put it back, may have died with its entry among the leased ones.
        state = batches.state_of(self._reader.tree, job_id) if counted == states.LEASED else counted
        return state in states.TERMINAL

    def _breathe(self) -> None:
        time.sleep(max(0.0, min(BREATH_SECONDS, self._looked + BREATH_SECONDS - time.monotonic())))
        self._looked = time.monotonic()

    def _goes_on(self) -> bool:
        if time.monotonic() >= self._mended + MEND_SECONDS:
            self._mended = time.monotonic()
            batches.mend(self._claims, self._record)
        return bool(self._claims.index.some(self._leased, 1) or self._claims.index.some(self._queued, 1))


def bound_reached(what: str, state: Job | Batch, limits: Bound) -> AwaitBound:
    """The error of an await whose bound was reached."""
    is_batch = isinstance(state, Batch)
    return AwaitBound(
        f"{what} is still {state.status} after {limits.spoken}",
        hint=f"it goes on; await it again, or 'breyta jobs {'batches ' if is_batch else ''}cancel' it",
        **({"batch": state, "batchId": what} if is_batch else {"job": state, "jobId": what}),
        status=state.status,
    )
