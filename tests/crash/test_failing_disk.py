"""Let each change to the disk fail in turn, and look that the system goes on once the fault is gone."""

from __future__ import annotations

import errno
import itertools
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from breyta_spool import Spool, SpoolError, StorageError, files, states
from breyta_spool.claims import Claims
from breyta_spool.handler import ActiveJob, PythonHandler
from breyta_spool.results import Outcome
from breyta_spool.states import Status
from breyta_spool.worker import Settings, Tally, Worker
from tests.crash import worlds
from tests.crash.invariants import job_ids, status_of, violations
from tests.crash.worlds import TYPE, World, settle, settled
from tests.tried import TRIED

ONCE = [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS, errno.ESTALE]
NEEDS_ROOM = {"mkdir", "create", "write", "append", "symlink"}


@dataclass
class Failed:
    """What an operation answered in place of a result."""

    error: SpoolError | OSError


class Fault:
    """A hook that lets the mutation number ``at`` fail, once or until it is mended; ``spare`` never does."""

    def __init__(self, code: int, at: int, lasting: bool, spare: str = "") -> None:
        self.what = ""
        self._code = code
        self._left = at
        self._lasting = lasting
        self._spare = spare

    def __call__(self, operation: str, path: str) -> None:
        if operation == self._spare or (self._lasting and operation not in NEEDS_ROOM):
            return
        self._left -= 1
        if self._left == 0 or (self._lasting and self._left < 0):
            self.what = self.what or f"{errno.errorcode[self._code]} at {operation} {path}"
            raise OSError(self._code, os.strerror(self._code), path)

    @property
    def seen(self) -> bool:
        return bool(self.what)


def fails_everywhere(
    place: Path,
    prepare: Callable[[Path], Any],
    act: Callable[[Any], Any],
    check: Callable[[Any, Any], None],
    least: int,
) -> None:
    """Let every mutation of an operation fail once with each error, and from there on for lack of room.

    ``check`` is told what the operation returned, or Failed; the fault is gone by then. Any error but a StorageError
    or an OSError fails the test at once. ``least`` is how many mutations the operation must have.
    """
    problems = []
    for code, lasting in [*((code, False) for code in ONCE), (errno.ENOSPC, True)]:
        for number in itertools.count(1):
            world = prepare(place / f"{errno.errorcode[code]}-{lasting}-{number}")
            fault = Fault(code, number, lasting)
            try:
                answer = _with_fault(fault, act, world)
                check(world, answer)
                _nothing_is_left_aside(world, fault)
            except (AssertionError, OSError, SpoolError) as error:
                problems.append(f"{fault.what}{' lasting' * lasting}: {error!r}")
            if not fault.seen:
                break
            TRIED["failing calls"] += 1
        assert number > least or lasting, "the hook was hardly called"
    assert not problems, f"{len(problems)} points:\n" + "\n".join(problems)


def _nothing_is_left_aside(world: Any, fault: Fault) -> None:
    """What was written beside its place is in its place, or gone; unless the fault was at removing it."""
    root = Path(world if isinstance(world, Path) else world.spool.root)
    left = [path.name for path in root.rglob(".*") if path.name != ".lock"]
    assert not left or " unlink " in fault.what, left


def _with_fault(fault: Fault, act: Callable[[Any], Any], world: Any) -> Any:
    files.hook = fault
    try:
        return act(world)
    except (StorageError, OSError) as error:
        return Failed(error)
    finally:
        files.hook = None


def _entries(spool: Spool) -> list[Path]:
    return [path for path in Path(spool.root).glob("*/*/*/job-*") if path.is_symlink()]


# -- submit, claim ----------------------------------------------------------------------------------


def test_a_submit_that_fails_leaves_nothing_half_written(tmp_path: Path) -> None:
    def check(world: World, answer: Any) -> None:
        if isinstance(answer, Failed):
            assert isinstance(answer.error, StorageError)
            assert job_ids(world.spool) == []
            assert _entries(world.spool) == []
            assert os.listdir(f"{world.spool.root}/tmp") == []
            world.acknowledged.append(world.spool.submit(TYPE, {"n": 1}).job_id)
        else:
            world.acknowledged.append(answer)
        assert settled(world).status == states.SUCCEEDED

    fails_everywhere(tmp_path, worlds.empty, lambda world: world.spool.submit(TYPE, {"n": 1}).job_id, check, 16)


