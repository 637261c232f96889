"""A job's directory read into one map: the request, where it stands, and what came of it. Reads only."""

from __future__ import annotations

import hashlib
import os
from typing import Any

from breyta_spool import durations, ids, jsonio, looking, outputs, paths, states
from breyta_spool.errors import Damaged, InvalidInput, SpoolError
from breyta_spool.records import (
    CancelRecord,
    ClaimRecord,
    Job,
    JobRecord,
    Progress,
    ResultRecord,
    read_fields,
    read_record,
)

RECORD_LIMIT = 4 << 20
"""The most bytes of a record other than a payload or a result."""
RESULT_LIMIT = 64 << 20
PAYLOAD_CEILING = 1 << 30
_ENDS = 1 << 16
_LINES = 100
"""How far back from the end of its file the last report is looked for."""
Fields = dict[str, Any]


def load_request(job_dir: str, payload_limit: int) -> tuple[JobRecord, bytes]:
    """A job's request: its record and its payload as JSON text, checked against each other.

    Raises Damaged when the request is not there or not what its submitter wrote.
    """
    fields, payload = _request(job_dir, payload_limit)
    return read_fields(JobRecord, fields, f"{job_dir}/{paths.JOB}"), payload


def _request(job_dir: str, payload_limit: int) -> tuple[Fields, bytes]:
    path = f"{job_dir}/{paths.JOB}"
    fields = _fields(path, RECORD_LIMIT)
    if fields is None:
        raise Damaged(f"{path} is missing", path=path)
    if fields.get("jobId") != job_dir.rpartition("/")[2]:
        raise Damaged(f"{path} speaks of another job, {fields.get('jobId')!r}", path=path)
    size = fields.get("payloadBytes")
    path = f"{job_dir}/{paths.PAYLOAD}"
    try:
        # The limit is for submitters: what was accepted under a larger one is still read.
        payload = looking.read(path, max(payload_limit, min(size if isinstance(size, int) else 0, PAYLOAD_CEILING)))
    except FileNotFoundError:
        raise Damaged(f"{path} is missing", path=path) from None
    if len(payload) != size or hashlib.sha256(payload).hexdigest() != fields.get("payloadSha256"):
        raise Damaged(f"{path} is not what was submitted: its size or sha256 differs from job.json", path=path)
    return fields, payload


def _fields(path: str, limit: int) -> Fields | None:
    """The fields of a record, unchecked; None when there is no such file. Raises Damaged when it is not JSON."""
    try:
        return jsonio.parse_object(looking.read(path, limit), path, jsonio.RECORD_DEPTH)
    except FileNotFoundError:
        return None
    except InvalidInput as error:
        raise Damaged(error.message, path=path) from None


def load_claim(job_dir: str, attempt: int) -> ClaimRecord | None:
    """Who took the lease of an attempt; None when that was not written, not yet, or not to its end."""
    fields = _claim(job_dir, attempt)
    try:
        return read_fields(ClaimRecord, fields, paths.claim_name(attempt)) if fields else None
    except Damaged:
        return None


def _claim(job_dir: str, attempt: int) -> Fields | None:
    # Its writer makes it after the rename that counts, in place: a reader may meet it empty, and a crash may leave it
    # so. Nothing but the lease's duration rests on it.
    try:
        return _fields(f"{job_dir}/{paths.claim_name(attempt)}", RECORD_LIMIT)
    except Damaged:
        return None


def load_result(job_dir: str, attempt: int) -> ResultRecord | None:
    """The result of an attempt; None when there is none. Raises Damaged, also for a torn one."""
    path = f"{job_dir}/{paths.result_name(attempt)}"
    fields = _fields(path, RESULT_LIMIT)
    return None if fields is None else read_fields(ResultRecord, fields, path)


def check_result(job_dir: str, status: states.Status) -> None:
    """Raise Damaged when a job that must have a result has none that can be read."""
    fields = accepted_result(job_dir, status)
    if fields is not None:
        read_fields(ResultRecord, fields, f"{job_dir}/{paths.result_name(status.attempt)}")


def accepted_result(job_dir: str, status: states.Status) -> Fields | None:
    """The result that a job ended with; None when it ended, or goes on, without one.

    A result file alone means nothing: its writer may have died before the rename that counts, or lost the race for it.
    Raises Damaged when the job must have a result and what is there cannot be it.
    """
    if not needs_result(status) and status.state != states.CANCELLED:
        return None
    try:
        result = _fields(f"{job_dir}/{paths.result_name(status.attempt)}", RESULT_LIMIT)
    except Damaged:
        if needs_result(status):
            raise
        return None
    expected = (job_dir.rpartition("/")[2], status.attempt, status.state)
    if result and (result.get("jobId"), result.get("attempt"), result.get("status")) == expected:
        return result
    if not needs_result(status):
        return None
    what = "is of another job, attempt or status" if result else "is missing"
    raise Damaged(f"{job_dir}: the result of attempt {status.attempt} {what}", path=job_dir)


