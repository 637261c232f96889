"""Batches: many jobs of one type that are submitted all or none, counted by listings, and cancelled together."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any

from breyta_spool import (
    durations,
    files,
    finishing,
    ids,
    jobs,
    jsonio,
    looking,
    outputs,
    owners,
    paths,
    states,
    submitting,
)
from breyta_spool.claims import Claims
from breyta_spool.errors import Damaged, InvalidInput, NotFound, SpoolError, doing
from breyta_spool.index import status_in
from breyta_spool.records import BatchRecord, read_record
from breyta_spool.states import Status

_WAITING = ".queue"
MISSING_LIMIT = 100_000
"""How many jobs of a batch may have been set aside."""
_SPEC = {
    "payload": "payload",
    "metadata": "metadata",
    "maxAttempts": "max_attempts",
    "max-attempts": "max_attempts",
    "max_attempts": "max_attempts",
}
"""What a job of a batch may say of itself; flows write the names with dashes."""

Fields = dict[str, Any]

# -- submit -----------------------------------------------------------------------------------------


def submit(
    claims: Claims,
    job_type: str,
    specs: Iterable[Any],
    shared: Mapping[str, Any],
    told: Callable[[Fields, Any], None] = lambda request, payload: None,
) -> Fields:
    """Put a batch into the spool, all of it or nothing; gives the fields of batch.json.

    ``specs`` are read one by one: each an object with payload, metadata and maxAttempts. ``shared`` holds what holds
    for all, by the names of ``Spool.submit``. ``told`` gets the request and payload of each job when it is staged.
    Raises InvalidInput that names the job by its number, StorageError.
    """
    batch_id = ids.new_batch_id()
    record = _record(claims, batch_id, paths.check_job_type(job_type), shared)
    staged, place = claims.tree.staged(owners.marked(batch_id)), claims.tree.batch(batch_id)
    bucket = f"{claims.tree.top(paths.queued(job_type))}/{batch_id}"
    with doing("submit the batch"):
        try:
            submitting.make_staged(claims, staged)
            record["requestedCount"] = _stage_jobs(claims, staged, record, specs, shared, told)
            files.write_new(f"{staged}/{paths.BATCH}", jsonio.record(record))
            began = time.time()
            _stage_entries(staged + _WAITING, batch_id, record["requestedCount"])
            # DURABLE: unlike a job, a batch cannot tell by itself whether all of it is there. So its files are on the
            # disk before the rename that makes it one, and a power cut leaves all of it or nothing.
            claims.commit(lambda: chain(finishing.tree_of(staged), finishing.tree_of(staged + _WAITING)))
            submitting.move_into_place(claims, staged + _WAITING, bucket)
            submitting.move_into_place(claims, staged, place)
        except BaseException:
            _withdraw(claims, staged, place, bucket)
            raise
    if abs(time.time() - began) > submitting.STALLED_SECONDS:
        with suppress(OSError):
            # RACE: claimers drop old entries that lead nowhere, and these did for long.
            for number in range(1, record["requestedCount"] + 1):
                claims.index.add(ids.job_in_batch(batch_id, number), job_type)
    claims.index.ring(job_type)
    with doing(f"make {batch_id} durable; it was submitted, and runs unless the power fails"):
        claims.commit(lambda: finishing.with_parents(place, bucket, root=claims.tree.root))
    return record


def _record(claims: Claims, batch_id: str, job_type: str, shared: Mapping[str, Any]) -> Fields:
    return {
        "batchId": batch_id,
        "jobType": job_type,
        "workspaceId": claims.settings.workspace_id,
        "createdAt": durations.rfc3339(ids.created_ms(batch_id)),
        "requestedCount": 0,
        **submitting.said_of({**shared, "max_attempts": None}),
    }


def _stage_jobs(
    claims: Claims,
    staged: str,
    record: Fields,
    specs: Iterable[Any],
    shared: Mapping[str, Any],
    told: Callable[[Fields, Any], None],
) -> int:
    number = 0
    for number, spec in enumerate(specs, 1):
        said = _checked(spec, number)
        payload = said.pop("payload", {})
        job_id = ids.job_in_batch(record["batchId"], number)
        given = {**shared, "metadata": None, **said}
        try:
            request, data = submitting.build_request(claims.settings, job_id, record["jobType"], payload, given)
        except InvalidInput as error:
            raise InvalidInput(f"job {number}: {error.message}", hint=error.hint, job=number, **error.details) from None
        files.make_own_dir(f"{staged}/{job_id}")
        submitting.stage(f"{staged}/{job_id}", request, data)
        told(request, payload)
    if not number:
        raise InvalidInput("a batch needs at least one job", field="jobs")
    return number


def _checked(spec: Any, number: int) -> Fields:
    """What a job of a batch says of itself, by the names of ``Spool.submit``. Raises InvalidInput."""
    allowed = "payload, metadata and maxAttempts"
    if not isinstance(spec, Mapping):
        what = f"job {number} must be an object with {allowed}, not {jsonio.kind_of(spec)}"
        raise InvalidInput(what, hint='the input goes into payload: {"payload": ...}', job=number)
    if unknown := sorted(str(name) for name in spec if name not in _SPEC):
        what = f"job {number} has the unknown field {unknown[0]!r}: allowed are {allowed}"
        raise InvalidInput(what, hint='the input goes into payload: {"payload": ...}', job=number, field=unknown[0])
    return {_SPEC[name]: value for name, value in spec.items()}


def _stage_entries(waiting: str, batch_id: str, count: int) -> None:
    """Prepare the bucket of the queue, after the jobs: an entry that leads nowhere must not look old."""
    files.make_own_dir(waiting)
    for number in range(1, count + 1):
        job_id = ids.job_in_batch(batch_id, number)
        with suppress(FileExistsError):  # RACE: the same, of which only the reply was lost
            files.symlink(paths.entry_target(job_id), f"{waiting}/{job_id}")


def _withdraw(claims: Claims, staged: str, place: str, bucket: str) -> None:
    """Leave nothing of a batch that failed before it was published."""
    with suppress(OSError):
        if os.path.basename(place) not in looking.names_if_any(os.path.dirname(place)):
            files.remove_tree(bucket, claims.tree.staged(owners.marked(f"trash-{ids.new_ulid()}")))
            files.sweep(staged + _WAITING)
            files.sweep(staged)


# -- read -------------------------------------------------------------------------------------------


def load(claims: Claims, batch_id: str) -> BatchRecord:
    """What was requested. Raises NotFound, Damaged."""
    path = f"{claims.index.check_way(claims.tree.batch(batch_id))}/{paths.BATCH}"
    try:
        record = read_record(BatchRecord, looking.read(path, jobs.RECORD_LIMIT), path)
    except FileNotFoundError:
        claims.index.check_there()
        hint = "'breyta jobs batches list' shows the newest; is this the right spool?"
        message = f"no such batch: {batch_id} is not in {claims.tree.root}"
        raise NotFound(message, hint=hint, batchId=batch_id, path=claims.tree.root) from None
    if record.batch_id != batch_id:
        raise Damaged(f"{path} speaks of another batch, {record.batch_id!r}", path=path)
    return record


@dataclass
class Tally:
    """The state of every job of a batch that is there, those that are not, and when an entry last moved."""

    states: dict[str, str]
    damaged: list[str]
    changed_at: float

    def counts(self) -> Counter[str]:
        """How many jobs are in each state; what was set aside can no longer succeed."""
        return Counter(self.states.values()) + Counter({states.FAILED: len(self.damaged)})

    @property
    def status(self) -> str:
        """The status of the batch."""
        return states.batch_status(self.counts())


def tally(claims: Claims, record: BatchRecord) -> Tally:
    """Count a batch by one listing of its bucket in each list; only jobs that are in none are visited."""
    tree, changed_at = claims.tree, 0.0
    found: dict[str, str] = {}
    # RACE: jobs move on while the lists are read, so they are read in that order, and the last list counts.
    for state, index_list in _lists(record.job_type):
        bucket = f"{tree.root}/{index_list}/{record.batch_id}"
        if names := looking.names_if_any(bucket):
            found |= dict.fromkeys(names, state)
            changed_at = max(changed_at, _modified(bucket))
    _check_count(tree, record, len(found))
    numbers = range(1, record.requested_count + 1)
    members = [ids.job_in_batch(record.batch_id, number) for number in numbers]
    # In no list: it moved while they were read, or somebody removed its entry.
    told = {job_id: now for job_id in members if (now := found.get(job_id) or state_of(tree, job_id))}
    damaged = [job_id for job_id in members if job_id not in told] if len(told) < len(members) else []
    return Tally(told, damaged, changed_at)


def _check_count(tree: paths.Tree, record: BatchRecord, in_lists: int) -> None:
    """Raise Damaged for a batch that speaks of far more jobs than there are: a reader would count them for hours."""
    if record.requested_count - in_lists <= MISSING_LIMIT:
        return
    there = len(looking.names_if_any(tree.batch(record.batch_id)))
    if record.requested_count - there > MISSING_LIMIT:
        path = f"{tree.batch(record.batch_id)}/{paths.BATCH}"
        raise Damaged(f"{path} speaks of {record.requested_count} jobs, but no more than {there} are there", path=path)


def _lists(job_type: str) -> Iterator[tuple[str, str]]:
    yield states.QUEUED, paths.queued(job_type)
    yield states.LEASED, paths.leased(job_type)
    yield from ((status, paths.finished(status, job_type)) for status in states.TERMINAL)


def state_of(tree: paths.Tree, job_id: str) -> str | None:
    """The state of a job by its status file; None when it is not there, or damaged."""
    try:
        status = status_in(tree.job(job_id))
    except Damaged:
        return None
    return status.state if status else None


def _modified(bucket: str) -> float:
    try:
        return looking.modified(bucket)
    except FileNotFoundError:
        return 0.0  # emptied and removed meanwhile


def fields_of(claims: Claims, record: BatchRecord, counted: Tally) -> Fields:
    """The fields of a batch's map, without its jobs."""
    counts, status = counted.counts(), counted.status
    changed = durations.rfc3339(counted.changed_at * 1000) if counted.changed_at else record.created_at
    updated = max(record.created_at, changed)
    return {
        **record.to_map(),
        "status": status,
        "queuedCount": counts[states.QUEUED],
        "runningCount": counts[states.LEASED],
        "succeededCount": counts[states.SUCCEEDED],
        "noChangesCount": counts[states.NO_CHANGES],
        "failedCount": counts[states.FAILED],
        "cancelledCount": counts[states.CANCELLED],
        "timedOutCount": counts[states.TIMED_OUT],
        "updatedAt": updated,
        "completedAt": updated if status in states.BATCH_TERMINAL else None,
        "cancelRequested": jobs.load_cancel(claims.tree.batch(record.batch_id)) is not None,
        "damaged": counted.damaged,
    }


