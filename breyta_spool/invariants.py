"""What must hold of a job, of a batch and of their entries, whatever died and whoever raced: each rule once.

``spool check`` and the tests ask here, ``spool repair`` mends what is told. Reads only. What is seen of a spool that
others change may be wrong the next moment, so a problem counts only if a second look sees the same one.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

from breyta_spool import addresses, ids, jobs, looking, paths, snapshot, states, values
from breyta_spool.addresses import Address
from breyta_spool.errors import Damaged, InvalidInput, SpoolError
from breyta_spool.index import DANGLING_SECONDS, Index, status_in
from breyta_spool.records import BatchRecord, JobRecord, ResultRecord, SpoolRecord, read_fields, read_record
from breyta_spool.states import Status

LATE_SECONDS = 60.0
"""How long after its lease ran out a job must still be leased to count as forgotten: reapers look every 30 s."""

Names = list[str]
Lists = tuple[str, ...]


class Problem(NamedTuple):
    """A rule that is broken. Two looks that saw the same give equal problems."""

    code: str
    id: str
    """The job or batch, or the name of what is there."""
    place: str
    """Where, below the spool's root."""
    what: str
    """What was seen, in words."""


class Rules:
    """The rules for one spool. ``contents``: what is in the files is checked too, not only which files there are."""

    def __init__(self, index: Index, settings: SpoolRecord, contents: bool = False) -> None:
        self.index = index
        self.tree = index.tree
        self.settings = settings
        self.contents = contents
        self.now = 0.0
        """The file server's time, in seconds; the caller sets it before each round of looks."""
        self._plain = dict(_plain_states())

    # -- a job --------------------------------------------------------------------------------------

    def holds(self, job_dir: str, listed: Names, lists: Lists) -> bool:
        """Whether a job is plainly well, by the names in its directory and the lists it is in. Cheap.

        False means nothing yet: ``of_job`` tells.
        """
        status = ""
        for name in listed:
            if name[:7] == states.PREFIX:
                if status:
                    return False
                status = name
        plain = self._plain.get(status)
        if plain is None or len(lists) != 1 or paths.JOB not in listed or paths.PAYLOAD not in listed:
            return False
        kind, needs_result = plain
        if not lists[0].startswith(kind):
            return False
        if not needs_result:
            return True
        try:
            result = os.lstat(f"{job_dir}/{paths.result_name(1)}")
        except OSError:
            return False
        return paths.RESULT in listed and stat.S_ISREG(result.st_mode) and result.st_size > 0

    def of_job(self, job_id: str, lists: Lists) -> list[Problem]:
        """What is wrong with a job, by a look of its own; nothing when it is not there. Raises OSError."""
        job_dir = self.tree.job(job_id)
        listed = looking.names_if_any(job_dir)
        if not listed:
            return []
        return [Problem(code, job_id, paths.job_place(job_id), what) for code, what in self._job(job_id, listed, lists)]

    def _job(self, job_id: str, listed: Names, lists: Lists) -> Iterator[tuple[str, str]]:
        job_dir = self.tree.job(job_id)
        try:
            request = self.request(job_dir)
        except Damaged as error:
            yield "request-damaged", error.message
            request = None
        named = sorted(name for name in listed if name.startswith(states.PREFIX))
        try:
            status = status_in(job_dir, listed)
        except Damaged:
            yield "status-unclear", f"its status files are {named}"
            return
        if status is None:
            return  # it has gone meanwhile
        if not all(map(states.parse, named)):
            yield "status-unclear", f"its status files are {named}"
        if request is not None:
            if status.attempt > request.max_attempts:
                yield "attempts-exceeded", f"{status.name}, and at most {request.max_attempts} attempts were asked for"
            yield from self._entries(status, request.job_type, lists)
        if status.state == states.LEASED:
            yield from self._lease(job_dir, status)
        yield from self._end(job_dir, status, listed)

    def request(self, job_dir: str) -> JobRecord:
        """What was asked for, checked against its payload. Raises Damaged."""
        return jobs.load_request(job_dir, self.settings.payload_limit_bytes)[0]

    def _entries(self, status: Status, job_type: str, lists: Lists) -> Iterator[tuple[str, str]]:
        right = paths.list_of(status, job_type)
        if not lists:
            yield "entry-missing", f"it is {status.state} and in no list; it belongs in {right}"
        elif right not in lists:
            yield "entry-elsewhere", f"it is {status.state} and listed in {', '.join(lists)}; it belongs in {right}"
        elif len(lists) > 1:
            yield "entry-twice", f"it is listed in {', '.join(lists)}; it belongs in {right} alone"

    def _lease(self, job_dir: str, status: Status) -> Iterator[tuple[str, str]]:
        claim = jobs.load_claim(job_dir, status.attempt)
        lease = (claim.lease_ms if claim else self.settings.default_lease_ms) / 1000
        with suppress(FileNotFoundError):  # it has been renamed meanwhile
            late = self.now - looking.modified(f"{job_dir}/{status.name}") - lease
            if late > LATE_SECONDS:
                by = f" of {claim.worker_id}" if claim else ""
                yield "lease-forgotten", f"the lease{by} ran out (attempt {status.attempt}), and nobody took it back"

    def _end(self, job_dir: str, status: Status, listed: Names) -> Iterator[tuple[str, str]]:
        """A job that has ended has its result, and links to it; one that has not has no such links."""
        attempt = f"{job_dir}/{paths.attempt_name(status.attempt)}"
        try:
            accepted = jobs.accepted_result(job_dir, status)
            if self.contents and accepted is not None:
                read_fields(ResultRecord, accepted, f"{job_dir}/{paths.result_name(status.attempt)}")
        except Damaged as error:
            yield "result-damaged", error.message
            return
        if accepted is None:
            return
        missing = [paths.RESULT] if paths.RESULT not in listed else []
        if paths.ARTIFACTS not in listed and accepted.get("artifacts") and os.path.isdir(f"{attempt}/artifacts"):
            missing.append(paths.ARTIFACTS)
        if missing:
            yield "links-missing", f"it ended as {status.state}, and has no link {' and '.join(missing)} to what counts"
        if self.contents:
            yield from self._links(job_dir, status, listed)
            yield from self._artifacts(job_dir, accepted.get("artifacts", []))

    def _links(self, job_dir: str, status: Status, listed: Names) -> Iterator[tuple[str, str]]:
        artifacts = f"{paths.attempt_name(status.attempt)}/{paths.ARTIFACTS}"
        for name, right in ((paths.RESULT, paths.result_name(status.attempt)), (paths.ARTIFACTS, artifacts)):
            if name in listed:
                target = link_target(f"{job_dir}/{name}")
                if target != right:
                    yield "link-wrong", f"{name} is {f'a link to {target}' if target else 'not a link'}"

    # -- artifacts ----------------------------------------------------------------------------------

    def _artifacts(self, job_dir: str, artifacts: list[Any]) -> Iterator[tuple[str, str]]:
        for described in artifacts:
            address = self._own_address(described, job_dir)
            if address is not None and isinstance(described, dict):
                try:
                    self._artifact(job_dir, address, described)
                except FileNotFoundError:
                    yield "artifact-damaged", f"{address.uri} is not there"
                except SpoolError as error:
                    yield "artifact-damaged", f"{address.uri}: {error.message}"

    def _own_address(self, described: Any, job_dir: str) -> Address | None:
        """The address of an artifact that was attached to this job; None for one that lies elsewhere."""
        if not isinstance(described, dict) or not isinstance(described.get("resourceUri"), str):
            return None
        try:
            address = addresses.parse(described["resourceUri"])
        except InvalidInput:
            return None  # a handler may name anything
        return address if address.job_id == os.path.basename(job_dir) else None

    def _artifact(self, job_dir: str, address: Address, described: dict[str, Any]) -> None:
        """Raise Damaged or FileNotFoundError when an artifact is not what its job's result says."""
        if address.type == addresses.KV:
            if described.get("expiresAt") is None:  # else it may have been swept
                values.load(job_dir, address)
            return
        if "sha256" in described:
            with open(looking.open_below(job_dir, address.place), "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                found = (file.tell(), digest)
            if found != (described.get("sizeBytes"), described["sha256"]):
                raise Damaged("its size or sha256 is not what the result says")
        if address.type == addresses.TABLE:
            with snapshot.OpenTable(job_dir, address) as table:
                if table.meta["rowCount"] != described.get("rowCount", table.meta["rowCount"]):
                    raise Damaged(f"it has {table.meta['rowCount']} rows, and the result says {described['rowCount']}")

    # -- entries, batches ---------------------------------------------------------------------------

    def of_entry(self, bucket: str, name: str, lists: Lists) -> list[Problem]:
        """What is wrong with a name in a bucket that no job directory in its place belongs to."""
        return [problem for index_list in lists for problem in self._entry(index_list, bucket, name)]

    def _entry(self, index_list: str, bucket: str, name: str) -> Iterator[Problem]:
        place = f"{index_list}/{bucket}/{name}"
        if not ids.is_job_id(name):
            yield Problem("foreign", name, place, "it is not the id of a job")
            return
        if paths.bucket_of(name) != bucket:
            yield Problem("foreign", name, place, f"it belongs into a bucket {paths.bucket_of(name)}")
            return
        with suppress(FileNotFoundError):
            if self.now - os.lstat(self.tree.top(place)).st_mtime > DANGLING_SECONDS:
                yield Problem("entry-dangling", name, place, "there is no such job, and it is older than an hour")

    def of_bucket(self, batch_id: str, lists: Iterable[str]) -> Iterator[Problem]:
        """What is wrong with the buckets of a batch that is not there."""
        for index_list in lists:
            place = f"{index_list}/{batch_id}"
            with suppress(FileNotFoundError):
                if self.now - looking.modified(self.tree.top(place)) > DANGLING_SECONDS:
                    yield Problem(
                        "bucket-dangling", batch_id, place, "there is no such batch, and it is over an hour old"
                    )

    def of_link(self, bucket: str, job_id: str, lists: Lists) -> list[Problem]:
        """What is wrong with where the entries of a job lead; looked at with ``contents`` only."""
        problems = []
        for index_list in lists:
            place = f"{index_list}/{bucket}/{job_id}"
            try:
                target = link_target(self.tree.top(place))
            except FileNotFoundError:
                continue
            if target != paths.entry_target(job_id):
                what = f"it is {f'a link to {target}' if target else 'not a link'}, not one to its job"
                problems.append(Problem("entry-wrong", job_id, place, what))
        return problems

    def of_batch(self, batch_id: str, listed: Iterable[str], set_aside: frozenset[str]) -> list[Problem]:
        """What is wrong with a batch as a whole, by the names in its directory. Raises OSError."""
        place = paths.batch_place(batch_id)
        path = f"{self.tree.root}/{place}/{paths.BATCH}"
        try:
            record = read_record(BatchRecord, looking.read(path, jobs.RECORD_LIMIT), path)
            if record.batch_id != batch_id:
                raise Damaged(f"{path} speaks of another batch, {record.batch_id!r}", path=path)
        except FileNotFoundError:
            return [Problem("batch-damaged", batch_id, place, f"{paths.BATCH} is missing")]
        except Damaged as error:
            return [Problem("batch-damaged", batch_id, place, error.message)]
        there = {name for name in listed if ids.is_job_id(name)}
        if len(there) == record.requested_count:
            return []
        members = (ids.job_in_batch(batch_id, number) for number in range(1, record.requested_count + 1))
        missing = [job_id for job_id in members if job_id not in there and job_id not in set_aside]
        what = f"{len(missing)} of its {record.requested_count} jobs are not there, the first of them {missing[:1]}"
        return [Problem("batch-incomplete", batch_id, place, what)] if missing else []


def link_target(path: str) -> str:
    """Where a symlink leads; empty for what is none. Raises FileNotFoundError."""
    try:
        return os.readlink(path)
    except FileNotFoundError:
        raise
    except OSError:
        return ""


def _plain_states() -> Iterator[tuple[str, tuple[str, bool]]]:
    """Names of status files with which a job is well if it is in a list that begins so, and has a result if it must."""
    yield Status(states.QUEUED, 0).name, ("queued/", False)
    for state in states.TERMINAL:
        for attempt in (0, 1):
            status = Status(state, attempt)
            if attempt or state == states.CANCELLED:
                yield status.name, (paths.finished(state, ""), jobs.needs_result(status))
