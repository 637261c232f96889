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
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from breyta_spool import (
    awaiting,
    batches,
    durations,
    ids,
    jobs,
    jsonio,
    listing,
    looking,
    making,
    once,
    paths,
    states,
    submitting,
    waiting,
)
from breyta_spool.access import JOBS_READ, JOBS_SUBMIT, JOBS_WORKER, Access
from breyta_spool.accounts import AccountStore
from breyta_spool.barrier import Barrier
from breyta_spool.claims import Claims
from breyta_spool.errors import (
    Conflict,
    Damaged,
    InvalidInput,
    NoSuchSpool,
    NotAllowed,
    NotFound,
    SpoolError,
    doing,
    shown,
)
from breyta_spool.index import Index, Queue
from breyta_spool.lease import Lease, lease_duration
from breyta_spool.reader import Reader
from breyta_spool.records import Batch, BatchRecord, Job, SpoolRecord, Worker, check_version, read_record

if TYPE_CHECKING:
    from breyta_spool.resources import Resources

REAP_SECONDS = 15.0
"""How often those who claim through the library look for leases that ran out, even while there is other work."""
_NO_PAYLOAD: dict[str, Any] = {}

Jobs = list[Job]
Batches = list[Batch]
Workers = list[Worker]
Names = list[str]
M = TypeVar("M", Job, Batch)