# -- look after -------------------------------------------------------------------------------------


def cancel(claims: Claims, record: BatchRecord, requested_by: str, reason: str) -> None:
    """End what is queued, ask what runs to end. Returned, it survives a power cut. Raises StorageError.

    Killed half-way it has cancelled a part; called again, it goes on.
    """
    batch_dir = claims.tree.batch(record.batch_id)
    counted = tally(claims, record)
    active = [job_id for job_id, state in counted.states.items() if state in (states.QUEUED, states.LEASED)]
    if active:
        note = {"requestedAt": outputs.now(), "requestedBy": requested_by, "reason": reason}
        with suppress(FileExistsError):
            files.publish_new(f"{batch_dir}/{paths.CANCEL}", jsonio.record(note))
    for job_id in active:
        if counted.states[job_id] == states.QUEUED and claims.cancel_unclaimed(job_id, record.job_type):
            continue
        with suppress(Damaged, NotFound):
            if claims.request_cancel(job_id, record.job_type, requested_by, reason).is_terminal:
                # RACE: whoever ended it may have died before the move of its entry, which is what counts a batch.
                found_in = Status(counted.states[job_id], 0)
                claims.settle(job_id, record.job_type, paths.list_of(found_in, record.job_type))
    claims.commit(lambda: written_of(claims, record.batch_id))


def written_of(claims: Claims, batch_id: str) -> Iterator[str]:
    """All of a batch and every directory above it, for a barrier that syncs each."""
    place = claims.tree.batch(batch_id)
    yield from finishing.tree_of(place)
    yield from finishing.with_parents(os.path.dirname(place), root=claims.tree.root)


def mend(claims: Claims, record: BatchRecord, sample: int = 64) -> None:
    """Take back leases that ran out and put right entries that crashed processes left, as far as the caller may.

    In the queue a few entries are enough: as long as there are more, the batch goes on anyway.
    """
    leased = claims.index.names(f"{claims.tree.root}/{paths.leased(record.job_type)}/{record.batch_id}")
    waiting = claims.index.some(f"{claims.tree.root}/{paths.queued(record.job_type)}/{record.batch_id}", sample)
    with suppress(OSError, SpoolError):
        for job_id in waiting:
            claims.settle(job_id, record.job_type, paths.queued(record.job_type))
        now = claims.index.now() if leased else 0.0
        for job_id in filter(ids.is_job_id, leased):
            if status := claims.settle(job_id, record.job_type, paths.leased(record.job_type)):
                claims.expire_one(job_id, record.job_type, status, now)