@pytest.mark.parametrize("mount_point", [True, False], ids=["an empty mount point", "nothing"])
def test_a_submit_is_refused_when_the_file_system_of_the_spool_went_away(tmp_path: Path, mount_point: bool) -> None:
    """Acknowledged into the directory below the mount, the job would be hidden as soon as the mount is back."""
    world = worlds.empty(tmp_path / "spool")
    os.rename(world.spool.root, tmp_path / "elsewhere")
    if mount_point:
        os.mkdir(world.spool.root)
    with pytest.raises(SpoolError):
        world.spool.submit(TYPE, {"n": 1})
    assert sorted(os.listdir(tmp_path)) == ["elsewhere", "spool"][: 1 + mount_point]
    assert not mount_point or os.listdir(world.spool.root) == []


def test_a_claim_that_fails_does_not_use_up_an_attempt(tmp_path: Path) -> None:
    def claim(world: World) -> Any:
        world.held = world.spool.claim(TYPE, "holder")
        return world.held

    def check(world: World, answer: Any) -> None:
        if isinstance(answer, Failed):
            assert status_of(world.spool, world.job_id) == Status(states.QUEUED, 0)
            assert world.spool.get(world.job_id).attempts == []
            assert claim(world) is not None, "the next claim found nothing"
        assert world.lease.dir.attempt == 1
        assert world.lease.complete().status == states.SUCCEEDED
        settled(world)

    fails_everywhere(tmp_path, lambda place: worlds.queued(place, max_attempts=1), claim, check, 8)


def test_one_job_that_cannot_be_claimed_does_not_stop_the_others(tmp_path: Path) -> None:
    world = worlds.queued(tmp_path / "spool")
    bad, good = world.job_id, world.spool.submit(TYPE, {"n": 2}).job_id

    def fault(operation: str, path: str) -> None:
        if bad in path and operation == "create":
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    claimed = []
    files.hook = fault
    try:
        for _ in range(3):
            try:
                lease = world.spool.claim(TYPE, "holder")
            except StorageError:
                continue
            claimed += [lease.job_id] if lease else []
    finally:
        files.hook = None
    assert claimed == [good]
    assert status_of(world.spool, bad) == Status(states.QUEUED, 0)


def test_one_lease_that_cannot_be_taken_back_does_not_stop_the_others(tmp_path: Path) -> None:
    world = worlds.empty(tmp_path / "spool")
    for n in range(2):
        world.spool.submit(TYPE, {"n": n})
        world.spool.claim(TYPE, "holder")
    worlds.make_leases_old(world.spool)
    leased = f"{world.spool.root}/leased/{TYPE}"
    bad, good = [name for bucket in sorted(os.listdir(leased)) for name in os.listdir(f"{leased}/{bucket}")]

    def fault(operation: str, path: str) -> None:
        if bad in path and operation == "rename":
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    files.hook = fault
    try:
        for _ in range(2):
            try:
                world.spool.claims.expire(TYPE)
            except OSError:
                continue
    finally:
        files.hook = None
    assert status_of(world.spool, bad).state == states.LEASED
    assert status_of(world.spool, good).state == states.QUEUED


# -- inside a lease ---------------------------------------------------------------------------------


def _goes_on(act: Callable[[World], Any], artifacts: int = 0) -> Callable[[World, Any], None]:
    """A check that the holder can do the same again after a failure, and then end the job."""

    def check(world: World, answer: Any) -> None:
        if isinstance(answer, Failed):
            act(world)
        done = world.lease.complete(outputs={"by": "holder"})
        assert (done.status, done.attempt, len(done.artifacts)) == (states.SUCCEEDED, 1, artifacts)
        settled(world)

    return check