class Spool:
    """One spool. Safe to use from several threads; every process and host opens its own."""

    def __init__(self, root: str, settings: SpoolRecord, api_key: str | None = None) -> None:
        self.root = root
        self.access = Access(root, settings.require_keys, api_key)
        self.first_key: making.FirstKey | None = None
        self.settings = settings
        self.tree = paths.Tree(root)
        self.barrier = Barrier(root)
        self.claims = Claims(self.tree, settings, self.barrier)
        self.index: Index = self.claims.index
        self.reader = Reader(self.claims)
        self._next_reap: dict[str, float] = {}
        self._queues: dict[tuple[str, str | None], Queue] = {}

    @cached_property
    def resources(self) -> Resources:
        """The files, values and tables of jobs, by their addresses."""
        from breyta_spool.resources import Resources

        return Resources(self.index, self.settings.workspace_id, self.access)

    # -- make, open ---------------------------------------------------------------------------------

    @classmethod
    def init(
        cls,
        directory: str | os.PathLike[str],
        workspace: str = "local",
        durability: str = "durable",
        group: str | None = None,
        require_keys: bool = False,
    ) -> Spool:
        """Make a spool in a directory that is missing or empty.

        ``durability``: ``durable``, what was acknowledged survives a power cut, or ``none``. ``group``: a Unix group
        that shares the spool; its directories get that group and the setgid bit. ``require_keys``: nobody changes the
        spool without a key; ``first_key`` of the spool that is returned is the one to begin with, told only here.
        Raises InvalidInput, Conflict when there is something already, StorageError.
        """
        root = os.path.abspath(os.fspath(directory))
        settings, first = making.make(root, workspace, durability, group, require_keys)
        spool = cls(root, settings, first and first.api_key)
        spool.first_key = first
        try:
            with doing("make the spool durable"):
                spool.claims.commit(lambda: iter([f"{root}/{paths.SPOOL_FILE}", root]))
        except SpoolError:
            if first:
                making.unmake(root)
            raise
        return spool

    @classmethod
    def open(cls, directory: str | os.PathLike[str], api_key: str | None = None) -> Spool:
        """Open a spool, with the key of a service account if one is needed (docs/security.md).

        Every method checks the key and raises NotAllowed when its account may not do that.
        Raises NoSuchSpool, FormatNotSupported, Damaged, NotAllowed, StorageError.
        """
        root = os.path.abspath(os.fspath(directory))
        making.check_root(root)
        path = f"{root}/{paths.SPOOL_FILE}"
        with doing("open the spool"):
            try:
                data = looking.read(path, jobs.RECORD_LIMIT)
            except (FileNotFoundError, NotADirectoryError):
                hint = f"'breyta spool init {root}' makes one"
                if "jobs" in looking.names_at_root(root):
                    hint = "there is a jobs/, though: bring spool.json back from a backup"
                raise NoSuchSpool(f"there is no spool at {root}", hint=hint, path=root) from None
        try:
            fields = jsonio.parse_object(data, path)
        except InvalidInput as error:
            raise Damaged(error.message, path=path) from None
        check_version(fields, path)
        return cls(root, read_record(SpoolRecord, data, path), api_key)

    @property
    def accounts(self) -> AccountStore:
        """The service accounts and their keys."""
        return AccountStore(self.tree, self.claims.commit, self.access)

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
        idempotency_key: str | None = None,
    ) -> Job:
        """Submit a job; returned, it is accepted and, in a durable spool, on the disk.

        ``payload`` is any JSON value (default ``{}``). ``max_attempts`` bounds leases (default: the spool's).
        ``idempotency_key``: a job that was submitted with the same key is given back instead, as it is now.
        Raises InvalidInput: nothing was submitted; StorageError: nothing either, unless its message says so; Conflict
        when the key belongs to a job of another type.
        """
        self.access.need(JOBS_SUBMIT, job_type)
        given = {
            "metadata": metadata,
            "max_attempts": max_attempts,
            "root_workflow_id": root_workflow_id,
            "parent_step_id": parent_step_id,
            "fanout_parent_step_id": fanout_parent_step_id,
            "fanout_max_concurrency": fanout_max_concurrency,
            "retry_of": retry_of,
        }
        given = {name: value for name, value in given.items() if value is not None}
        if idempotency_key is not None:
            job_id, _ = once.submit(self.claims, idempotency_key, job_type, payload, given)
            with doing(f"read {job_id}"):
                return self.reader.job(job_id)
        request, data = submitting.build_request(self.settings, ids.new_job_id(), job_type, payload, given)
        submitting.publish(self.claims, request, data)
        return _submitted(request, payload)

    # -- read ---------------------------------------------------------------------------------------

    def get(self, job_id: str) -> Job:
        """The latest state of a job. Raises InvalidInput, NotFound, Damaged, StorageError.

        A job whose result was torn by a power cut is put back to be done again, and shows as that.
        """
        self.access.need(JOBS_READ)
        job = self._get(job_id)
        self.access.need_type(job.job_type)
        return job

    def _get(self, job_id: str) -> Job:
        """The same for whoever may work on the job or has submitted it."""
        ids.check_job_id(job_id)
        with doing(f"read {job_id}"):
            return self.reader.job(job_id)

    def list(
        self,
        job_type: str | None = None,
        status: str | None = None,
        batch_id: str | None = None,
        limit: int = 10,
        damaged: Names | None = None,
        before: str | None = None,
    ) -> Jobs:
        """Jobs, newest first, at most ``limit`` of them; the ids of damaged ones on the way go into ``damaged``.

        ``before``, a job id, gives those behind that job: the next page. Raises InvalidInput, StorageError.
        """
        self.access.need(JOBS_READ, job_type)
        wanted = None if status is None else states.normalise(status)
        _check_listing(job_type, limit, job_id=before, batch_id=batch_id)
        with doing("list the jobs"):
            found = self.reader.those_there(listing.jobs(self.index, job_type, wanted, batch_id, before), damaged)
            matching = (
                job
                for job in found
                if job_type in (None, job.job_type)
                and self.access.allows(job.job_type)
                and wanted in (None, job.status)
                and batch_id in (None, job.batch_id)
            )
            return list(islice(matching, limit))

    def workers(self) -> Workers:
        """The workers that are or were running and did not stop cleanly, by id."""
        self.access.need(JOBS_READ)
        with doing("list the workers"):
            names = self.index.names(self.tree.top("workers"))
            now = self._now_for_show() if names else 0.0
            found = [worker for name in sorted(names) if (worker := self._worker(name, now))]
            return [worker for worker in found if self.access.allows(worker.job_type)]

    def _now_for_show(self) -> float:
        try:
            return self.index.now()
        except OSError:
            return time.time()  # somebody who may only read

    def _worker(self, name: str, now: float) -> Worker | None:
        path = f"{self.tree.top('workers')}/{name}"
        try:
            worker = read_record(Worker, looking.read(path, jobs.RECORD_LIMIT), path)
            seen = looking.modified(path)
        except (FileNotFoundError, Damaged):
            return None
        alive = (now - seen) * 1000 <= 3 * worker.beat_ms
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
        self.access.need(JOBS_WORKER, job_type)
        paths.check_worker_id(worker_id)
        lease_ms = lease_duration(lease, self.settings.default_lease_ms)
        worker_labels = submitting.checked_metadata(labels, "labels")
        queue = self._queues.pop((job_type, batch_id), None) or self.queue(job_type, batch_id)
        try:
            with doing("claim a job"):
                if time.monotonic() >= self._next_reap.get(job_type, 0.0):
                    self._next_reap[job_type] = time.monotonic() + REAP_SECONDS
                    self.claims.expire(job_type)
                held = self.claims.claim(queue, job_type, worker_id, worker_labels, lease_ms)
                if held is None and self.claims.expire(job_type):
                    held = self.claims.claim(queue, job_type, worker_id, worker_labels, lease_ms)
        finally:
            # Also after a failure: the next claim goes on behind the job that could not be had.
            self._queues[job_type, batch_id] = queue
        return Lease(self.claims, self._get, held, self.access) if held else None

    def queue(self, job_type: str, batch_id: str | None = None) -> Queue:
        """A reader of one type's queue, or of one batch in it, for a worker. Raises InvalidInput, NotFound."""
        if batch_id is not None:
            with doing(f"read {ids.check_batch_id(batch_id)}"):
                found = batches.load(self.claims, batch_id)
            if found.job_type != job_type:
                what = f"{batch_id} has jobs of type {found.job_type}, not {job_type}"
                raise InvalidInput(what, field="batchId", jobType=found.job_type)
        return Queue(self.index, job_type, batch_id)

    def lease(self, job_id: str, token: str) -> Lease:
        """The lease that a token belongs to. Raises InvalidInput, NotFound, LeaseLost."""
        self.access.need(JOBS_WORKER)
        ids.check_job_id(job_id)
        with doing(f"find the lease of {job_id}"):
            held = self.claims.find(job_id, token)
        self.access.need_type(held.request.job_type)
        return Lease(self.claims, self._get, held, self.access)

    # -- cancel, retry ------------------------------------------------------------------------------

    def cancel(self, job_id: str, *, reason: str = "", requested_by: str | None = None) -> Job:
        """Cancel a job: at once when it is queued; its worker ends it when it is leased (``cancel_requested``).

        A job that has ended stays as it is. Raises InvalidInput, NotFound, StorageError.
        """
        self.access.need(JOBS_SUBMIT)
        job = self._get(job_id)
        self.access.need_type(job.job_type)
        with doing(f"cancel {job_id}"):
            self.claims.cancel(job_id, job.job_type, requested_by if requested_by is not None else _user(), reason)
        return self._get(job_id)

    def retry(self, job_id: str) -> Job:
        """Submit the request of a job that has ended once more, as a new job whose ``retry_of`` is the old id.

        Raises InvalidInput, NotFound, Conflict when the job is still active, StorageError.
        """
        self.access.need(JOBS_SUBMIT)
        old = self._get(job_id)
        self.access.need_type(old.job_type)
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
        self.access.need(JOBS_READ)
        if self.access.limited:
            self.access.need_type(self._get(job_id).job_type)
        with doing(f"await {job_id}"):
            return awaiting.JobAwait(self.reader, job_id).run(limits)

    # -- batches ------------------------------------------------------------------------------------

    def submit_batch(
        self,
        job_type: str,
        jobs: Iterable[Any],
        *,
        metadata: Mapping[str, Any] | None = None,
        max_attempts: int | None = None,
        root_workflow_id: str | None = None,
        parent_step_id: str | None = None,
        fanout_parent_step_id: str | None = None,
        fanout_max_concurrency: int | None = None,
        limit: int | None = None,
        told: Callable[[int], None] = lambda count: None,
    ) -> Batch:
        """Submit a batch of jobs, all of them or none; returned, it is accepted and, in a durable spool, on the disk.

        ``jobs`` is read one by one: each an object with ``payload``, ``metadata`` and ``maxAttempts``, all of them
        optional. ``max_attempts`` holds for those that do not say it. The answer has the first ``limit`` jobs
        (default: all). ``told`` is called with the number of jobs prepared so far.
        Raises InvalidInput: nothing was submitted; StorageError: nothing either, unless its message says so.
        """
        self.access.need(JOBS_SUBMIT, job_type)
        _check_limit(limit)
        first: Jobs = []
        count = 0

        def staged(request: dict[str, Any], payload: Any) -> None:
            nonlocal count
            count += 1
            told(count)
            if limit is None or count <= limit:
                first.append(_submitted(request, payload))

        shared = {
            "metadata": metadata,
            "max_attempts": max_attempts,
            "root_workflow_id": root_workflow_id,
            "parent_step_id": parent_step_id,
            "fanout_parent_step_id": fanout_parent_step_id,
            "fanout_max_concurrency": fanout_max_concurrency,
        }
        record = batches.submit(self.claims, job_type, jobs, shared, staged)
        given = {"status": states.QUEUED, "queuedCount": count, "updatedAt": record["createdAt"], "jobs": first}
        return _accepted(Batch, record | given)

    def get_batch(self, batch_id: str, *, include_jobs: bool | None = None, limit: int | None = None) -> Batch:
        """The latest state of a batch, counted from the index.

        ``include_jobs``: whether its ``jobs`` come with it (default: once it has ended), the first ``limit`` of them
        (default: all). Raises InvalidInput, NotFound, Damaged, StorageError.
        """
        self.access.need(JOBS_READ)
        _check_limit(limit)
        record = self._batch_record(batch_id)
        return self._get_batch(record, include_jobs, limit)

    def _batch_record(self, batch_id: str) -> BatchRecord:
        """What was requested, if the caller, whose scope was checked, may have to do with its type."""
        with doing(f"read {ids.check_batch_id(batch_id)}"):
            record = batches.load(self.claims, batch_id)
        self.access.need_type(record.job_type)
        return record

    def _get_batch(self, record: BatchRecord, include_jobs: bool | None, limit: int | None = None) -> Batch:
        with doing(f"read {record.batch_id}"):
            return self.reader.batch(record, batches.tally(self.claims, record), include_jobs, limit)

    def await_batch(
        self,
        batch_id: str,
        *,
        interval: Any = None,
        timeout: Any = None,
        max_attempts: int | None = None,
        backoff: Mapping[str, Any] | None = None,
        include_jobs: bool | None = None,
        limit: int | None = None,
    ) -> Batch:
        """Wait until every job of a batch has ended; gives it. Bounds as in ``await_job``, else as in ``get_batch``.

        Raises InvalidInput, NotFound, Damaged, StorageError, and AwaitBound when the bound is reached first: it carries
        the last state, and the batch goes on.
        """
        self.access.need(JOBS_READ)
        limits = waiting.bound(interval, timeout, max_attempts, backoff)
        _check_limit(limit)
        record = self._batch_record(batch_id)
        with doing(f"await {batch_id}"):
            return awaiting.BatchAwait(self.reader, record).run(limits, include_jobs, limit)

    def cancel_batch(self, batch_id: str, *, reason: str = "", requested_by: str | None = None) -> Batch:
        """Cancel a batch: what is queued at once; the workers end what runs. What has ended stays as it is.

        Raises InvalidInput, NotFound, StorageError.
        """
        self.access.need(JOBS_SUBMIT)
        record = self._batch_record(batch_id)
        with doing(f"cancel {batch_id}"):
            batches.cancel(self.claims, record, requested_by if requested_by is not None else _user(), reason)
        return self._get_batch(record, False)

    def list_batches(
        self,
        job_type: str | None = None,
        status: str | None = None,
        limit: int = 10,
        damaged: Names | None = None,
        before: str | None = None,
    ) -> Batches:
        """Batches without their jobs, newest first, at most ``limit`` of them; arguments as for ``list``.

        Raises InvalidInput, StorageError.
        """
        self.access.need(JOBS_READ, job_type)
        wanted = None if status is None else states.normalise(status, states.BATCH_ALL)
        _check_listing(job_type, limit, batch_id=before)
        with doing("list the batches"):
            found = self._batches(listing.batches(self.index, job_type, before), damaged)
            return list(islice((batch for batch in found if wanted in (None, batch.status)), limit))

    def _batches(self, batch_ids: Iterable[str], damaged: Names | None) -> Iterator[Batch]:
        for batch_id in batch_ids:
            try:
                record = batches.load(self.claims, batch_id)
                if self.access.allows(record.job_type):
                    yield self._get_batch(record, False)
            except Damaged:
                if damaged is not None:
                    damaged.append(batch_id)
            except NotFound:
                pass  # its submitter is not done, or died


