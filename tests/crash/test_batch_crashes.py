"""Batches under every crash, fault, race and power cut: all of a batch or nothing, and every job ends once."""

from __future__ import annotations

import errno
import itertools
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from breyta_spool import (
    AwaitBound,
    NotFound,
    Spool,
    SpoolError,
    StorageError,
    awaiting,
    batches,
    files,
    states,
    waiting,
)
from breyta_spool.index import DANGLING_SECONDS
from breyta_spool.reader import Reader
from tests.crash import worlds
from tests.crash.invariants import dangling_buckets, job_ids, status_of, violations
from tests.crash.processes import in_child, killed_everywhere, race
from tests.crash.test_failing_disk import Failed, _with_barrier, fails_everywhere
from tests.crash.worlds import TYPE, World, settle, without_locks
from tests.tried import TRIED
from tests.world import work_off

SPECS = [{"payload": {"n": n}} for n in range(2)]


def _submit(world: World) -> str:
    return world.spool.submit_batch(TYPE, SPECS).batch_id


def _members(world: World, batch_id: str) -> list[str]:
    return [job.job_id for job in world.spool.get_batch(batch_id, include_jobs=True).jobs or []]


def _forget_the_dead(world: World) -> None:
    """So much later that whoever made what is left over must have died."""
    then = time.time() - 3 * DANGLING_SECONDS
    for bucket in dangling_buckets(world.spool):
        os.utime(bucket, (then, then))
    for left in Path(world.spool.root, "tmp").iterdir():
        os.utime(left, (0, 0))
    other = world.another()
    assert other.claim(TYPE, "settler") is None
    other.claims.sweep()
    assert dangling_buckets(world.spool) == []
    assert os.listdir(f"{world.spool.root}/tmp") == []


# -- killed anywhere --------------------------------------------------------------------------------


def test_a_submitter_of_a_batch_killed_anywhere_leaves_all_of_it_or_nothing(tmp_path: Path) -> None:
    def check(world: World, batch_id: str | None) -> None:
        world.acknowledged += _members(world, batch_id) if batch_id else []
        done = settle(world)
        assert list(done.values()) in ([states.SUCCEEDED] * 2, [] if batch_id is None else None)
        assert [batch.succeeded_count for batch in world.spool.list_batches()] == ([2] if done else [])
        _forget_the_dead(world)

    killed_everywhere(tmp_path, worlds.empty, _submit, check, 16)


def test_a_canceller_of_a_batch_killed_anywhere_can_be_followed_by_another(tmp_path: Path) -> None:
    def cancel(world: World) -> int:
        return world.another().cancel_batch(world.batch_id, requested_by="test", reason="why").cancelled_count

    def check(world: World, cancelled: int | None) -> None:
        assert cancelled in (None, 2)
        after = world.another().cancel_batch(world.batch_id, requested_by="test", reason="why")
        assert (after.cancelled_count, after.running_count, after.succeeded_count) == (2, 1, 1)
        assert world.another().claim(TYPE, "next") is None
        assert world.lease.heartbeat()
        worlds.make_leases_old(world.spool)
        assert Counter(settle(world).values()) == {states.CANCELLED: 3, states.SUCCEEDED: 1}
        read = world.spool.get_batch(world.batch_id)
        assert (read.status, read.cancelled_count) == (states.PARTIALLY_FAILED, 3)
        assert {job.error.message for job in read.jobs or [] if job.error} == {"cancelled by test: why"}

    killed_everywhere(tmp_path, worlds.mixed_batch, cancel, check, 10)


def test_a_batch_whose_canceller_was_killed_goes_on_where_he_did_not_come(tmp_path: Path) -> None:
    def check(world: World, answer: Any) -> None:
        done = settle(world)
        assert set(done.values()) <= {states.CANCELLED, states.SUCCEEDED}
        assert answer is None or set(done.values()) == {states.CANCELLED}
        assert world.spool.await_batch(world.batch_id, timeout="5s").ended_count == 3

    killed_everywhere(
        tmp_path, worlds.batch, lambda world: world.spool.cancel_batch(world.batch_id).cancelled_count, check, 8
    )


