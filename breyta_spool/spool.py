"""The public face: open a spool, submit jobs, read them, claim them, cancel them, wait for them.

>>> import tempfile
>>> spool = Spool.init(tempfile.mkdtemp() + "/spool", workspace="ws-acme", durability="none")
>>> job = spool.submit("agent-review", {"surface": "flows-api"})
>>> job.status
'queued'
>>> lease = spool.claim("agent-review", "host-1")
>>> lease.complete(outputs={"findings": 3}).outputs
{'findings': 3}
>>> spool.await_job(job.job_id, timeout="5s").status
'succeeded'
"""

from __future__ import annotations

import getpass
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

from breyta_spool import durations, files, finishing, ids, jobs, jsonio, making, paths, states, submitting, waiting
from breyta_spool.barrier import Barrier
from breyta_spool.claims import Claims, no_such_job
from breyta_spool.errors import (
    AwaitBound,
    Conflict,
    Damaged,
    InvalidInput,
    NoSuchSpool,
    NotAllowed,
    SpoolError,
    doing,
)
from breyta_spool.index import Index, Queue, status_in
from breyta_spool.lease import Lease, lease_duration
from breyta_spool.records import (
    Job,
    SpoolRecord,
    Worker,
    check_version,
    read_record,
)
from breyta_spool.states import Status

if TYPE_CHECKING:
    from breyta_spool.resources import Resources

REAP_SECONDS = 15.0
"""How often those who claim through the library look for leases that ran out, even while there is other work."""
MEND_SECONDS = 1.0
"""How often an await looks whether the lease of its job ran out, at most."""
_NO_PAYLOAD: dict[str, Any] = {}

Jobs = list[Job]
Workers = list[Worker]
Names = list[str]