def _check_listing(job_type: str | None, limit: int, *, job_id: str | None = None, batch_id: str | None = None) -> None:
    if job_type is not None:
        paths.check_job_type(job_type)
    if batch_id is not None:
        ids.check_batch_id(batch_id)
    if job_id is not None:
        ids.check_job_id(job_id)
    _check_limit(limit)


def _check_limit(limit: int | None) -> None:
    if limit is not None and (not isinstance(limit, int) or not 1 <= limit < 1 << 63):
        raise InvalidInput(f"limit: {shown(limit)} is not a whole number from 1", field="limit")


def _submitted(request: dict[str, Any], payload: Any) -> Job:
    batch_id = ids.batch_of(request["jobId"])
    fields = {**request, "payload": payload, "batchId": batch_id, "updatedAt": request["createdAt"]}
    return _accepted(Job, {**fields, "status": states.QUEUED})


def _accepted(model: type[M], fields: dict[str, Any]) -> M:
    """What was submitted, as a reader sees it. It stands in the spool already, so this must not fail."""
    try:
        return model.model_validate(fields)
    except ValueError:
        # JSON has another form for some values of Python: tuples, keys that are numbers.
        first = fields.pop("jobs", None)
        fields = jsonio.parse(jsonio.compact(fields), "the request", jsonio.RECORD_DEPTH)
        return model.model_validate(fields if first is None else {**fields, "jobs": first})


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
        if paths.SPOOL_FILE in looking.names_at_root(at):
            return at
        above = os.path.dirname(at)
        if above == at:
            return None
        at = above


def _user() -> str:
    try:
        return getpass.getuser().encode(errors="replace").decode()  # LOGNAME may be set to any bytes
    except (KeyError, OSError):
        return str(os.getuid())