def needs_result(status: states.Status) -> bool:
    """Whether a job of this status must have a result file: an attempt reported how it ended."""
    return status.state in (states.SUCCEEDED, states.NO_CHANGES, states.FAILED)


def _progress(job_dir: str, attempt: int, trusting: bool, goes_on: bool) -> tuple[Fields | None, str | None]:
    """The last progress report of an attempt, and when its handler was started."""
    path = f"{job_dir}/{paths.attempt_name(attempt)}/{paths.PROGRESS}"
    try:
        looking.check_directory(os.path.dirname(path))
        head, tail = looking.read_ends(path, _ENDS, outputs.LINE_LIMIT + _ENDS, may_come=goes_on)
    except (FileNotFoundError, Damaged):
        return None, None
    report = _report if trusting else _sound_report
    first = report(head.split(b"\n", 1)[0])
    # The last line that is whole: one may be half written, or have been cut off by a full disk.
    last = next(filter(None, map(report, _last_lines(tail))), None)
    started = first and first["status"] in (states.STARTED, states.RUNNING)
    return last, first["updatedAt"] if first and started else None


def _last_lines(tail: bytes) -> list[bytes]:
    """The last whole lines, the very last first: of a handler that writes what is no report, not all."""
    lines = tail.rsplit(b"\n", _LINES + 1)[-_LINES - 1 : -1]
    return lines[::-1]


def _sound_report(line: bytes) -> Fields | None:
    fields = _report(line)
    try:
        return fields and read_fields(Progress, fields, paths.PROGRESS).to_map()
    except Damaged:
        return None


def _report(line: bytes) -> Fields | None:
    try:
        fields = jsonio.parse_object(line, paths.PROGRESS, jsonio.RECORD_DEPTH)
    except InvalidInput:
        return None  # a line that is still being written, or was torn: the next one counts
    return fields if isinstance(fields.get("status"), str) and isinstance(fields.get("updatedAt"), str) else None


def load_job(job_dir: str, status: states.Status, listed: list[str], payload_limit: int) -> Job:
    """Put a job together. ``listed`` is the listing that ``status`` was read from.

    Its files' fields are put into one map, and that is checked once. Raises FileNotFoundError, Damaged.
    """
    try:
        return read_fields(Job, _job_fields(job_dir, status, listed, payload_limit, trusting=True), job_dir)
    except Damaged:
        # What a handler left beside its result must not hide the job: so without what is no claim, report or artifact.
        return read_fields(Job, _job_fields(job_dir, status, listed, payload_limit, trusting=False), job_dir)


def _job_fields(job_dir: str, status: states.Status, listed: list[str], payload_limit: int, trusting: bool) -> Fields:
    request, payload = _request(job_dir, payload_limit)
    result = accepted_result(job_dir, status)
    numbers = [number for number in paths.attempts_of(listed) if number <= status.attempt]
    read = [_attempt(job_dir, number, status, listed, result, trusting) for number in numbers]
    attempts = [attempt for attempt, _ in read]
    last, progress = read[-1] if read and attempts[-1]["attempt"] == status.attempt else (_NO_ATTEMPT, None)
    # The server's clock may tick in steps of some milliseconds: no job was heard of before it was claimed.
    touched = durations.rfc3339(_time_of(looking.modified, job_dir, status) * 1000) if status.attempt else None
    touched = max(touched, str(last.get("claimedAt") or "")) if touched else None
    completed = _completed_at(job_dir, status, result)
    error = result.get("error") if result else _error(job_dir, status)
    times = (request.get("createdAt"), touched, completed, progress["updatedAt"] if progress else None)
    return {
        **request,
        "status": states.reported(status.state, progress["status"] if progress else _in_process(last)),
        "payload": jsonio.parse(payload, f"{job_dir}/{paths.PAYLOAD}"),
        "batchId": ids.batch_of(request["jobId"]),
        "attempt": status.attempt,
        "startedAt": last["startedAt"],
        "updatedAt": max((time for time in times if isinstance(time, str)), default=None),
        "completedAt": completed,
        "lastHeartbeatAt": touched,
        "workerId": last.get("workerId"),
        "workerLabels": last.get("workerLabels", {}),
        "progress": progress,
        "resultSummary": result.get("summary") if result else (error["message"] if error else None),
        "outputs": result.get("outputs") if result else {},
        "metrics": result.get("metrics") if result else {},
        "artifacts": _artifacts(job_dir, status, result),
        "error": error,
        "result": {name: value for name, value in result.items() if name != "claim"} if result else None,
        "attempts": attempts,
        "cancelRequested": paths.CANCEL in listed,
    }


