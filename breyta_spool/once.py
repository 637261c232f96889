"""Idempotency keys: of all who submit with the same key, now or later, one makes the job, and all get it.

A key is a symlink, named by the key's sha256, to the job that was reserved for it. The reservation comes before the
job; if its maker dies in between, the next one with the key makes the job, under the same id. Who publishes the job's
directory first has made it: the rename of another onto it fails.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from breyta_spool import files, finishing, ids, jobs, jsonio, looking, owners, paths, states, submitting
from breyta_spool.claims import Claims
from breyta_spool.errors import Conflict, Damaged, InvalidInput, SpoolError, doing
from breyta_spool.index import status_in
from breyta_spool.records import JobRecord

KEY_LIMIT = 500
"""The most characters of a key."""


def submit(claims: Claims, key: str, job_type: str, payload: Any, given: dict[str, Any]) -> tuple[str, bool]:
    """Submit a job unless one was submitted with this key; gives its id, and whether it was made now.

    Returned, the job is accepted and, in a durable spool, on the disk. What an existing job was asked for counts, not
    what is asked for now. Raises InvalidInput, Conflict when it is of another type, StorageError.
    """
    link = claims.tree.idempotency(_digest(key))
    submitting.build_request(
        claims.settings, ids.new_job_id(), job_type, payload, given
    )  # wrong input reserves nothing
    for _ in range(20):
        with doing("submit the job"):
            job_id = _reserved(claims, link)
            found = _existing(claims, job_id)
        if found is not None:
            _vouch_for(claims, found, job_type, link)
            return job_id, False
        if _make(claims, link, *submitting.build_request(claims.settings, job_id, job_type, payload, given)):
            return job_id, True
    raise SpoolError("the job of this idempotency key comes and goes", hint="try again")


def _vouch_for(claims: Claims, found: JobRecord, job_type: str, link: str) -> None:
    if found.job_type != job_type:
        what = f"the idempotency key belongs to {found.job_id}, a job of type {found.job_type}, not {job_type}"
        raise Conflict(what, hint="use another key for other work", jobId=found.job_id)
    with doing(f"make {found.job_id} durable"):
        # DURABLE: whoever made it may not have come to its own barrier.
        claims.commit(lambda: _written(claims, found.job_id, job_type, link))


def _written(claims: Claims, job_id: str, job_type: str, link: str) -> Iterator[str]:
    """The job of a key as far as it has come, and the key, for a barrier that syncs each."""
    status = status_in(claims.tree.job(job_id))
    yield from claims.written_of(job_id, status.attempt if status else 0)
    bucket = claims.tree.bucket(paths.queued(job_type), job_id)
    yield from finishing.with_parents(bucket, os.path.dirname(link), root=claims.tree.root)


def _digest(key: str) -> str:
    if not isinstance(key, str) or not 1 <= len(key) <= KEY_LIMIT:
        raise InvalidInput(f"idempotencyKey: a text of 1 to {KEY_LIMIT} characters", field="idempotencyKey")
    return hashlib.sha256(jsonio.compact(key, "idempotencyKey")).hexdigest()


def _reserved(claims: Claims, link: str) -> str:
    """The id that a key stands for; a new one is reserved when it stands for none yet."""
    while True:
        try:
            target = os.readlink(link)
        except FileNotFoundError:
            target = paths.key_target(ids.new_job_id())
            try:
                files.symlink(target, link)
            except FileExistsError:
                continue  # RACE: somebody else was faster, or it is ours and the reply was lost
            except FileNotFoundError:
                claims.index.make_dirs(os.path.dirname(link))
                continue
        job_id = target.rpartition("/")[2]
        if not ids.is_job_id(job_id) or target != paths.key_target(job_id):
            raise Damaged(f"{link} does not lead to a job", hint="remove it if nobody knows why", path=link)
        return job_id


def _existing(claims: Claims, job_id: str) -> JobRecord | None:
    """What the job was asked for, None when it is not there. One that a power cut has torn is set aside."""
    job_dir = claims.index.job_dir(job_id)
    listed = looking.names_if_any(job_dir)
    status = status_in(job_dir, listed)
    if status is None:
        if listed:  # it was renamed into place as a whole
            hint = "'breyta spool repair' sets it aside, and the key is free again"
            raise Damaged(f"{job_dir} has lost its status file", hint=hint, path=job_dir)
        return None
    try:
        return jobs.load_request(job_dir, claims.settings.payload_limit_bytes)[0]
    except Damaged as error:
        if status.state != states.QUEUED or status.attempt:
            raise
        claims.set_aside(job_id, str(error))
        return None


def _make(claims: Claims, link: str, request: dict[str, Any], payload: bytes) -> bool:
    """Publish the job of a reservation; whether it was us."""
    job_id, job_type = request["jobId"], request["jobType"]
    place, name = claims.tree.job(job_id), owners.marked(f"{job_id}.{ids.new_token()}")
    staged = claims.tree.staged(name)
    with doing("submit the job"):
        try:
            submitting.make_staged(claims, staged)
            submitting.stage(staged, request, payload)
            claims.index.add(job_id, job_type)
            submitting.move_into_place(claims, staged, place)
        finally:
            # Also when somebody else was faster. The entry stays: it may be his by now, and an old one is dropped.
            lost = name in looking.names_if_any(claims.tree.top("tmp"))
            if lost:
                files.sweep(staged)
    if lost:
        return False
    with suppress(OSError, SpoolError):
        # RACE: the entry may be that of a submitter who died long ago, and have been dropped as we published.
        if status_in(place) == states.Status(states.QUEUED, 0):
            claims.index.add(job_id, job_type)
    claims.index.ring(job_type)
    with doing(f"make {job_id} durable; it was submitted, and runs unless the power fails"):
        claims.commit(lambda: _written(claims, job_id, job_type, link))
    return True