def test_an_awaiter_killed_anywhere_while_he_puts_back_a_torn_result_leaves_a_batch_that_ends(tmp_path: Path) -> None:
    def prepare(place: Path) -> World:
        world = worlds.ended_batch(place)
        _tear(world, 1)
        return world

    def look(world: World) -> str:
        try:
            return world.spool.await_batch(world.batch_id, max_attempts=4, interval="1ms").status
        except AwaitBound:
            return "goes on"

    def check(world: World, answer: str | None) -> None:
        assert answer in (None, "goes on")
        assert look(world) == "goes on"
        assert world.spool.get(world.acknowledged[1]).status == states.QUEUED
        assert set(settle(world).values()) == {states.SUCCEEDED}
        assert [world.spool.get(job_id).attempt for job_id in world.acknowledged] == [1, 2, 1]
        assert look(world) == states.COMPLETED

    killed_everywhere(tmp_path, prepare, look, check, 4)


# -- a failing disk ---------------------------------------------------------------------------------


def test_a_submit_of_a_batch_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def check(world: World, answer: Any) -> None:
        if isinstance(answer, Failed):
            assert isinstance(answer.error, StorageError)
            assert answer.error.message.startswith("cannot submit the batch: ")
            assert job_ids(world.spool) == []
            assert dangling_buckets(world.spool) == []
            assert os.listdir(f"{world.spool.root}/tmp") == []
            answer = _submit(world)
        world.acknowledged += _members(world, answer)
        assert list(settle(world).values()) == [states.SUCCEEDED] * 2

    fails_everywhere(tmp_path, worlds.empty, _submit, check, 16)


def test_a_cancel_of_a_batch_that_fails_can_be_tried_again(tmp_path: Path) -> None:
    def cancel(world: World) -> int:
        return world.spool.cancel_batch(world.batch_id, requested_by="test").cancelled_count

    def check(world: World, answer: Any) -> None:
        assert isinstance(answer, Failed) or answer == 2
        assert cancel(world) == 2
        assert Counter(settle(world).values()) == {states.CANCELLED: 3, states.SUCCEEDED: 1}

    fails_everywhere(tmp_path, worlds.mixed_batch, cancel, check, 10)


def test_a_failing_disk_does_not_keep_an_await_from_the_end_of_its_batch(tmp_path: Path) -> None:
    def prepare(place: Path) -> World:
        world = worlds.batch(place, 2, max_attempts=1)
        while world.spool.claim(TYPE, "dead"):
            pass
        worlds.make_leases_old(world.spool)
        return world

    def check(world: World, answer: Any) -> None:
        assert not isinstance(answer, Failed), answer
        assert answer in ("goes on", states.FAILED)
        assert world.spool.await_batch(world.batch_id, interval="20ms", timeout="10s").timed_out_count == 2

    def look(world: World) -> str:
        try:
            return world.spool.await_batch(world.batch_id, interval="5ms", max_attempts=2).status
        except AwaitBound:
            return "goes on"

    fails_everywhere(tmp_path, prepare, look, check, 3)


# -- the barriers -----------------------------------------------------------------------------------


def _synced(written: Any) -> set[str]:
    return set(written())


def test_a_batch_is_on_the_disk_before_the_renames_that_make_it_one_and_after_them(tmp_path: Path) -> None:
    world = worlds.empty(tmp_path / "spool")
    barriers: list[tuple[set[str], set[str]]] = []
    renamed: list[str] = []

    def barrier(written: Any) -> None:
        there = {str(path) for path in Path(world.spool.root, "tmp").rglob("*") if not path.is_symlink()}
        barriers.append((_synced(written), there))
        renamed.append("barrier")

    files.hook = lambda operation, path: renamed.append(path) if operation == "rename" else None
    record = batches.submit(_with_barrier(world.spool, barrier), TYPE, SPECS, {})
    files.hook = None
    bucket = f"{world.spool.root}/queued/{TYPE}/{record['batchId']}"
    place = world.spool.tree.batch(record["batchId"])
    # The first try of each rename finds no directory to go to.
    assert list(dict.fromkeys(renamed[: renamed.index("barrier", 1)])) == ["barrier", bucket, place]
    assert renamed[-1] == "barrier"
    (first, staged), (second, left) = barriers
    assert first == staged, "each file and directory of the batch is on the disk before it is a batch"
    assert left == set()
    assert {place, os.path.dirname(place), bucket, os.path.dirname(bucket), world.spool.root} <= second