def test_a_lease_can_be_renewed_again_after_a_fault(tmp_path: Path) -> None:
    def check(world: World, answer: Any) -> None:
        assert isinstance(answer, Failed) or answer is False
        assert world.lease.heartbeat("2h") is False
        assert world.another().claims.expire(TYPE) == 0
        assert world.lease.complete(outputs={"by": "holder"}).attempt == 1
        settled(world)

    fails_everywhere(tmp_path, worlds.leased, lambda world: world.lease.heartbeat("1h"), check, 4)


def test_progress_can_be_reported_again_after_a_fault(tmp_path: Path) -> None:
    def report(world: World) -> Any:
        return world.lease.progress("half")

    fails_everywhere(tmp_path, worlds.leased, report, _goes_on(report), 2)


def test_a_file_can_be_attached_again_after_a_fault(tmp_path: Path) -> None:
    report = tmp_path / "report.md"
    report.write_text("# Report\n" * 1000)

    def attach(world: World) -> Any:
        return world.lease.dir.attach_file(str(report))

    fails_everywhere(tmp_path, worlds.leased, attach, _goes_on(attach, artifacts=1), 3)


def test_a_value_can_be_attached_again_after_a_fault(tmp_path: Path) -> None:
    def attach(world: World) -> Any:
        return world.lease.dir.attach_kv("summary", {"findings": 2})

    fails_everywhere(tmp_path, worlds.leased, attach, _goes_on(attach, artifacts=1), 4)


def test_a_value_that_expires_can_be_attached_again_after_a_fault(tmp_path: Path) -> None:
    def attach(world: World) -> Any:
        return world.lease.dir.attach_kv("summary", {"findings": 2}, ttl_seconds=60)

    fails_everywhere(tmp_path, worlds.leased, attach, _goes_on(attach, artifacts=1), 8)


@pytest.mark.parametrize(("mode", "least", "after"), [("append", 4, {4, 6}), ("upsert", 10, {3})])
def test_rows_that_could_not_be_attached_can_be_attached_again(
    tmp_path: Path, mode: str, least: int, after: set[int]
) -> None:
    old, new = [{"id": 1}, {"id": 2}], [{"id": 2}, {"id": 3}]

    def prepare(place: Path) -> World:
        world = worlds.leased(place)
        world.lease.dir.attach_table("rows", old, key_fields=["id"])
        return world

    def attach(world: World) -> Any:
        return world.lease.dir.attach_table("rows", new, write_mode=mode)

    def check(world: World, answer: Any) -> None:
        _goes_on(attach, artifacts=1)(world, answer)
        assert world.spool.get(world.job_id).artifacts[0]["rowCount"] in after

    fails_everywhere(tmp_path, prepare, attach, check, least)


def _tear_a_line_of(list_of: str) -> None:
    """A write may get some of its bytes onto a disk that is full; a process may be killed in the middle of one."""

    def half(operation: str, path: str) -> None:
        if operation == "append" and path.endswith(list_of):
            files.hook = None
            with open(path, "ab") as file:
                file.write(b'{"kind":"kv","lab')
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    files.hook = half


@pytest.mark.parametrize("list_of", ["artifacts.jsonl", "progress.jsonl"])
def test_half_a_line_that_a_full_disk_has_cut_off_does_not_spoil_the_next(tmp_path: Path, list_of: str) -> None:
    world = worlds.leased(tmp_path / "spool")

    def attach_and_tell() -> None:
        world.lease.dir.attach_kv("summary", {"findings": 2})
        world.lease.progress("half")

    _tear_a_line_of(list_of)
    with pytest.raises((OSError, StorageError)):
        attach_and_tell()
    attach_and_tell()
    assert world.lease.job.progress.message == "half"
    done = world.lease.complete(outputs={"by": "holder"})
    assert [artifact["label"] for artifact in done.artifacts] == ["summary"]
    settled(world)


# -- ends, repairs ----------------------------------------------------------------------------------


