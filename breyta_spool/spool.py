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
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Any

from breyta_spool import durations, files, ids, jobs, jsonio, outputs, paths, results, states, waiting
from breyta_spool.barrier import Barrier
from breyta_spool.claims import Claims, Held, no_such_job
from breyta_spool.errors import (
    AwaitBound,
    Conflict,
    Damaged,
    InvalidInput,
    LeaseLost,
    NoSuchSpool,
    NotAllowed,
    SpoolError,
    storage_error,
)
from breyta_spool.index import Index, Queue, status_in
from breyta_spool.records import (
    FORMAT_VERSION,
    Job,
    JobRecord,
    SpoolRecord,
    Worker,
    check_version,
    read_record,
)
from breyta_spool.states import Status

STALLED_SECONDS = 600
"""A submit that took longer than this looks whether its queue entry is still there (the reaper drops old ones)."""
METADATA_LIMIT = 1 << 20

Jobs = list[Job]
Workers = list[Worker]


@contextmanager
def _doing(what: str) -> Iterator[None]:
    """Turn errors of the operating system into StorageError, said in the caller's words."""
    try:
        yield
    except OSError as error:
        raise storage_error(error, what) from error


class Spool:
    """One spool. Safe to use from several threads; every process and host opens its own."""

    def __init__(self, root: str, settings: SpoolRecord) -> None:
        self.root = root
        self.settings = settings
        self.tree = paths.Tree(root)
        self.barrier = Barrier(root)
        self.claims = Claims(self.tree, settings, self.barrier)
        self.index: Index = self.claims.index
        self._queues: dict[tuple[str, str | None], Queue] = {}

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
        _check_root(root)
        if durability not in ("durable", "none"):
            raise InvalidInput(f"unknown durability {durability!r}: allowed are durable, none", field="durability")
        if not _is_workspace(workspace):
            raise InvalidInput(
                f"not a workspace id: {workspace!r}",
                hint="1 to 100 letters, digits and _ . - are allowed",
                field="workspace",
            )
        settings = SpoolRecord(
            spool_id=f"spool-{ids.new_ulid()}",
            workspace_id=workspace,
            created_at=outputs.now(),
            durability=durability,
            group=group,
        )
        with _doing("make the spool"):
            files.make_dirs(root)
            if found := files.names(root):
                what = "is a spool already" if paths.SPOOL_FILE in found else "is not empty"
                raise Conflict(f"{root} {what}", hint="choose a directory that is empty or not there", path=root)
            _share(root, group)
            for name in paths.TOP:
                files.make_dir(f"{root}/{name}")
            # Last, and by rename: a directory with a spool.json is a whole spool.
            files.replace(f"{root}/{paths.SPOOL_FILE}", jsonio.record(settings.to_map()))
            spool = cls(root, settings)
            spool.claims.commit(lambda: iter([f"{root}/{paths.SPOOL_FILE}", root]))
        return spool

    @classmethod
    def open(cls, directory: str | os.PathLike[str]) -> Spool:
        """Open a spool. Raises NoSuchSpool, FormatNotSupported, Damaged, StorageError."""
        root = os.path.abspath(os.fspath(directory))
        _check_root(root)
        path = f"{root}/{paths.SPOOL_FILE}"
        with _doing("open the spool"):
            try:
                data = files.read(path, jobs.RECORD_LIMIT)
            except (FileNotFoundError, NotADirectoryError):
                raise NoSuchSpool(
                    f"there is no spool at {root}", hint=f"'breyta spool init {root}' makes one", path=root
                ) from None
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
        payload: Any = None,
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

        ``payload`` is any JSON value, None counts as ``{}``. ``max_attempts`` bounds leases (default: the spool's).
        Raises InvalidInput, StorageError; then nothing was submitted.
        """
        paths.check_job_type(job_type)
        data = jsonio.compact({} if payload is None else payload, "payload")
        if len(data) > self.settings.payload_limit_bytes:
            raise InvalidInput(
                f"payload: {len(data)} bytes; the limit of this spool is {self.settings.payload_limit_bytes}",
                hint="put large data in a file that workers can read, and its path in the payload",
                field="payload",
            )
        jsonio.check_depth(payload, "payload")
        job_id = ids.new_job_id()
        request = {
            "jobId": job_id,
            "jobType": job_type,
            "workspaceId": self.settings.workspace_id,
            "createdAt": durations.rfc3339(ids.created_ms(job_id)),
            "maxAttempts": _count("maxAttempts", max_attempts, self.settings.default_max_attempts),
            "payloadBytes": len(data),
            "payloadSha256": hashlib.sha256(data).hexdigest(),
            "metadata": _metadata(metadata),
            "rootWorkflowId": _text("rootWorkflowId", root_workflow_id),
            "parentStepId": _text("parentStepId", parent_step_id),
            "fanoutParentStepId": _text("fanoutParentStepId", fanout_parent_step_id),
            "fanoutMaxConcurrency": _count("fanoutMaxConcurrency", fanout_max_concurrency, None),
            "retryOf": retry_of,
        }
        job = JobRecord.model_validate(request)
        with _doing("submit the job"):
            self._publish(job_id, job_type, jsonio.record(request), data)
        return Job(
            **job.model_dump(exclude={"payload_bytes", "payload_sha256", "submitted_by"}),
            status=states.QUEUED,
            payload=payload if payload is not None else {},
            updated_at=job.created_at,
        )

    def _publish(self, job_id: str, job_type: str, request: bytes, payload: bytes) -> None:
        staged, place = self.tree.staged(job_id), self.tree.job(job_id)
        began = time.time()
        entry = None
        try:
            self._stage(staged, request, payload)
            entry = self.index.add(job_id, job_type)
            try:
                files.publish(staged, place)
            except FileNotFoundError:
                files.make_dirs(os.path.dirname(place))
                files.publish(staged, place)
        except BaseException:
            self._withdraw(job_id, staged, entry)
            raise
        if abs(time.time() - began) > STALLED_SECONDS:
            self.index.add(job_id, job_type)  # RACE: the reaper may have dropped the entry of a job not yet there
        self.index.ring(job_type)
        # DURABLE: one barrier after the last rename. Torn without having been acknowledged, the job is recognised.
        self.claims.commit(lambda: _with_parents(place, entry, self.root))

    def _stage(self, staged: str, request: bytes, payload: bytes) -> None:
        try:
            files.make_dir(staged)
        except FileNotFoundError:
            files.make_dirs(staged)  # a spool that was copied without its empty directories
        files.write_new(f"{staged}/{paths.JOB}", request)
        files.write_new(f"{staged}/{paths.PAYLOAD}", payload)
        files.write_new(f"{staged}/{Status(states.QUEUED, 0).name}", b"")

    def _withdraw(self, job_id: str, staged: str, entry: str | None) -> None:
        """Leave nothing of a submit that failed before its job was published."""
        with suppress(OSError):
            if job_id not in files.names_if_any(os.path.dirname(self.tree.job(job_id))):
                files.sweep(staged)
                if entry is not None:
                    files.unlink(entry)

    # -- read ---------------------------------------------------------------------------------------

    def get(self, job_id: str) -> Job:
        """The latest state of a job. Raises InvalidInput, NotFound, Damaged, StorageError.

        A job whose result was torn by a power cut is put back to be done again, and shows as that.
        """
        ids.check_job_id(job_id)
        job_dir = self.tree.job(job_id)
        with _doing(f"read {job_id}"):
            for _ in range(10):
                status = None
                try:
                    listed = files.names_if_any(job_dir)
                    status = status_in(job_dir, listed)
                    if status is None:
                        raise no_such_job(job_id, self.tree)
                    return jobs.load_job(job_dir, status, listed, self.settings.payload_limit_bytes)
                except FileNotFoundError:
                    continue  # RACE: the status changed while it was read
                except Damaged:
                    if status is None or not self._redo_if_torn(job_id, status):
                        raise
        raise SpoolError(f"{job_id} changes faster than it can be read", hint="try again")

    def _redo_if_torn(self, job_id: str, status: Status) -> bool:
        """Put a job back whose result cannot be read but whose request can; whether that was so."""
        if not jobs.needs_result(status):
            return False
        job_dir = self.tree.job(job_id)
        request, _ = jobs.load_request(job_dir, self.settings.payload_limit_bytes)
        try:
            if jobs.load_result(job_dir, status.attempt) is not None:
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
    ) -> Jobs:
        """Jobs, newest first, at most ``limit`` of them. Raises InvalidInput, StorageError."""
        wanted = None if status is None else states.normalise(status)
        if job_type is not None:
            paths.check_job_type(job_type)
        if limit < 1:
            raise InvalidInput(f"limit: {limit} is not a whole number from 1", field="limit")
        with _doing("list the jobs"):
            found = (job for job_id in self._listed(job_type, wanted, batch_id) if (job := self._try_get(job_id)))
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

    def _try_get(self, job_id: str) -> Job | None:
        try:
            return self.get(job_id)
        except SpoolError:
            return None  # gone meanwhile, or damaged: 'get' of that job says what is wrong

    def workers(self) -> Workers:
        """The workers that are or were running and did not stop cleanly, by id."""
        with _doing("list the workers"):
            names = self.index.names(self.tree.top("workers"))
            now = self.index.now() if names else 0.0
            return [worker for name in sorted(names) if (worker := self._worker(name, now))]

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
        with _doing("claim a job"):
            self.claims.expire(job_type)
            held = self.claims.claim(queue, job_type, worker_id, dict(labels or {}), lease_ms)
        self._queues[job_type, batch_id] = queue
        return Lease(self, held) if held else None

    def queue(self, job_type: str, batch_id: str | None = None) -> Queue:
        """A reader of one type's queue, for a worker."""
        if batch_id is not None and not ids.is_job_id("job-" + batch_id.removeprefix("batch-")):
            raise InvalidInput(f"not a batch id: {batch_id!r}", field="batchId")
        return Queue(self.index, job_type, batch_id)

    def lease(self, job_id: str, token: str) -> Lease:
        """The lease that a token belongs to. Raises InvalidInput, NotFound, LeaseLost."""
        ids.check_job_id(job_id)
        with _doing(f"find the lease of {job_id}"):
            request, directory = self.claims.find(job_id, token)
        return Lease(self, Held(request, b"", directory, "", self.settings.default_lease_ms))

    # -- cancel, retry ------------------------------------------------------------------------------

    def cancel(self, job_id: str, *, reason: str = "", requested_by: str | None = None) -> Job:
        """Cancel a job: at once when it is queued; its worker ends it when it is leased (``cancel_requested``).

        A job that has ended stays as it is. Raises InvalidInput, NotFound, StorageError.
        """
        job = self.get(job_id)
        with _doing(f"cancel {job_id}"):
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
        seen: Callable[[Job], None] = lambda job: None,
    ) -> Job:
        """Wait until a job has ended; gives it. ``interval`` and ``timeout`` are durations (10s, and 30m unbounded).

        ``seen`` is shown every state on the way. Raises InvalidInput, NotFound, StorageError, and AwaitBound when the
        bound is reached first: it carries the last state, and the job goes on.
        """
        limits = waiting.bound(interval, timeout, max_attempts, backoff)
        ids.check_job_id(job_id)

        def wake() -> waiting.Wake:
            wake = waiting.Wake()
            wake.watch(self.tree.job(job_id))
            return wake

        def probe() -> Job:
            job = self.get(job_id)
            return self._after_expiry(job) if job.status in states.PROGRESS else job

        job, done = waiting.poll(probe, lambda job: job.is_terminal, limits, wake, seen)
        if not done:
            raise AwaitBound(
                f"{job_id} is still {job.status} after {limits.spoken}",
                job=job,
                hint="the job goes on; await it again, or 'breyta jobs cancel' it",
                jobId=job_id,
                status=job.status,
            )
        with _doing(f"make the result of {job_id} durable"):
            # DURABLE: its worker may not have come to its own barrier yet.
            self.claims.commit(lambda: self.claims.written_by(job_id, job.attempt))
        return job

    def _after_expiry(self, job: Job) -> Job:
        """The job after its lease was taken back, if that ran out: maybe no worker is left to do it."""
        try:
            status = status_in(self.tree.job(job.job_id))
            after = status and self.claims.expire_one(job.job_id, job.job_type, status, self.index.now())
        except (OSError, SpoolError):
            return job  # somebody who may only read
        return self.get(job.job_id) if after else job


