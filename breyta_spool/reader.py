"""Reading jobs and batches as they are now; what a crash or a power cut left wrong is put right on the way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice

from breyta_spool import batches, finishing, ids, jobs, looking, paths, states
from breyta_spool.batches import Tally
from breyta_spool.claims import Claims, no_such_job
from breyta_spool.errors import Damaged, SpoolError
from breyta_spool.index import status_in
from breyta_spool.records import Batch, BatchRecord, Job
from breyta_spool.states import Status


class Reader:
    """Reads the jobs of one spool."""

    def __init__(self, claims: Claims) -> None:
        self.claims = claims
        self.tree = claims.tree

    def job(self, job_id: str, listed: list[str] | None = None) -> Job:
        """The state of a job, by a listing of its directory if there was one. Raises NotFound, Damaged, OSError.

        A job whose result was torn by a power cut is put back to be done again, and shows as that.
        """
        job_dir = self.claims.index.job_dir(job_id)
        listed = looking.names_if_any(job_dir) if listed is None else listed
        for _ in range(10):
            status = None
            try:
                status = status_in(job_dir, listed)
                if status is None:
                    raise no_such_job(job_id, self.tree)
                job = jobs.load_job(job_dir, status, listed, self.claims.settings.payload_limit_bytes)
                if job.result and (paths.RESULT not in listed or (job.artifacts and paths.ARTIFACTS not in listed)):
                    self._mend_links(job_dir, status)
                return job
            except FileNotFoundError:
                pass  # RACE: the status changed while it was read
            except Damaged:
                if status is None or not self.claims.redo_if_torn(job_id, status):
                    raise
            listed = looking.names_if_any(job_dir)
        raise SpoolError(f"{job_id} changes faster than it can be read", hint="try again")

    def _mend_links(self, job_dir: str, status: Status) -> None:
        """Make the links of an ended job that its worker died before making, as far as the caller may."""
        with suppress(OSError):
            finishing.link_outcome(job_dir, status.attempt, True)

    def those_there(self, job_ids: Iterable[str], damaged: list[str] | None) -> Iterator[Job]:
        """The jobs of some ids; the ids of damaged ones go into ``damaged``, those that have gone are left out."""
        for job_id in job_ids:
            try:
                yield self.job(job_id)
            except Damaged:
                if damaged is not None:
                    damaged.append(job_id)
            except SpoolError:
                pass

    # -- batches ------------------------------------------------------------------------------------

    def batch(self, record: BatchRecord, counted: Tally, include_jobs: bool | None, limit: int | None) -> Batch:
        """The map of a batch that was counted, with the first ``limit`` of its jobs (default: if it has ended)."""
        fields = batches.fields_of(self.claims, record, counted)
        if include_jobs or (include_jobs is None and counted.status in states.BATCH_TERMINAL):
            members = islice(sorted(counted.states, key=ids.order), limit)
            fields["jobs"] = list(self.those_there(members, None))
        return Batch(**fields)

    def redo_torn(self, job_ids: Iterable[str]) -> bool:
        """Put every one of some ended jobs back whose result is torn; whether there was one."""
        torn = False
        for job_id in job_ids:
            status = status_in(self.tree.job(job_id))
            try:
                if status is not None:
                    jobs.accepted_result(self.tree.job(job_id), status)
            except Damaged:
                with suppress(Damaged):  # its request, too: whoever reads the job is told
                    torn = (status is not None and self.claims.redo_if_torn(job_id, status)) or torn
        return torn