@pytest.mark.parametrize("prepare", [worlds.leased, worlds.last_attempt])
def test_a_finish_can_be_tried_again_as_long_as_the_lease_is_held(tmp_path: Path, prepare: Any) -> None:
    def complete(world: World) -> str:
        return world.lease.complete(outputs={"by": "holder"}).status

    def check(world: World, answer: Any) -> None:
        assert isinstance(answer, Failed) or answer == states.SUCCEEDED
        assert complete(world) == states.SUCCEEDED
        job = settled(world)
        assert (job.outputs, job.attempt) == ({"by": "holder"}, 1)

    fails_everywhere(tmp_path, prepare, complete, check, 5)


def test_a_finish_that_failed_may_be_followed_by_another_end(tmp_path: Path) -> None:
    """The worker publishes a failure when its result is refused; the first that was accepted counts."""

    def check(world: World, answer: Any) -> None:
        if isinstance(answer, Failed):
            assert world.lease.fail("the disk was full").status == states.FAILED
        job = settled(world)
        assert job.status == (states.FAILED if isinstance(answer, Failed) else states.SUCCEEDED)
        assert job.attempt == 1

    fails_everywhere(tmp_path, worlds.leased, lambda world: world.lease.complete().status, check, 5)


@pytest.mark.parametrize("prepare", [worlds.queued, worlds.leased])
def test_a_cancel_can_be_tried_again(tmp_path: Path, prepare: Any) -> None:
    def cancel(world: World) -> str:
        return world.spool.cancel(world.job_id, requested_by="test").status

    def check(world: World, answer: Any) -> None:
        if isinstance(answer, Failed):
            cancel(world)
        assert settled(world).status == states.CANCELLED

    fails_everywhere(tmp_path, prepare, cancel, check, 2)


@pytest.mark.parametrize(
    ("prepare", "end"), [(worlds.leased, states.SUCCEEDED), (worlds.last_attempt, states.TIMED_OUT)]
)
def test_a_lease_can_be_given_back_again_after_a_fault(tmp_path: Path, prepare: Any, end: str) -> None:
    def give_back(world: World) -> str:
        return world.lease.give_back().status

    def check(world: World, answer: Any) -> None:
        if isinstance(answer, Failed) and status_of(world.spool, world.job_id).state == states.LEASED:
            give_back(world)
        assert settled(world).status == end

    fails_everywhere(tmp_path, prepare, give_back, check, 2)


@pytest.mark.parametrize(
    ("prepare", "end", "attempt"),
    [
        (worlds.expired, states.SUCCEEDED, 2),
        (worlds.expired_for_good, states.TIMED_OUT, 1),
        (worlds.expired_and_cancelled, states.CANCELLED, 1),
    ],
    ids=["to the queue", "to timed_out", "to cancelled"],
)
def test_a_reaper_whose_disk_failed_leaves_a_job_that_goes_on(
    tmp_path: Path, prepare: Any, end: str, attempt: int
) -> None:
    def check(world: World, answer: Any) -> None:
        job = settled(world)
        assert (job.status, job.attempt) == (end, attempt)

    fails_everywhere(tmp_path, prepare, lambda world: world.spool.claims.expire(TYPE), check, 4)


def test_a_torn_result_is_put_back_by_the_next_reader_when_the_first_could_not(tmp_path: Path) -> None:
    def check(world: World, answer: Any) -> None:
        assert isinstance(answer, Failed) or answer == states.QUEUED
        assert world.spool.get(world.job_id).status == states.QUEUED
        job = settled(world)
        assert (job.status, job.outputs, job.attempt) == (states.SUCCEEDED, {"by": "settler"}, 2)

    fails_everywhere(tmp_path, worlds.torn_result, lambda world: world.spool.get(world.job_id).status, check, 5)


def test_a_retry_that_fails_leaves_nothing_half_written(tmp_path: Path) -> None:
    def check(world: World, answer: Any) -> None:
        done = settle(world)
        assert len(done) == (1 if isinstance(answer, Failed) else 2)
        assert os.listdir(f"{world.spool.root}/tmp") == []

    fails_everywhere(tmp_path, worlds.ended, lambda world: world.spool.retry(world.job_id).job_id, check, 8)