_NO_ATTEMPT: Fields = {"startedAt": None}


def _attempt(
    job_dir: str, number: int, status: states.Status, listed: list[str], result: Fields | None, trusting: bool
) -> tuple[Fields, Fields | None]:
    name = paths.claim_name(number)
    claim = (_claim(job_dir, number) if name in listed else None) or {}
    if not claim and result and number == status.attempt and isinstance(result.get("claim"), dict):
        claim = result["claim"]
    if not trusting:
        claim = _sound_claim(claim, name)
    progress, started = None, None
    if paths.attempt_name(number) in listed:
        progress, started = _progress(job_dir, number, trusting, status.state == states.LEASED)
    fields: Fields = {
        "attempt": number,
        "startedAt": started or claim.get("startedAt"),
        "status": status.state,
        **{name: claim[name] for name in ("workerId", "workerLabels", "leaseMs", "claimedAt") if name in claim},
    }
    if number < status.attempt or status.state in (states.QUEUED, states.TIMED_OUT):
        fields["status"] = "lost"
    elif status.state == states.LEASED:
        fields["status"] = states.reported(states.LEASED, progress["status"] if progress else _in_process(fields))
    elif result:
        fields |= {"completedAt": result.get("completedAt"), "error": result.get("error")}
    return fields, progress


def _sound_claim(claim: Fields, name: str) -> Fields:
    try:
        return claim if claim and read_fields(ClaimRecord, claim, name) else {}
    except Damaged:
        return {}


def _in_process(last: Fields) -> str | None:
    return states.STARTED if last["startedAt"] else None


def _artifacts(job_dir: str, status: states.Status, result: Fields | None) -> Any:
    if result:
        return result.get("artifacts")
    # RACE: a worker that does not know yet that it lost the lease may attach something to a job that ended without a
    # result. It was not accepted, and what was handed out must not change.
    if status.state != states.LEASED:
        return []
    try:
        looking.check_no_link(job_dir, paths.attempt_name(status.attempt))
        return outputs.attached(f"{job_dir}/{paths.attempt_name(status.attempt)}")
    except SpoolError:
        return []  # the list of an attempt that nobody finished, torn by a power cut


def _completed_at(job_dir: str, status: states.Status, result: Fields | None) -> Any:
    if not status.is_terminal:
        return None
    # A job that no worker ended has no result: it ended when its status file was renamed.
    return result.get("completedAt") if result else durations.rfc3339(_time_of(looking.changed, job_dir, status) * 1000)


def _time_of(clock: Any, job_dir: str, status: states.Status) -> float:
    """A time of the status file; when it has been renamed meanwhile, the caller's answer is a moment old."""
    seconds: float = clock(f"{job_dir}/{status.name}")
    return seconds


def _error(job_dir: str, status: states.Status) -> Fields | None:
    if status.state == states.TIMED_OUT:
        # RACE: nothing of the last claim is told. A worker that lost the lease between its rename and its claim.json
        # writes that later, and what was handed out must not change.
        return {
            "message": f"the lease of attempt {status.attempt} was lost and no attempt is left",
            "code": states.TIMED_OUT,
            "details": {"attempts": status.attempt},
        }
    if status.state == states.CANCELLED:
        return {"message": cancel_message(job_dir), "code": states.CANCELLED}
    return None


def cancel_message(job_dir: str) -> str:
    """Who cancelled a job, and why, in a sentence."""
    request = load_cancel(job_dir) or load_cancel(os.path.dirname(job_dir))  # the latter of its batch
    by = f" by {request.requested_by}" if request and request.requested_by else ""
    reason = f": {request.reason}" if request and request.reason else ""
    return f"cancelled{by}{reason}"


def load_cancel(job_dir: str) -> CancelRecord | None:
    """The request to cancel a job; None when there is none or it cannot be read."""
    path = f"{job_dir}/{paths.CANCEL}"
    try:
        return read_record(CancelRecord, looking.read(path, RECORD_LIMIT), path)
    except (FileNotFoundError, Damaged):
        return None
