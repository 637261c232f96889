"""Submitting: a request is checked, built aside, and published by one rename."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from breyta_spool import durations, files, finishing, ids, jsonio, looking, owners, paths, states
from breyta_spool.claims import Claims
from breyta_spool.errors import InvalidInput, doing, shown
from breyta_spool.records import SpoolRecord
from breyta_spool.states import Status

STALLED_SECONDS = 600
"""A submit that took longer than this looks whether its queue entry is still there (the reaper drops old ones)."""
METADATA_LIMIT = 1 << 20


def build_request(
    settings: SpoolRecord, job_id: str, job_type: str, payload: Any, given: Mapping[str, Any]
) -> tuple[dict[str, Any], bytes]:
    """The fields of job.json and the bytes of payload.json for a new job. Raises InvalidInput.

    ``given`` holds what else the submitter said, by the names of ``Spool.submit``.
    """
    paths.check_job_type(job_type)
    data = jsonio.compact(payload, "payload")
    if len(data) > settings.payload_limit_bytes:
        raise InvalidInput(
            f"payload: {len(data)} bytes; the limit of this spool is {settings.payload_limit_bytes}",
            hint="put large data in a file that workers can read, and its path in the payload",
            field="payload",
        )
    jsonio.check_depth_of(data, payload, "payload")
    request = {
        "jobId": job_id,
        "jobType": job_type,
        "workspaceId": settings.workspace_id,
        "createdAt": durations.rfc3339(ids.created_ms(job_id)),
        "maxAttempts": settings.default_max_attempts,
        "payloadBytes": len(data),
        "payloadSha256": hashlib.sha256(data).hexdigest(),
    }
    if given:
        request |= said_of(given)
    return request, data


def said_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """What a submitter said beside type and payload, as records have it: only what he did say. Raises InvalidInput."""
    said = {
        "maxAttempts": _count("maxAttempts", given.get("max_attempts")),
        "metadata": checked_metadata(given.get("metadata")) or None,
        "rootWorkflowId": _text("rootWorkflowId", given.get("root_workflow_id")),
        "parentStepId": _text("parentStepId", given.get("parent_step_id")),
        "fanoutParentStepId": _text("fanoutParentStepId", given.get("fanout_parent_step_id")),
        "fanoutMaxConcurrency": _count("fanoutMaxConcurrency", given.get("fanout_max_concurrency")),
        "retryOf": _text("retryOf", given.get("retry_of")),
    }
    return {name: value for name, value in said.items() if value is not None}


def publish(claims: Claims, request: dict[str, Any], payload: bytes) -> None:
    """Put a job into the spool; returned, it is accepted. Raises StorageError; then see its message.

    Before the rename of its directory there is no job, whatever else is there: an entry in the queue that leads
    nowhere is passed over. So the entry comes first, and no job is ever without one.
    """
    job_id, job_type = request["jobId"], request["jobType"]
    staged, place = claims.tree.staged(owners.marked(job_id)), claims.tree.job(job_id)
    began = time.time()
    with doing("submit the job"):
        entry = ""
        try:
            make_staged(claims, staged)
            stage(staged, request, payload)
            entry = claims.index.add(job_id, job_type)
            move_into_place(claims, staged, place)
        except BaseException:
            _withdraw(staged, place, entry)
            raise
    if abs(time.time() - began) > STALLED_SECONDS:
        with suppress(OSError):
            # RACE: the reaper drops old entries that lead nowhere, and this one did for long.
            claims.index.add(job_id, job_type)
    claims.index.ring(job_type)
    with doing(f"make {job_id} durable; it was submitted, and runs unless the power fails"):
        # DURABLE: one barrier after the last rename. A job torn before it was acknowledged recognises itself.
        claims.commit(lambda: written(place, os.path.dirname(entry), claims.tree.root))


def make_staged(claims: Claims, staged: str) -> None:
    """Make a directory in tmp/ to build something in."""
    try:
        files.make_own_dir(staged)
    except FileNotFoundError:
        claims.index.make_dirs(staged)  # a spool that was copied without its empty directories


def stage(staged: str, request: dict[str, Any], payload: bytes) -> None:
    """Write a new job's files into the directory that becomes its own."""
    files.write_new(f"{staged}/{paths.JOB}", jsonio.record(request))
    files.write_new(f"{staged}/{paths.PAYLOAD}", payload)
    files.make_empty(f"{staged}/{_NEW}")


_NEW = Status(states.QUEUED, 0).name


def move_into_place(claims: Claims, staged: str, place: str) -> None:
    """Publish what was staged; the directory above its place is made when it is missing."""
    claims.index.check_way(place.rpartition("/")[0])
    try:
        files.publish(staged, place)
    except FileNotFoundError:
        claims.index.make_dirs(os.path.dirname(place))
        files.publish(staged, place)


def _withdraw(staged: str, place: str, entry: str) -> None:
    """Leave nothing of a submit that failed before its job was published."""
    with suppress(OSError):
        if os.path.basename(place) not in looking.names_if_any(os.path.dirname(place)):
            files.sweep(staged)
            if entry:
                files.unlink(entry)


def _count(field: str, given: int | None) -> int | None:
    if given is None:
        return None
    if not isinstance(given, int) or isinstance(given, bool) or not 1 <= given <= 100_000:
        raise InvalidInput(f"{field}: {shown(given)} is not a whole number from 1 to 100000", field=field)
    return given


def _text(field: str, given: str | None) -> str | None:
    if given is None:
        return None
    if not isinstance(given, str):
        raise InvalidInput(f"{field}: expected a text, not {jsonio.kind_of(given)}", field=field)
    if not 1 <= len(given) <= 500:
        raise InvalidInput(f"{field}: a text of 1 to 500 characters, this one has {len(given)}", field=field)
    jsonio.compact(given, field)
    return given


def checked_metadata(given: Mapping[str, Any] | None, field: str = "metadata") -> dict[str, Any]:
    """Metadata, or a worker's labels, as records hold them. Raises InvalidInput."""
    if given is not None and not isinstance(given, Mapping):
        raise InvalidInput(f"{field} must be an object, not {jsonio.kind_of(given)}", field=field)
    metadata = dict(given or {})
    jsonio.check_depth(metadata, field)
    if metadata and len(jsonio.compact(metadata, field)) > METADATA_LIMIT:
        raise InvalidInput(f"{field}: more than {METADATA_LIMIT} bytes", field=field)
    return metadata


def written(place: str, bucket: str, root: str) -> Iterator[str]:
    """A new job's files, and every directory up to the root, for such a barrier."""
    yield from (f"{place}/{name}" for name in (paths.JOB, paths.PAYLOAD))
    yield from finishing.with_parents(place, bucket, root=root)