def test_an_init_that_fails_can_be_done_again(tmp_path: Path) -> None:
    def init(place: Path) -> Spool:
        return Spool.init(place, durability="none")

    def check(place: Path, answer: Any) -> None:
        done = (place / "spool.json").exists()
        spool = Spool.open(place) if done else init(place)
        assert done or isinstance(answer, Failed)
        world = World(spool, [spool.submit(TYPE).job_id])
        assert settled(world).status == states.SUCCEEDED

    fails_everywhere(tmp_path, lambda place: place, init, check, 9)


@pytest.mark.parametrize("act", ["submit", "claim", "complete", "get"])
def test_a_stale_handle_is_tried_again_and_nobody_notices(tmp_path: Path, act: str) -> None:
    """ESTALE once: what NFS answers when a directory was replaced on the server. A file once opened stays lost."""
    acts: dict[str, tuple[Any, Callable[[World], Any]]] = {
        "submit": (worlds.empty, lambda world: world.spool.submit(TYPE)),
        "claim": (worlds.queued, lambda world: world.spool.claim(TYPE, "holder")),
        "complete": (worlds.leased, lambda world: world.lease.complete()),
        "get": (worlds.torn_result, lambda world: world.spool.get(world.job_id)),
    }
    prepare, call = acts[act]
    refused = []
    for number in itertools.count(1):
        world = prepare(tmp_path / str(number))
        fault = Fault(errno.ESTALE, number, lasting=False, spare="write")
        if isinstance(answer := _with_fault(fault, call, world), Failed):
            refused.append(f"{fault.what}: {answer.error}")
        if not fault.seen:
            break
    assert not refused, f"{len(refused)} of {number - 1} points:\n" + "\n".join(refused)


# -- workers ----------------------------------------------------------------------------------------


def _work_once(spool: Spool, lines: list[str]) -> Any:
    worker = Worker(spool, PythonHandler(lambda job: None, "test", spool.root), Settings(TYPE, once=True), lines.append)
    return worker.run()


def test_a_worker_publishes_its_result_when_the_disk_has_room_again(tmp_path: Path) -> None:
    world = worlds.queued(tmp_path / "spool")
    failures = iter([True])

    def full_once(operation: str, path: str) -> None:
        if path.endswith("/result.1.json") and next(failures, False):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    files.hook = full_once
    lines: list[str] = []
    try:
        tally = _work_once(world.spool, lines)
    finally:
        files.hook = None
    assert tally.handled == 1
    assert any("cannot write its result, trying again" in line for line in lines)
    assert (settled(world).status, world.spool.get(world.job_id).attempt) == (states.SUCCEEDED, 1)


def test_a_worker_ends_a_job_whose_handler_met_a_full_disk(tmp_path: Path) -> None:
    world = worlds.queued(tmp_path / "spool")

    def handle(job: ActiveJob) -> None:
        _tear_a_line_of("artifacts.jsonl")
        for _ in range(2):
            with suppress(OSError):
                job.attach_kv("summary", {"findings": 2})

    tally = _work_within(3, world.spool, handle)
    assert tally.handled == 1
    assert [artifact["label"] for artifact in settled(world).artifacts] == ["summary"]


def test_a_worker_gives_up_a_result_that_cannot_be_stored_in_any_form(tmp_path: Path) -> None:
    """Whatever a handler leaves, one job must not keep a worker busy for ever."""
    world = worlds.queued(tmp_path / "spool", max_attempts=1)

    def handle(job: ActiveJob) -> None:
        uri = job.attach_table("rows", [{"a": 1}])["resourceUri"]
        job._held.dir.describe({"resourceUri": uri.removesuffix("rows") + "../rows"})
        job._held.dir.describe({"deep": _nested(197)})

    _work_within(3, world.spool, handle)
    assert settled(world).attempt == 1


def test_a_worker_gives_up_a_result_when_its_job_was_taken_away(tmp_path: Path) -> None:
    """Somebody moved the job aside, or the lease went, while the disk refused the result."""
    world = worlds.queued(tmp_path / "spool")
    job_dir = world.spool.tree.job(world.job_id)

    def take_away(job: Any) -> None:
        os.rename(job_dir, tmp_path / "elsewhere")

    assert _work_within(3, world.spool, take_away).lost == 1