class Spool:
    """One spool. Safe to use from several threads; every process and host opens its own."""

    def __init__(self, root: str, settings: SpoolRecord) -> None:
        self.root = root
        self.settings = settings
        self.tree = paths.Tree(root)
        self.barrier = Barrier(root)
        self.claims = Claims(self.tree, settings, self.barrier)
        self.index: Index = self.claims.index
        self._next_reap: dict[str, float] = {}
        self._queues: dict[tuple[str, str | None], Queue] = {}

    @cached_property
    def resources(self) -> Resources:
        """The files, values and tables of jobs, by their addresses."""
        from breyta_spool.resources import Resources

        return Resources(self.index, self.settings.workspace_id)

    # -- make, open ---------------------------------------------------------------------------------

    @classmethod
    def init(
        cls,
        directory: str | os.PathLike[str],
        workspace: str = "local",
        durability: str = "durable",
        group: str | None = None,
    ) -> Spool:
        """Make a spool in a directory that is missing or empty.

        ``durability``: ``durable``, what was acknowledged survives a power cut, or ``none``. ``group``: a Unix group
        that shares the spool; its directories get that group and the setgid bit.
        Raises InvalidInput, Conflict when there is something already, StorageError.
        """
        root = os.path.abspath(os.fspath(directory))
        spool = cls(root, making.make(root, workspace, durability, group))
        with doing("make the spool durable"):
            spool.claims.commit(lambda: iter([f"{root}/{paths.SPOOL_FILE}", root]))
        return spool

    @classmethod
    def open(cls, directory: str | os.PathLike[str]) -> Spool:
        """Open a spool. Raises NoSuchSpool, FormatNotSupported, Damaged, StorageError."""
        root = os.path.abspath(os.fspath(directory))
        making.check_root(root)
        path = f"{root}/{paths.SPOOL_FILE}"
        with doing("open the spool"):
            try:
                data = files.read(path, jobs.RECORD_LIMIT)
            except (FileNotFoundError, NotADirectoryError):
                hint = f"'breyta spool init {root}' makes one"
                if "jobs" in files.names_if_any(root):
                    hint = "there is a jobs/, though: bring spool.json back from a backup"
                raise NoSuchSpool(f"there is no spool at {root}", hint=hint, path=root) from None
        try:
            fields = jsonio.parse_object(data, path)
        except InvalidInput as error:
            raise Damaged(error.message, path=path) from None
        check_version(fields, path)
        return cls(root, read_record(SpoolRecord, data, path))

    # -- submit -------------------------------------------------------------------------------------

    def submit(
        self,
        job_type: str,
        payload: Any = _NO_PAYLOAD,
        *,
        metadata: Mapping[str, Any] | None = None,
        max_attempts: int | None = None,
        root_workflow_id: str | None = None,
        parent_step_id: str | None = None,
        fanout_parent_step_id: str | None = None,
        fanout_max_concurrency: int | None = None,
        retry_of: str | None = None,
    ) -> Job:
        """Submit a job; returned, it is accepted and, in a durable spool, on the disk.

        ``payload`` is any JSON value (default ``{}``). ``max_attempts`` bounds leases (default: the spool's).
        Raises InvalidInput: nothing was submitted; StorageError: nothing either, unless its message says so.
        """
        request, data = submitting.build_request(
            self.settings,
            job_type,
            payload,
            {
                "metadata": metadata,
                "max_attempts": max_attempts,
                "root_workflow_id": root_workflow_id,
                "parent_step_id": parent_step_id,
                "fanout_parent_step_id": fanout_parent_step_id,
                "fanout_max_concurrency": fanout_max_concurrency,
                "retry_of": retry_of,
            },
        )
        submitting.publish(self.claims, request, data)
        return Job(**request, status=states.QUEUED, payload=payload, updatedAt=request["createdAt"])

    # -- read ---------------------------------------------------------------------------------------

    def get(self, job_id: str) -> Job:
        """The latest state of a job. Raises InvalidInput, NotFound, Damaged, StorageError.

        A job whose result was torn by a power cut is put back to be done again, and shows as that.
        """
        ids.check_job_id(job_id)
        with doing(f"read {job_id}"):
            return self._read(job_id, files.names_if_any(self.tree.job(job_id)))

    def _read(self, job_id: str, listed: Names) -> Job:
        """The state of a job whose directory was just listed."""
        job_dir = self.tree.job(job_id)
        for _ in range(10):
            status = None
            try:
                status = status_in(job_dir, listed)
                if status is None:
                    raise no_such_job(job_id, self.tree)
                job = jobs.load_job(job_dir, status, listed, self.settings.payload_limit_bytes)
                if job.result and (paths.RESULT not in listed or (job.artifacts and paths.ARTIFACTS not in listed)):
                    self._mend_links(job_dir, status)
                return job
            except FileNotFoundError:
                pass  # RACE: the status changed while it was read
            except Damaged:
                if status is None or not self._redo_if_torn(job_id, status):
                    raise
            listed = files.names_if_any(job_dir)
        raise SpoolError(f"{job_id} changes faster than it can be read", hint="try again")

    def _mend_links(self, job_dir: str, status: Status) -> None:
        """Make the links of an ended job that its worker died before making, as far as the caller may."""
        with suppress(OSError):
            finishing.link_outcome(job_dir, status.attempt, True)

    def _redo_if_torn(self, job_id: str, status: Status) -> bool:
        """Put a job back whose result cannot be read but whose request can; whether that was so."""
        if not jobs.needs_result(status):
            return False
        job_dir = self.tree.job(job_id)
        request, _ = jobs.load_request(job_dir, self.settings.payload_limit_bytes)
        try:
            jobs.check_result(job_dir, status)
            return False
        except Damaged:
            pass
        self.claims.redo(job_id, request.job_type, status, request.max_attempts)
        return True

    def list(
        self,
        job_type: str | None = None,
        status: str | None = None,
        batch_id: str | None = None,
        limit: int = 10,
        damaged: Names | None = None,
    ) -> Jobs:
        """Jobs, newest first, at most ``limit`` of them; the ids of damaged ones on the way go into ``damaged``.

        Raises InvalidInput, StorageError.
        """
        wanted = None if status is None else states.normalise(status)
        if job_type is not None:
            paths.check_job_type(job_type)
        if batch_id is not None:
            self.queue("any", batch_id)
        if limit < 1:
            raise InvalidInput(f"limit: {limit} is not a whole number from 1", field="limit")
        with doing("list the jobs"):
            found = (
                job for job_id in self._listed(job_type, wanted, batch_id) if (job := self._try_get(job_id, damaged))
            )
            matching = (
                job
                for job in found
                if job_type in (None, job.job_type)
                and wanted in (None, job.status)
                and batch_id in (None, job.batch_id)
            )
            return list(islice(matching, limit))

    def _listed(self, job_type: str | None, status: str | None, batch_id: str | None) -> Iterator[str]:
        if job_type is None and status is None and batch_id is None:
            return self.index.newest_jobs()
        kind = {None: "", states.QUEUED: "queued/"}.get(status, f"finished/{status}.")
        if status in states.PROGRESS:
            kind = "leased/"
        lists = [
            name
            for name in self.index.lists()
            if name.startswith(kind) and (job_type is None or _type_of(name) == job_type)
        ]
        return self.index.newest(lists)

    def _try_get(self, job_id: str, damaged: Names | None) -> Job | None:
        try:
            return self.get(job_id)
        except Damaged:
            if damaged is not None:
                damaged.append(job_id)
        except SpoolError:
            pass  # gone meanwhile
        return None

    def workers(self) -> Workers:
        """The workers that are or were running and did not stop cleanly, by id."""
        with doing("list the workers"):
            names = self.index.names(self.tree.top("workers"))
            now = self._now_for_show() if names else 0.0
            return [worker for name in sorted(names) if (worker := self._worker(name, now))]

    def _now_for_show(self) -> float:
        try:
            return self.index.now()
        except OSError:
            return time.time()  # somebody who may only read

    def _worker(self, name: str, now: float) -> Worker | None:
        path = f"{self.tree.top('workers')}/{name}"
        try:
            worker = read_record(Worker, files.read(path, jobs.RECORD_LIMIT), path)
            seen = files.modified(path)
        except (FileNotFoundError, Damaged):
            return None
        alive = now - seen <= 3 * worker.beat_ms / 1000
        return worker.model_copy(update={"last_seen_at": durations.rfc3339(seen * 1000), "alive": alive})

    # -- work ---------------------------------------------------------------------------------------

    def claim(
        self,
        job_type: str,
        worker_id: str,
        *,
        labels: Mapping[str, Any] | None = None,
        lease: Any = None,
        batch_id: str | None = None,
    ) -> Lease | None:
        """Take the oldest job of a type; None when there is none. ``lease`` is a duration (default: the spool's).

        Raises InvalidInput, StorageError.
        """
        paths.check_job_type(job_type)
        paths.check_worker_id(worker_id)
        lease_ms = lease_duration(lease, self.settings.default_lease_ms)
        queue = self._queues.pop((job_type, batch_id), None) or self.queue(job_type, batch_id)
        try:
            with doing("claim a job"):
                if time.monotonic() >= self._next_reap.get(job_type, 0.0):
                    self._next_reap[job_type] = time.monotonic() + REAP_SECONDS
                    self.claims.expire(job_type)
                held = self.claims.claim(queue, job_type, worker_id, dict(labels or {}), lease_ms)
                if held is None and self.claims.expire(job_type):
                    held = self.claims.claim(queue, job_type, worker_id, dict(labels or {}), lease_ms)
        finally:
            # Also after a failure: the next claim goes on behind the job that could not be had.
            self._queues[job_type, batch_id] = queue
        return Lease(self.claims, self.get, held) if held else None

    def queue(self, job_type: str, batch_id: str | None = None) -> Queue:
        """A reader of one type's queue, for a worker."""
        if batch_id is not None and not ids.is_job_id("job-" + batch_id.removeprefix("batch-")):
            raise InvalidInput(f"not a batch id: {batch_id!r}", field="batchId")
        return Queue(self.index, job_type, batch_id)

    def lease(self, job_id: str, token: str) -> Lease:
        """The lease that a token belongs to. Raises InvalidInput, NotFound, LeaseLost."""
        ids.check_job_id(job_id)
        with doing(f"find the lease of {job_id}"):
            held = self.claims.find(job_id, token)
        return Lease(self.claims, self.get, held)

    # -- cancel, retry ------------------------------------------------------------------------------

    def cancel(self, job_id: str, *, reason: str = "", requested_by: str | None = None) -> Job:
        """Cancel a job: at once when it is queued; its worker ends it when it is leased (``cancel_requested``).

        A job that has ended stays as it is. Raises InvalidInput, NotFound, StorageError.
        """
        job = self.get(job_id)
        with doing(f"cancel {job_id}"):
            self.claims.cancel(job_id, job.job_type, requested_by if requested_by is not None else _user(), reason)
        return self.get(job_id)

    def retry(self, job_id: str) -> Job:
        """Submit the request of a job that has ended once more, as a new job whose ``retry_of`` is the old id.

        Raises InvalidInput, NotFound, Conflict when the job is still active, StorageError.
        """
        old = self.get(job_id)
        if not old.is_terminal:
            raise Conflict(
                f"{job_id} is {old.status}: only a job that has ended can be retried",
                hint=f"'breyta jobs cancel {job_id}' ends it",
                status=old.status,
            )
        return self.submit(
            old.job_type,
            old.payload,
            metadata=old.metadata,
            max_attempts=old.max_attempts,
            root_workflow_id=old.root_workflow_id,
            parent_step_id=old.parent_step_id,
            fanout_parent_step_id=old.fanout_parent_step_id,
            fanout_max_concurrency=old.fanout_max_concurrency,
            retry_of=job_id,
        )

    # -- await --------------------------------------------------------------------------------------

    def await_job(
        self,
        job_id: str,
        *,
        interval: Any = None,
        timeout: Any = None,
        max_attempts: int | None = None,
        backoff: Mapping[str, Any] | None = None,
    ) -> Job:
        """Wait until a job has ended; gives it. ``interval`` and ``timeout`` are durations (10s, and 30m unbounded).

        Raises InvalidInput, NotFound, Damaged, StorageError, and AwaitBound when the bound is reached first: it carries
        the last state, and the job goes on.
        """
        limits = waiting.bound(interval, timeout, max_attempts, backoff)
        ids.check_job_id(job_id)
        mended = 0.0

        def probe() -> Job | None:
            nonlocal mended
            due = time.monotonic() >= mended + MEND_SECONDS
            mended = time.monotonic() if due else mended
            return self._ended(job_id, mend=due)

        with doing(f"await {job_id}"):
            ended, done = waiting.poll(probe, lambda job: job is not None, limits, lambda: self._wake_for(job_id))
        if ended is None or not done:
            job = self.get(job_id)
            raise AwaitBound(
                f"{job_id} is still {job.status} after {limits.spoken}",
                job=job,
                hint="the job goes on; await it again, or 'breyta jobs cancel' it",
                jobId=job_id,
                status=job.status,
            )
        with doing(f"make the result of {job_id} durable"):
            # DURABLE: its worker may not have come to its own barrier yet.
            self.claims.commit(lambda: self.claims.written_by(job_id, ended.attempt))
        return ended

    def _wake_for(self, job_id: str) -> waiting.Wake:
        wake = waiting.Wake()
        wake.watch(self.tree.job(job_id))
        return wake

    def _ended(self, job_id: str, *, mend: bool) -> Job | None:
        """The job if it has ended, else None: one listing, as long as it goes on and nothing is to ``mend``."""
        listed = files.names_if_any(self.tree.job(job_id))
        status = status_in(self.tree.job(job_id), listed)
        if status is None:
            raise no_such_job(job_id, self.tree)
        if mend and status.state == states.LEASED:
            self._expire(job_id, status)
        if not status.is_terminal:
            return None
        job = self._read(job_id, listed)
        return job if job.is_terminal else None  # its result may be torn, and is done again

    def _expire(self, job_id: str, status: Status) -> None:
        """Take a lease back that ran out: maybe no worker is left to do it. As far as the caller may write."""
        with suppress(OSError, SpoolError):
            request, _ = jobs.load_request(self.tree.job(job_id), self.settings.payload_limit_bytes)
            self.claims.expire_one(job_id, request.job_type, status, self.index.now())


def check_workspace(spool: Spool, workspace: str | None) -> None:
    """Raise NotAllowed when a caller who names a workspace has another one's spool."""
    if workspace and workspace != spool.settings.workspace_id:
        raise NotAllowed(
            f"the spool at {spool.root} belongs to workspace {spool.settings.workspace_id}, not {workspace}",
            hint="name the right spool (--spool) or workspace (--workspace, BREYTA_WORKSPACE)",
        )


def find_root(start: str) -> str | None:
    """The nearest directory upwards with a spool.json; None when there is none."""
    at = os.path.abspath(start)
    while True:
        if paths.SPOOL_FILE in files.names_if_any(at):
            return at
        above = os.path.dirname(at)
        if above == at:
            return None
        at = above


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _type_of(index_list: str) -> str:
    kind, _, name = index_list.partition("/")
    return name.partition(".")[2] if kind == "finished" else name