@pytest.mark.parametrize("refused", [1, 2], ids=["before the renames", "after them"])
def test_a_batch_whose_barrier_failed_is_not_acknowledged(tmp_path: Path, refused: int) -> None:
    world, calls = worlds.empty(tmp_path / "spool"), itertools.count(1)

    def barrier(written: Any) -> None:
        if next(calls) == refused:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.raises(StorageError) as caught:
        batches.submit(_with_barrier(world.spool, barrier), TYPE, SPECS, {})
    if refused == 1:
        assert job_ids(world.spool) == os.listdir(f"{world.spool.root}/tmp") == dangling_buckets(world.spool) == []
    else:
        assert "it was submitted, and runs unless the power fails" in caught.value.message
        assert list(settle(world).values()) == [states.SUCCEEDED] * 2


def test_an_await_hands_out_a_batch_only_behind_a_barrier_that_covers_its_results(tmp_path: Path) -> None:
    world, synced = worlds.ended_batch(tmp_path / "spool"), []

    def awaited(barrier: Callable[[Any], None]) -> Any:
        reader = Reader(_with_barrier(world.spool, barrier))
        record = batches.load(reader.claims, world.batch_id)
        return awaiting.BatchAwait(reader, record).run(waiting.bound(timeout="5s"), None, None)

    def refuse(written: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.raises(StorageError, match="durable"):
        awaited(refuse)
    assert awaited(lambda written: synced.append(_synced(written))).status == states.COMPLETED
    results = {f"{world.spool.tree.job(job_id)}/result.1.json" for job_id in world.acknowledged}
    assert len(synced) == 1
    assert results | set(map(world.spool.tree.job, world.acknowledged)) <= synced[0]


def test_a_cancel_that_the_barrier_refused_is_not_acknowledged_without_another(tmp_path: Path) -> None:
    world, synced = worlds.batch(tmp_path / "spool"), []
    record = batches.load(world.spool.claims, world.batch_id)

    def refuse(written: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.raises(OSError, match="Input/output error"):
        batches.cancel(_with_barrier(world.spool, refuse), record, "test", "")
    batches.cancel(_with_barrier(world.spool, lambda written: synced.append(_synced(written))), record, "test", "")
    assert len(synced) == 1
    assert f"{world.spool.tree.batch(world.batch_id)}/cancel.json" in synced[0]
    assert set(map(world.spool.tree.job, world.acknowledged)) <= synced[0]


# -- torn by a power cut ----------------------------------------------------------------------------


def _tear(world: World, number: int) -> None:
    os.truncate(f"{world.spool.tree.job(world.acknowledged[number])}/result.1.json", 10)


@pytest.mark.parametrize("torn", [[0], [2], [0, 1, 2]], ids=str)
def test_a_new_await_finds_what_a_power_cut_has_torn_and_waits_until_it_is_done_again(
    tmp_path: Path, torn: list[int]
) -> None:
    world = worlds.ended_batch(tmp_path / "spool")
    for number in torn:
        _tear(world, number)
    assert world.spool.get_batch(world.batch_id, include_jobs=False).status == states.COMPLETED, "a count reads no job"
    with pytest.raises(AwaitBound) as caught:
        world.spool.await_batch(world.batch_id, timeout="50ms", interval="10ms")
    assert caught.value.batch.queued_count == len(torn)
    work_off(world.spool, lambda job: {"outputs": {"by": "the second"}}, TYPE)
    done = world.spool.await_batch(world.batch_id, timeout="5s")
    assert [job.attempt for job in done.jobs or []] == [2 if n in torn else 1 for n in range(3)]
    assert done.status == states.COMPLETED


def test_what_was_torn_before_an_await_began_is_found_though_the_batch_went_on_then(tmp_path: Path) -> None:
    world = worlds.mixed_batch(tmp_path / "spool")
    world.lease.complete()
    _tear(world, 0)
    result: list[Any] = []

    def wait() -> None:
        result.append(Spool.open(world.spool.root).await_batch(world.batch_id, timeout="20s", interval="50ms"))

    waiter = threading.Thread(target=wait)
    waiter.start()
    time.sleep(0.2)  # it has looked once; the test says the same if it has not
    other = world.another()
    while waiter.is_alive():
        if lease := other.claim(TYPE, "settler"):
            lease.complete(outputs={"by": "settler"})
    waiter.join()
    assert [job.attempt for job in result[0].jobs] == [2, 2, 1, 1]
    assert result[0].status == states.COMPLETED


def test_a_torn_last_attempt_ends_its_batch_as_partially_failed(tmp_path: Path) -> None:
    world = worlds.ended_batch(tmp_path / "spool", max_attempts=1)
    _tear(world, 1)
    done = world.spool.await_batch(world.batch_id, timeout="5s", interval="10ms")
    assert (done.status, done.succeeded_count, done.timed_out_count) == (states.PARTIALLY_FAILED, 2, 1)


# -- a submitter that died between the two renames --------------------------------------------------


@pytest.fixture
def dead(tmp_path: Path) -> World:
    """A bucket of 100 jobs in the queue whose batch was never published, and a single job behind it."""
    world = worlds.empty(tmp_path / "spool")

    def die(operation: str, path: str) -> None:
        if operation == "rename" and "/jobs/" in path:
            os._exit(0)

    child = os.fork()
    if not child:
        files.hook = die
        world.spool.submit_batch(TYPE, ({} for _ in range(100)))
    os.waitpid(child, 0)
    world.acknowledged.append(world.spool.submit(TYPE).job_id)
    return world


def _mutations(act: Callable[[], Any]) -> int:
    count = itertools.count()
    files.hook = lambda operation, path: next(count) and None
    try:
        act()
    finally:
        files.hook = None
    return next(count)


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_the_bucket_of_a_dead_submitter_is_passed_over_at_once_and_dropped_when_it_is_old(dead: World) -> None:
    (bucket,) = dangling_buckets(dead.spool)
    assert len(os.listdir(bucket)) == 100
    claimer = dead.another()
    assert claimer.claim(TYPE, "w").job_id == dead.job_id  # type: ignore[union-attr]
    assert _mutations(lambda: claimer.claim(TYPE, "w")) < 10, "its entries are not looked at one by one"
    assert dead.spool.list_batches() == []
    with pytest.raises(NotFound):
        dead.spool.get_batch(bucket.name)
    with pytest.raises(NotFound):
        claimer.claim(TYPE, "w", batch_id=bucket.name)
    assert len(os.listdir(bucket)) == 100, "its submitter may just be slow"
    then = time.time() - DANGLING_SECONDS - 60
    os.utime(bucket, (then, then))
    assert _mutations(lambda: claimer.claim(TYPE, "w")) < 10
    assert dangling_buckets(dead.spool) == []


def test_the_bucket_of_a_batch_that_is_there_is_never_dropped(tmp_path: Path) -> None:
    world = worlds.batch(tmp_path / "spool")
    bucket = f"{world.spool.root}/queued/{TYPE}/{world.batch_id}"
    os.utime(bucket, (0, 0))
    assert world.another().claim("other", "w") is None
    assert world.another().claim(TYPE, "w").job_id == world.job_id  # type: ignore[union-attr]
    assert len(os.listdir(bucket)) == 2


def test_a_submitter_who_slept_between_the_two_renames_puts_back_what_was_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = worlds.empty(tmp_path / "spool")
    slept = 0.0
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + slept)

    def sleep(operation: str, path: str) -> None:
        nonlocal slept
        if operation == "rename" and "/jobs/" in path:
            files.hook, slept = None, 2.0 * DANGLING_SECONDS
            (bucket,) = dangling_buckets(world.spool)
            os.utime(bucket, (0, 0))
            assert world.another().claim(TYPE, "w") is None
            assert dangling_buckets(world.spool) == []

    files.hook = sleep
    world.acknowledged += _members(world, _submit(world))
    assert slept
    monkeypatch.undo()
    assert list(settle(world).values()) == [states.SUCCEEDED] * 2


# -- races ------------------------------------------------------------------------------------------

Log = list[tuple[str, str]]
"""What was acknowledged: a job and how it ended."""


def _claim_one(world: World, log: Log) -> None:
    """Somebody claims and goes on to hold the lease."""
    world.another().claim(TYPE, "second")


def _run_all(world: World, log: Log) -> None:
    other = world.another()
    while lease := other.claim(TYPE, "second"):
        lease.complete(outputs={"by": "second"})
        log.append((lease.job_id, states.SUCCEEDED))


def _outlast(world: World, log: Log) -> None:
    worlds.make_leases_old(world.spool)
    world.another().claims.expire(TYPE)


def _read(world: World, log: Log) -> None:
    """All of a batch or nothing is seen, at every moment."""
    other = world.another()
    for batch in other.list_batches():
        again = other.get_batch(batch.batch_id, include_jobs=True)
        assert len(again.jobs or []) == batch.requested_count
        for read in (batch, again):
            names = ("queued", "running", "succeeded", "cancelled", "failed")
            assert sum(getattr(read, f"{name}_count") for name in names) == read.requested_count
            assert read.damaged == []
    assert len(other.list(TYPE)) == len(other.list()) == len(job_ids(world.spool))


def _await(world: World, log: Log) -> None:
    """Terminal is what an await hands out only when each job has ended."""
    try:
        done = world.another().await_batch(world.batch_id, max_attempts=2, interval="1ms")
    except AwaitBound as reached:
        assert not reached.batch.is_terminal or reached.batch.ended_count == reached.batch.requested_count
        return
    assert all(job.is_terminal for job in done.jobs or [])
    log += [(job.job_id, job.status) for job in done.jobs or []]


def _cancel(world: World, log: Log) -> None:
    world.another().cancel_batch(world.batch_id, requested_by="test")
    for job_id in job_ids(world.spool):
        status = status_of(world.spool, job_id)
        assert status.state != states.QUEUED, f"{job_id} waits, though its batch was cancelled"
        if status.state == states.CANCELLED:
            log.append((job_id, states.CANCELLED))


def _submit_another(world: World, log: Log) -> None:
    world.acknowledged += _members(world, _submit(world))


def _submit_first(world: World, log: Log) -> None:
    world.batch_id = _submit(world)
    world.acknowledged += _members(world, world.batch_id)


def _complete(world: World, log: Log) -> None:
    world.lease.complete(outputs={"by": "holder"})
    log.append((world.lease.job_id, states.SUCCEEDED))


def _last_is_leased(place: Path) -> World:
    world = worlds.batch(place, 2)
    world.spool.claim(TYPE, "holder").complete()  # type: ignore[union-attr]
    world.held = world.spool.claim(TYPE, "holder")
    return world


MEETINGS: list[tuple[Callable[[Path], World], Callable[..., None], Callable[..., None]]] = [
    *((worlds.empty, _submit_first, second) for second in (_run_all, _claim_one, _outlast, _read, _submit_another)),
    *((worlds.batch, _cancel, second) for second in (_run_all, _claim_one, _cancel, _outlast, _read, _await)),
    *((worlds.mixed_batch, _cancel, second) for second in (_run_all, _cancel, _outlast, _read, _complete)),
    *((worlds.batch, _run_all, second) for second in (_cancel, _read, _await)),
    *((_last_is_leased, _complete, second) for second in (_await, _cancel, _read)),
    *((_last_is_leased, _await, second) for second in (_complete, _outlast, _cancel)),
]


@pytest.mark.parametrize(
    ("prepare", "first", "second"), MEETINGS, ids=[", ".join(f.__name__.strip("_") for f in m) for m in MEETINGS]
)
def test_two_operations_may_meet_anywhere_in_a_batch(
    tmp_path: Path, prepare: Callable[[Path], World], first: Callable[..., None], second: Callable[..., None]
) -> None:
    """The second runs as a whole before each mutation of the first: each such order must end well."""
    problems = []
    for number in itertools.count(1):
        world, log = prepare(tmp_path / str(number)), []
        where, errors = _meet(world, log, first, second, number)
        try:
            _each_job_ended_as_acknowledged(world, log, first)
        except (AssertionError, OSError, SpoolError) as error:
            errors.append(repr(error))
        problems += [f"before {where}: {error}" for error in errors]
        if not where:
            break
        TRIED["meetings of two operations"] += 1
    assert not problems, f"{len(problems)} problems at {number - 1} points:\n" + "\n".join(problems)
    assert number > 1


def _meet(
    world: World, log: Log, first: Callable[..., None], second: Callable[..., None], number: int
) -> tuple[str, list[str]]:
    where, count = "", itertools.count(1)
    errors: list[str] = []

    def run(act: Callable[..., None]) -> None:
        try:
            act(world, log)
        except Exception as error:
            if not isinstance(error, SpoolError) or error.code != "lease_lost":
                errors.append(f"{act.__name__} raised {error!r}")

    def hook(operation: str, path: str) -> None:
        nonlocal where
        if next(count) == number:
            files.hook, where = None, f"{operation} {path}"
            run(second)

    without_locks(world.spool.root)  # they would wait for each other, here in one process
    files.hook = hook
    try:
        run(first)
    finally:
        files.hook = None
    return where, errors


def _each_job_ended_as_acknowledged(world: World, log: Log, first: Callable[..., None]) -> None:
    done = settle(world)
    assert set(done) == set(world.acknowledged)
    assert set(done.values()) <= {states.SUCCEEDED, states.CANCELLED}
    for job_id, status in log:
        assert done[job_id] == status, f"{job_id}: {status} was acknowledged, and it is {done[job_id]}"
    ended = world.spool.await_batch(world.batch_id, timeout="5s")
    counted = Counter(done[job.job_id] for job in ended.jobs or [])
    assert (ended.succeeded_count, ended.cancelled_count) == (counted[states.SUCCEEDED], counted[states.CANCELLED])
    assert sum(counted.values()) == ended.requested_count


@pytest.mark.parametrize("locks", [True, False], ids=["locks", "no locks"])
def test_workers_cancellers_and_awaiters_of_one_batch_agree_on_every_job(tmp_path: Path, locks: bool) -> None:
    world = worlds.batch(tmp_path / "spool", 120)
    if not locks:
        without_locks(world.spool.root)

    def work() -> list[str]:
        spool, done = world.another(), []
        while lease := spool.claim(TYPE, f"worker-{os.getpid()}", batch_id=world.batch_id):
            lease.complete()
            done.append(lease.job_id)
        return done

    def cancel() -> list[str]:
        time.sleep(0.05)
        spool = world.another()
        spool.cancel_batch(world.batch_id)
        return []

    def wait() -> list[str]:
        done = world.another().await_batch(world.batch_id, timeout="20s", interval="50ms")
        return [f"{job.job_id} {job.status}" for job in done.jobs or []]

    *ran, _, _, seen, again = race([work, work, work, cancel, cancel, wait, wait])
    worked = list(itertools.chain(*ran))
    assert len(worked) == len(set(worked))
    expected = [
        f"{j} {states.SUCCEEDED if j in worked else status_of(world.spool, j).state}" for j in world.acknowledged
    ]
    assert seen == again == expected
    assert violations(world.spool, world.acknowledged, settled=True) == []


def test_batches_submitted_while_workers_claim_are_worked_off_whole_and_once(tmp_path: Path) -> None:
    world = worlds.empty(tmp_path / "spool")

    def submit() -> list[str]:
        spool = world.another()
        made = [spool.submit_batch(TYPE, SPECS * 5) for _ in range(6)]
        return [job.job_id for batch in made for job in batch.jobs or []]

    def work() -> list[str]:
        spool, done, end = world.another(), [], time.monotonic() + 20
        while len(job_ids(spool)) < 120 and time.monotonic() < end:
            while lease := spool.claim(TYPE, f"worker-{os.getpid()}"):
                lease.complete()
                done.append(lease.job_id)
        return done

    first, second, *ran = race([submit, submit, work, work])
    ran.append([lease.job_id for lease in iter(lambda: world.spool.claim(TYPE, "last"), None)])
    assert Counter(itertools.chain(*ran)) == Counter(first + second)
    assert in_child(lambda: len(world.another().list_batches(limit=20))).answer == 12