def _work_within(seconds: float, spool: Spool, function: Callable[[ActiveJob], Any]) -> Tally:
    """Let a worker handle one job; fails when that takes longer."""
    worker = Worker(spool, PythonHandler(function, "test", spool.root), Settings(TYPE, once=True, poll=0.05))
    end = threading.Timer(seconds, worker.abort)
    end.start()
    try:
        tally = worker.run()
        assert end.is_alive(), "it tried for ever"
    finally:
        files.hook = None
        end.cancel()
        end.join()
    return tally


def _nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


# -- a disk that is really full ---------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file system of its own, of the size that the test asks for."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", request.param, "none", str(place)], capture_output=True, check=False
    )
    if done.returncode != 0:
        pytest.skip(f"no small file system can be mounted here: {done.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.parametrize("small_disk", ["size=400k", "nr_inodes=200"], indirect=True)
def test_a_full_disk_is_named_and_nothing_acknowledged_is_lost(small_disk: Path) -> None:
    spool = Spool.init(small_disk / "spool")
    world = World(spool)
    with pytest.raises(StorageError, match="the disk is full") as caught:
        _submit_until_refused(world)
    assert "free some space or inodes" in caught.value.hint
    assert len(world.acknowledged) > 5
    assert violations(spool, world.acknowledged) == []
    assert job_ids(spool) == sorted(world.acknowledged)
    assert sorted(entry.name for entry in _entries(spool)) == sorted(world.acknowledged)
    assert os.listdir(f"{spool.root}/tmp") == []

    held = _claim_on_a_full_disk(spool)
    assert {status_of(spool, job_id).attempt for job_id in world.acknowledged if job_id != held} == {0}

    subprocess.run(["mount", "-o", "remount,size=40m,nr_inodes=20k", str(small_disk)], check=True)
    assert set(settle(world).values()) == {states.SUCCEEDED}
    first_attempts = {spool.get(job_id).attempt for job_id in world.acknowledged if job_id != held}
    assert first_attempts == {1}


def _submit_until_refused(world: World) -> None:
    while len(world.acknowledged) < 1000:
        world.acknowledged.append(world.spool.submit(TYPE, {"n": 1}).job_id)


def _claim_on_a_full_disk(spool: Spool) -> str | None:
    """Claim and complete while there is no room; the id of the job that was claimed, if that went well."""
    try:
        lease = spool.claim(TYPE, "holder")
        assert lease is not None
    except StorageError as error:
        assert "the disk is full" in error.message
        return None
    try:
        lease.complete()
    except StorageError as error:
        assert "the disk is full" in error.message
    return lease.job_id


# -- the barrier ------------------------------------------------------------------------------------


def _with_barrier(spool: Spool, barrier: Callable[[Any], None]) -> Claims:
    """The leases of a durable spool whose barrier is the test's."""
    return Claims(spool.tree, spool.settings.model_copy(update={"durability": "durable"}), barrier)


def _finish(world: World, claims: Claims) -> None:
    claims.finish(world.lease.dir, TYPE, Outcome(states.SUCCEEDED, outputs={"by": "holder"}), {})


def _cancel(world: World, claims: Claims) -> None:
    claims.cancel(world.job_id, TYPE, "test", "")


@pytest.mark.parametrize(
    ("prepare", "act", "end"),
    [
        pytest.param(worlds.leased, _finish, states.SUCCEEDED, id="finish"),
        pytest.param(worlds.queued, _cancel, states.CANCELLED, id="cancel a queued job"),
        pytest.param(worlds.leased, _cancel, states.CANCELLED, id="cancel a leased job"),
    ],
)
def test_what_the_barrier_refused_is_not_acknowledged_without_another(
    tmp_path: Path, prepare: Any, act: Callable[[World, Claims], None], end: str
) -> None:
    world, synced = prepare(tmp_path / "spool"), []

    def refuse(written: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.raises(OSError, match="Input/output error"):
        act(world, _with_barrier(world.spool, refuse))
    act(world, _with_barrier(world.spool, lambda written: synced.append(list(written()))))
    assert len(synced) == 1
    assert settled(world).status == end