class Lease:
    """A claimed job: report progress, attach artifacts, then complete or fail it before the lease runs out."""

    def __init__(self, spool: Spool, held: Held) -> None:
        self._spool = spool
        self.held = held

    @property
    def job_id(self) -> str:
        """The id of the job."""
        return self.held.job_id

    @property
    def token(self) -> str:
        """The lease token: whoever has it may act for this attempt."""
        return self.held.dir.token

    @property
    def job(self) -> Job:
        """The job, as it is now."""
        return self._spool.get(self.job_id)

    @property
    def dir(self) -> outputs.AttemptDir:
        """The attempt's directory: ``attach_file``, ``attach_kv``, ``attach_table``."""
        return self.held.dir

    def heartbeat(self, lease: Any = None) -> bool:
        """Renew the lease, optionally with a new duration; whether a cancel was asked for. Raises LeaseLost."""
        lease_ms = None if lease is None else lease_duration(lease, 0)
        with _doing(f"renew the lease of {self.job_id}"):
            return self._spool.claims.renew(self.held.dir, lease_ms)

    def progress(
        self,
        message: str = "",
        *,
        status: str = states.RUNNING,
        details: Mapping[str, Any] | None = None,
        metrics: Mapping[str, Any] | None = None,
        artifacts: Any = None,
    ) -> dict[str, Any]:
        """Report progress, with artifacts made so far, and renew the lease.

        Raises LeaseLost, InvalidInput, StorageError.
        """
        with _doing(f"report progress of {self.job_id}"):
            self._spool.claims.renew(self.held.dir)
            for described in results.as_list(artifacts):
                self.held.dir.describe(described)
            return self.held.dir.report(status, message, dict(details or {}), dict(metrics or {}))

    def complete(
        self,
        *,
        status: str = states.SUCCEEDED,
        summary: str = "",
        outputs: Mapping[str, Any] | None = None,
        metrics: Mapping[str, Any] | None = None,
        artifacts: Any = None,
        worker_info: Mapping[str, Any] | None = None,
    ) -> Job:
        """End the job well (or ``cancelled``). Raises LeaseLost, InvalidInput, StorageError."""
        allowed = (states.SUCCEEDED, states.NO_CHANGES, states.CANCELLED)
        said = {
            "status": states.normalise(status, allowed),
            "summary": summary,
            "outputs": dict(outputs or {}),
            "metrics": dict(metrics or {}),
            "artifacts": artifacts,
            "workerInfo": dict(worker_info or {}),
        }
        return self.finish(results.of_object(said))

    def fail(
        self,
        message: str,
        *,
        code: str = "failed",
        details: Mapping[str, Any] | None = None,
        artifacts: Any = None,
    ) -> Job:
        """End the job as failed. Raises LeaseLost, InvalidInput, StorageError."""
        return self.finish(results.failed(message, code, dict(details or {}), artifacts))

    def finish(self, outcome: results.Outcome) -> Job:
        """End the job with an outcome. Raises LeaseLost, StorageError."""
        with _doing(f"finish {self.job_id}"):
            info = {"workerId": self.held.worker_id} if self.held.worker_id else {}
            self._spool.claims.finish(self.held.dir, self.held.request.job_type, outcome, info)
        return self._spool.get(self.job_id)

    def give_back(self) -> Job:
        """Let go of the job for another worker; the attempt counts. Raises LeaseLost, StorageError."""
        with _doing(f"give {self.job_id} back"):
            self._spool.claims.give_back(self.held.dir, self.held.request.job_type)
        return self._spool.get(self.job_id)


