"""A job's directory read into one map: the request, where it stands, and what came of it. Reads only."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from breyta_spool import durations, files, ids, jsonio, outputs, paths, states
from breyta_spool.errors import Damaged, SpoolError
from breyta_spool.records import (
    Attempt,
    CancelRecord,
    ClaimRecord,
    Job,
    JobError,
    JobRecord,
    Progress,
    ResultRecord,
    read_record,
)

RECORD_LIMIT = 4 << 20
"""The most bytes of a record other than a payload or a result."""
RESULT_LIMIT = 64 << 20
PAYLOAD_CEILING = 1 << 30
_ENDS = 1 << 16
_ATTEMPT = re.compile(r"attempt-([1-9][0-9]{0,5})")


def load_request(job_dir: str, payload_limit: int) -> tuple[JobRecord, bytes]:
    """A job's request: its record and its payload as JSON text, checked against each other.

    Raises Damaged when the request is not there or not what its submitter wrote.
    """
    path = f"{job_dir}/{paths.JOB}"
    try:
        record = read_record(JobRecord, files.read(path, RECORD_LIMIT), path)
    except FileNotFoundError:
        raise Damaged(f"{path} is missing", path=path) from None
    if not job_dir.endswith(f"/{record.job_id}"):
        raise Damaged(f"{path} speaks of another job, {record.job_id}", path=path)
    path = f"{job_dir}/{paths.PAYLOAD}"
    try:
        # The limit is for submitters: what was accepted under a larger one is still read.
        payload = files.read(path, max(payload_limit, min(record.payload_bytes, PAYLOAD_CEILING)))
    except FileNotFoundError:
        raise Damaged(f"{path} is missing", path=path) from None
    if len(payload) != record.payload_bytes or hashlib.sha256(payload).hexdigest() != record.payload_sha256:
        raise Damaged(f"{path} is not what was submitted: its size or sha256 differs from job.json", path=path)
    return record, payload


def load_claim(job_dir: str, attempt: int) -> ClaimRecord | None:
    """Who took the lease of an attempt; None when that was not written, not yet, or not to its end.

    Its writer makes it after the rename that counts, in place: a reader may meet it empty, and a crash may leave it so.
    Nothing but the lease's duration rests on it.
    """
    path = f"{job_dir}/{paths.attempt_name(attempt)}/{paths.CLAIM}"
    try:
        return read_record(ClaimRecord, files.read(path, RECORD_LIMIT), path)
    except (FileNotFoundError, Damaged):
        return None


def load_result(job_dir: str, attempt: int) -> ResultRecord | None:
    """The result of an attempt; None when there is none. Raises Damaged, also for a torn one."""
    path = f"{job_dir}/{paths.attempt_name(attempt)}/{paths.RESULT}"
    try:
        return read_record(ResultRecord, files.read(path, RESULT_LIMIT), path)
    except FileNotFoundError:
        return None


def accepted_result(job_dir: str, status: states.Status) -> ResultRecord | None:
    """The result that a job ended with; None when it ended, or goes on, without one.

    A result file alone means nothing: its writer may have died before the rename that counts, or lost the race for it.
    Raises Damaged when the job must have a result and what is there cannot be it.
    """
    job_id = job_dir.rpartition("/")[2]
    if not needs_result(status) and status.state != states.CANCELLED:
        return None
    try:
        result = load_result(job_dir, status.attempt)
    except Damaged:
        if needs_result(status):
            raise
        return None
    if result and (result.job_id, result.attempt, result.status) == (job_id, status.attempt, status.state):
        return result
    if not needs_result(status):
        return None
    what = "is of another job, attempt or status" if result else "is missing"
    raise Damaged(f"{job_dir}: the result of attempt {status.attempt} {what}", path=job_dir)


def needs_result(status: states.Status) -> bool:
    """Whether a job of this status must have a result file: an attempt reported how it ended."""
    return status.state in (states.SUCCEEDED, states.NO_CHANGES, states.FAILED)


def load_progress(job_dir: str, attempt: int) -> tuple[Progress | None, str | None]:
    """The last progress report of an attempt, and when its handler was started."""
    path = f"{job_dir}/{paths.attempt_name(attempt)}/{paths.PROGRESS}"
    try:
        head, tail = files.read_ends(path, _ENDS, outputs.LINE_LIMIT + _ENDS)
    except FileNotFoundError:
        return None, None
    first = _report(head.split(b"\n", 1)[0])
    # The last line that is whole: one may be half written, or have been cut off by a full disk.
    last = next(filter(None, map(_report, reversed(tail.split(b"\n")[:-1]))), None)
    return last, first.updated_at if first and first.status == states.STARTED else None


def _report(line: bytes) -> Progress | None:
    try:
        return read_record(Progress, line, paths.PROGRESS)
    except Damaged:
        return None  # a line that is still being written, or was torn: the next one counts


def load_job(job_dir: str, status: states.Status, listed: list[str], payload_limit: int) -> Job:
    """Put a job together. ``listed`` is the listing that ``status`` was read from.

    Raises FileNotFoundError, Damaged.
    """
    request, payload = load_request(job_dir, payload_limit)
    result = accepted_result(job_dir, status)
    numbers = sorted(int(match[1]) for name in listed if (match := _ATTEMPT.fullmatch(name)))
    read = [_attempt(job_dir, number, status, result) for number in numbers if number <= status.attempt]
    attempts = [attempt for attempt, _ in read]
    last, progress = read[-1] if read and attempts[-1].attempt == status.attempt else (None, None)
    touched = durations.rfc3339(_time_of(files.modified, job_dir, status) * 1000) if status.attempt else None
    completed = _completed_at(job_dir, status, result)
    error = result.error if result else _error(job_dir, status, attempts)
    return Job(
        **request.model_dump(exclude={"payload_bytes", "payload_sha256"}),
        status=states.reported(status.state, progress.status if progress else _in_process(last)),
        payload=jsonio.parse(payload, f"{job_dir}/{paths.PAYLOAD}"),
        batch_id=ids.batch_of(request.job_id),
        attempt=status.attempt,
        started_at=last.started_at if last else None,
        updated_at=max(request.created_at, touched or "", completed or "", progress.updated_at if progress else ""),
        completed_at=completed,
        last_heartbeat_at=touched,
        worker_id=last.worker_id if last else None,
        worker_labels=last.worker_labels if last else {},
        progress=progress,
        result_summary=result.summary if result else (error.message if error else None),
        outputs=result.outputs if result else {},
        metrics=result.metrics if result else {},
        artifacts=_artifacts(job_dir, status, result),
        error=error,
        result=result.to_map() if result else None,
        attempts=attempts,
        cancel_requested=paths.CANCEL in listed,
    )


def _attempt(
    job_dir: str, number: int, status: states.Status, result: ResultRecord | None
) -> tuple[Attempt, Progress | None]:
    claim = load_claim(job_dir, number)
    progress, started = load_progress(job_dir, number)
    common: dict[str, Any] = {
        "attempt": number,
        "started_at": started or (claim.started_at if claim else None),
    }
    if claim:
        common |= claim.model_dump(include={"worker_id", "worker_labels", "lease_ms", "claimed_at"})
    if number < status.attempt or status.state in (states.QUEUED, states.TIMED_OUT):
        return Attempt(**common, status="lost"), progress
    if status.state == states.LEASED:
        reported = progress.status if progress else (states.STARTED if common["started_at"] else states.LEASED)
        return Attempt(**common, status=reported), progress
    ended = {"completed_at": result.completed_at, "error": result.error} if result else {}
    return Attempt(**common, **ended, status=status.state), progress


def _in_process(last: Attempt | None) -> str | None:
    return states.STARTED if last and last.started_at else None


def _artifacts(job_dir: str, status: states.Status, result: ResultRecord | None) -> list[Any]:
    if result:
        return result.artifacts
    if not status.attempt or status.state == states.QUEUED:
        return []
    try:
        return outputs.attached(f"{job_dir}/{paths.attempt_name(status.attempt)}")
    except SpoolError:
        return []  # the list of an attempt that nobody finished, torn by a power cut


def _completed_at(job_dir: str, status: states.Status, result: ResultRecord | None) -> str | None:
    if not status.is_terminal:
        return None
    # A job that no worker ended has no result: it ended when its status file was renamed.
    return result.completed_at if result else durations.rfc3339(_time_of(files.changed, job_dir, status) * 1000)


def _time_of(clock: Any, job_dir: str, status: states.Status) -> float:
    """A time of the status file; when it has been renamed meanwhile, the caller's answer is a moment old."""
    seconds: float = clock(f"{job_dir}/{status.name}")
    return seconds


def _error(job_dir: str, status: states.Status, attempts: list[Attempt]) -> JobError | None:
    if status.state == states.TIMED_OUT:
        holder = attempts[-1].worker_id if attempts else None
        return JobError(
            message=f"the lease of attempt {status.attempt} was lost and no attempt is left",
            code=states.TIMED_OUT,
            details={"attempts": status.attempt, "workerId": holder},
        )
    if status.state == states.CANCELLED:
        request = load_cancel(job_dir)
        reason = request.reason if request else ""
        by = request.requested_by if request else ""
        return JobError(
            message="cancelled" + (f" by {by}" if by else "") + (f": {reason}" if reason else ""),
            code=states.CANCELLED,
        )
    return None


def load_cancel(job_dir: str) -> CancelRecord | None:
    """The request to cancel a job; None when there is none or it cannot be read."""
    path = f"{job_dir}/{paths.CANCEL}"
    try:
        return read_record(CancelRecord, files.read(path, RECORD_LIMIT), path)
    except (FileNotFoundError, Damaged):
        return None
