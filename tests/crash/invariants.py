"""What must hold in every spool, whatever died in it, and whoever raced."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from breyta_spool import Spool, SpoolError, batches, ids, jobs, paths, states
from breyta_spool.index import DANGLING_SECONDS
from breyta_spool.states import Status


def violations(spool: Spool, acknowledged: Iterable[str] = (), *, settled: bool = False) -> list[str]:
    """What is wrong with a spool, in words; empty when nothing is.

    ``acknowledged`` are the jobs whose submit returned. ``settled``: the leases of the dead were taken back and what
    waited was done, so the index must be right, too. What crashed submitters leave in tmp/ is allowed: workers sweep
    it when it is a day old.
    """
    found = dict(_statuses(spool))
    wrong = [f"{job_id} was acknowledged and is not there" for job_id in acknowledged if job_id not in found]
    for job_id, names in found.items():
        wrong += [f"{job_id}: {what}" for what in _of_job(spool, job_id, names)]
    for place in Path(spool.root, "jobs").glob("*/*/batch-*"):
        wrong += [f"{place.name}: {what}" for what in _of_batch(spool, place, found)]
    wrong += _of_entries(spool, found, settled)
    return wrong


def job_ids(spool: Spool) -> list[str]:
    """Every job that is there, by its directory."""
    return sorted(job_id for job_id, _ in _statuses(spool))


def status_of(spool: Spool, job_id: str) -> Status:
    """The status of a job that has exactly one."""
    (name,) = _status_names(Path(spool.tree.job(job_id)))
    status = states.parse(name)
    assert status is not None, name
    return status


def _statuses(spool: Spool) -> Iterator[tuple[str, list[str]]]:
    for place in ("*/*/job-*", "*/*/batch-*/job-*"):
        for directory in Path(spool.root, "jobs").glob(place):
            if ids.is_job_id(directory.name):
                yield directory.name, _status_names(directory)


def _status_names(job_dir: Path) -> list[str]:
    return [path.name for path in job_dir.iterdir() if path.name.startswith(states.PREFIX)]


def dangling_buckets(spool: Spool) -> list[Path]:
    """The buckets of batches that are not there."""
    buckets = Path(spool.root).glob("*/*/batch-*")
    return [
        bucket for bucket in buckets if bucket.parts[-3] != "jobs" and not os.path.exists(spool.tree.batch(bucket.name))
    ]


# -- one batch --------------------------------------------------------------------------------------


def _of_batch(spool: Spool, place: Path, found: dict[str, list[str]]) -> Iterator[str]:
    """All of it is there, or was set aside because it was damaged."""
    try:
        record = batches.load(spool.claims, place.name)
    except SpoolError as error:
        yield f"it cannot be read: {error}"
        return
    members = {ids.job_in_batch(place.name, number) for number in range(1, record.requested_count + 1)}
    for job_id in sorted(members - found.keys()):
        if not os.path.exists(spool.tree.set_aside(job_id)):
            yield f"{job_id} is not there"
    known = {paths.BATCH, paths.CANCEL, *members}
    yield from (
        f"there is a strange {path.name}" for path in place.iterdir() if path.name not in known and path.name[0] != "."
    )


# -- one job ----------------------------------------------------------------------------------------


def _of_job(spool: Spool, job_id: str, names: list[str]) -> Iterator[str]:
    parsed = [states.parse(name) for name in names]
    if len(parsed) != 1 or parsed[0] is None:
        yield f"its status files are {names}"
        return
    status, job_dir = parsed[0], spool.tree.job(job_id)
    try:
        request, _ = jobs.load_request(job_dir, spool.settings.payload_limit_bytes)
        job = spool.get(job_id)
    except (SpoolError, OSError) as error:
        yield f"{status.name}, but it cannot be read: {error}"
        return
    if status.attempt > request.max_attempts:
        yield f"attempt {status.attempt} of at most {request.max_attempts}"
    if job.is_terminal != status.is_terminal or (status.is_terminal and job.status != status.state):
        yield f"{status.name} shows as {job.status}"
    if job.result is not None and (job.result["status"], job.result["attempt"]) != (status.state, status.attempt):
        yield f"{status.name} shows the result of an attempt that did not count: {job.result['status']}"
    if jobs.needs_result(status):
        yield from _of_result(Path(job_dir), job_id, status)
    elif status.state == states.TIMED_OUT and (job.error is None or job.outputs):
        yield f"{status.name} shows no error, or outputs {job.outputs}"


def _of_result(job_dir: Path, job_id: str, status: Status) -> Iterator[str]:
    attempt = job_dir / paths.attempt_name(status.attempt)
    result = jobs.load_result(str(job_dir), status.attempt)
    if result is None:
        yield f"{status.name} without a result"
        return
    if (result.job_id, result.attempt, result.status) != (job_id, status.attempt, status.state):
        yield f"{status.name} has the result of {result.job_id}, attempt {result.attempt}: {result.status}"
    for described in result.artifacts:
        yield from _of_artifact(attempt / paths.ARTIFACTS, described)
    for name in (paths.RESULT, paths.ARTIFACTS):
        link = job_dir / name
        if link.is_symlink() and os.path.realpath(link) != os.path.realpath(attempt / name):
            yield f"{name} is a link to {link.readlink()}"


def _of_artifact(artifacts: Path, described: Any) -> Iterator[str]:
    uri = str(described.get("resourceUri"))
    kind, _, resource = uri.removeprefix("res://v1/ws/").partition("/")[2].rpartition("/")
    name = unquote(resource).split(".", 2)[-1]
    places = {"file": name, "result/kv": f"kv/{name}.json", "result/table": f"tables/{name}.jsonl"}
    if kind not in places:
        return  # it lies elsewhere
    try:
        data = (artifacts / places[kind]).read_bytes()
    except FileNotFoundError:
        yield f"the artifact {uri} is not there"
        return
    if "sha256" in described and (described["sizeBytes"], described["sha256"]) != (
        len(data),
        hashlib.sha256(data).hexdigest(),
    ):
        yield f"the artifact {uri} is not what the result says"
    if kind == "result/table":
        yield from _of_rows(uri, data, described["rowCount"])
    if kind == "result/kv":
        json.loads(data)


def _of_rows(uri: str, data: bytes, count: int) -> Iterator[str]:
    try:
        rows = [json.loads(line) for line in data.splitlines()]
    except ValueError:
        yield f"the table {uri} has a torn row"
        return
    if len(rows) != count:
        yield f"the table {uri} has {len(rows)} rows and says {count}"


# -- the index --------------------------------------------------------------------------------------


def _of_entries(spool: Spool, found: dict[str, list[str]], settled: bool) -> Iterator[str]:
    entries: dict[str, list[Path]] = {}
    for entry in Path(spool.root).glob("*/*/*/job-*"):
        if entry.is_symlink():
            entries.setdefault(entry.name, []).append(entry)
    for job_id in entries.keys() - found.keys():
        yield from (f"{e} dangles and is old" for e in entries[job_id] if _age(e) > DANGLING_SECONDS)
    if settled:
        yield from (f"{b} dangles and is old" for b in dangling_buckets(spool) if _age(b) > DANGLING_SECONDS)
        for job_id, names in found.items():
            yield from _of_entry(spool, job_id, names, entries.get(job_id, []))


def _of_entry(spool: Spool, job_id: str, names: list[str], entries: list[Path]) -> Iterator[str]:
    status = states.parse(names[0]) if len(names) == 1 else None
    if status is None:
        return  # said already
    request, _ = jobs.load_request(spool.tree.job(job_id), spool.settings.payload_limit_bytes)
    right = spool.tree.entry(paths.list_of(status, request.job_type), job_id)
    if [str(entry) for entry in entries] != [right]:
        yield f"{job_id}: {status.name} is listed in {[str(e.relative_to(spool.root).parent) for e in entries]}"
    for entry in entries:
        if os.path.realpath(entry) != os.path.realpath(spool.tree.job(job_id)):
            yield f"{entry} is a link to {entry.readlink()}"


def _age(entry: Path) -> float:
    return time.time() - entry.lstat().st_mtime