def lease_duration(given: Any, default_ms: int) -> int:
    """A lease duration in milliseconds, from 1 second to 7 days. Raises InvalidInput."""
    lease_ms = default_ms if given is None else durations.milliseconds(given, field="leaseDuration")
    if not 1000 <= lease_ms <= 7 * 86_400_000:
        raise InvalidInput(
            f"leaseDuration: {durations.spoken(lease_ms)} is not between 1s and 7d", field="leaseDuration"
        )
    return lease_ms


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


def _check_root(root: str) -> None:
    if "\0" in root:
        raise InvalidInput("the spool's path holds a NUL byte", field="spool")


def _is_workspace(text: str) -> bool:
    return (
        isinstance(text, str)
        and 0 < len(text) <= 100
        and all(c.isascii() and (c.isalnum() or c in "_.-") for c in text)
    )


def _share(root: str, group: str | None) -> None:
    if group is None:
        return
    import shutil

    try:
        shutil.chown(root, group=group)
    except LookupError:
        raise InvalidInput(f"there is no group {group!r} on this host", field="group") from None
    os.chmod(root, 0o2770)  # noqa: S103 - the group is who shares it


def _count(field: str, given: int | None, default: int | None) -> int | None:
    if given is None:
        return default
    if not isinstance(given, int) or isinstance(given, bool) or not 1 <= given <= 100_000:
        raise InvalidInput(f"{field}: {given!r} is not a whole number from 1 to 100000", field=field)
    return given


def _text(field: str, given: str | None) -> str | None:
    if given is not None and (not isinstance(given, str) or not given or len(given) > 500):
        raise InvalidInput(
            f"{field}: expected a text of 1 to 500 characters, given {jsonio.kind_of(given)}", field=field
        )
    return given


def _metadata(given: Mapping[str, Any] | None) -> dict[str, Any]:
    if given is not None and not isinstance(given, Mapping):
        raise InvalidInput(f"metadata must be an object, not {jsonio.kind_of(given)}", field="metadata")
    metadata = dict(given or {})
    jsonio.check_depth(metadata, "metadata")
    if metadata and len(jsonio.compact(metadata, "metadata")) > METADATA_LIMIT:
        raise InvalidInput(f"metadata: more than {METADATA_LIMIT} bytes", field="metadata")
    return metadata


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _type_of(index_list: str) -> str:
    kind, _, name = index_list.partition("/")
    return name.partition(".")[2] if kind == "finished" else name


def _with_parents(place: str, entry: str | None, root: str) -> Iterator[str]:
    """A new job's files and every directory up to the root, for a barrier that syncs each."""
    yield from (f"{place}/{name}" for name in (paths.JOB, paths.PAYLOAD))
    for path in (place, os.path.dirname(entry or place)):
        while len(path) > len(root):
            yield path
            path = os.path.dirname(path)
    yield root


__all__ = ["FORMAT_VERSION", "Lease", "LeaseLost", "Spool", "check_workspace", "find_root"]
