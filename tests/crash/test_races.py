"""Real processes race on one spool, and any two operations meet at any point; locks on and off."""

from __future__ import annotations

import errno
import itertools
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from breyta_spool import Conflict, Lease, LeaseLost, Spool, SpoolError, StorageError, files, ids, repairing, states
from tests.crash import worlds
from tests.crash.invariants import job_ids, status_of, violations
from tests.crash.processes import race
from tests.crash.worlds import TYPE, World, settle, settled, without_locks
from tests.tried import TRIED


def _spool(place: Path, locks: bool) -> Spool:
    """A spool whose workers take turns, or one where locks do nothing, as on many NFS mounts."""
    spool = Spool.init(place, durability="none")
    return spool if locks else without_locks(spool.root)


def _work_off(root: str, worker_id: str) -> list[str]:
    """Claim and complete until nothing waits; gives the ids of the jobs that were run."""
    spool, done = Spool.open(root), []
    while lease := spool.claim(TYPE, worker_id):
        done.append(lease.job_id)
        lease.complete(outputs={"by": worker_id})
    return done


# -- processes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("locks", [True, False], ids=["locks", "no locks"])
def test_four_workers_run_each_of_many_jobs_exactly_once(tmp_path: Path, locks: bool) -> None:
    spool = _spool(tmp_path / "spool", locks)
    submitted = [spool.submit(TYPE, {"n": n}).job_id for n in range(300)]
    ran = race([lambda n=n: _work_off(spool.root, f"worker-{n}") for n in range(4)])
    assert Counter(itertools.chain(*ran)) == Counter(submitted)
    assert violations(spool, submitted, settled=True) == []
    assert {status_of(spool, job_id) for job_id in submitted} == {states.Status(states.SUCCEEDED, 1)}


@pytest.mark.parametrize("locks", [True, False], ids=["locks", "no locks"])
def test_submitters_and_workers_lose_nothing_while_they_meet(tmp_path: Path, locks: bool) -> None:
    spool = _spool(tmp_path / "spool", locks)

    def submit(n: int) -> list[str]:
        own = Spool.open(spool.root)
        return [own.submit(TYPE, {"by": n}).job_id for _ in range(40)]

    def work(n: int) -> list[str]:
        done, end = [], time.monotonic() + 10
        while len(job_ids(spool)) < 80 and time.monotonic() < end:
            done += _work_off(spool.root, f"worker-{n}")
        return done + _work_off(spool.root, f"worker-{n}")

    *submitted, ran_0, ran_1 = race(
        [*(lambda n=n: submit(n) for n in range(2)), *(lambda n=n: work(n) for n in (0, 1))]
    )
    ran = Counter(ran_0 + ran_1 + _work_off(spool.root, "the-last"))
    assert ran == Counter(itertools.chain(*submitted))
    assert violations(spool, ran, settled=True) == []


@pytest.mark.parametrize("locks", [True, False], ids=["locks", "no locks"])
def test_twenty_processes_race_for_one_job_and_one_wins(tmp_path: Path, locks: bool) -> None:
    spool = _spool(tmp_path / "spool", locks)
    job = spool.submit(TYPE)

    def claim() -> str | None:
        lease = Spool.open(spool.root).claim(TYPE, f"worker-{os.getpid()}")
        return lease.token if lease else None

    tokens = [token for token in race([claim] * 20) if token]
    assert len(tokens) == 1
    assert status_of(spool, job.job_id) == states.Status(states.LEASED, 1, tokens[0])


def test_a_canceller_and_a_worker_share_the_jobs_between_them(tmp_path: Path) -> None:
    spool = _spool(tmp_path / "spool", locks=False)
    submitted = [spool.submit(TYPE, {"n": n}).job_id for n in range(80)]

    def cancel() -> list[str]:
        own, order = Spool.open(spool.root), list(submitted)
        random.Random(7).shuffle(order)
        return [job_id for job_id in order if own.cancel(job_id).status == states.CANCELLED]

    cancelled, ran = race([cancel, lambda: _work_off(spool.root, "worker")])
    assert sorted(cancelled + ran) == sorted(submitted)
    for job_id in submitted:
        assert spool.get(job_id).status == (states.CANCELLED if job_id in cancelled else states.SUCCEEDED)
    assert violations(spool, submitted, settled=True) == []


def test_reapers_that_race_take_every_lease_back_and_lose_none(tmp_path: Path) -> None:
    world = worlds.empty(tmp_path / "spool")
    for n in range(30):
        world.acknowledged.append(world.spool.submit(TYPE, {"n": n}).job_id)
        world.spool.claim(TYPE, "holder")
    worlds.make_leases_old(world.spool)
    counts = race([lambda: Spool.open(world.spool.root).claims.expire(TYPE)] * 3)
    assert sum(counts) >= 30
    assert {status_of(world.spool, job_id) for job_id in world.acknowledged} == {states.Status(states.QUEUED, 1)}
    assert set(settle(world).values()) == {states.SUCCEEDED}


def test_many_readers_that_find_a_torn_result_put_it_back_once(tmp_path: Path) -> None:
    world = worlds.torn_result(tmp_path / "spool")
    seen = race([lambda: Spool.open(world.spool.root).get(world.job_id).status] * 6)
    assert set(seen) == {states.QUEUED}
    job = settled(world)
    assert (job.status, job.attempt) == (states.SUCCEEDED, 2)


def test_a_reaper_does_not_undo_the_first_step_of_who_puts_a_torn_result_back(tmp_path: Path) -> None:
    """The reader has moved the entry to the leased ones; a reaper finds it there; the reader dies after its rename."""
    world = worlds.torn_result(tmp_path / "spool")

    def reap_then_die(operation: str, path: str) -> None:
        if operation == "unlink":
            files.hook = None
            world.another().claims.expire(TYPE)
            files.hook = die

    def die(operation: str, path: str) -> None:
        if path.startswith(world.spool.tree.top("queued/")):
            raise KeyboardInterrupt

    files.hook = reap_then_die
    with suppress(KeyboardInterrupt):
        world.spool.get(world.job_id)
    files.hook = None
    job = settled(world)
    assert (job.status, job.attempt) == (states.SUCCEEDED, 2)


def test_children_forked_while_the_clock_went_back_make_different_ids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids.new_ulid()
    back = time.time_ns() - 60_000_000_000
    monkeypatch.setattr(time, "time_ns", lambda: back)
    made = race([lambda: [ids.new_ulid() for _ in range(5)]] * 3)
    assert len(set(itertools.chain(*made))) == 15


def test_two_that_make_a_spool_in_one_place_do_not_both_believe_it_is_theirs(tmp_path: Path) -> None:
    made = []

    def other(operation: str, path: str) -> None:
        if operation == "rename" and path.endswith("/spool.json"):
            files.hook = None
            made.append(Spool.init(tmp_path / "spool", workspace="other").settings.spool_id)

    files.hook = other
    try:
        made.append(Spool.init(tmp_path / "spool", workspace="mine").settings.spool_id)
    except (Conflict, StorageError):
        pass
    finally:
        files.hook = None
    assert set(made) == {Spool.open(tmp_path / "spool").settings.spool_id}


# -- leases -----------------------------------------------------------------------------------------


def _refused(call: Callable[[], Any]) -> bool:
    try:
        call()
    except LeaseLost:
        return True
    return False


def test_a_fenced_worker_cannot_publish_and_its_files_do_not_show(tmp_path: Path) -> None:
    world = worlds.leased(tmp_path / "spool")
    world.lease.dir.attach_kv("summary", {"by": "the fenced"})
    worlds.make_leases_old(world.spool)
    second = world.another().claim(TYPE, "second")
    assert second is not None
    assert second.dir.attempt == 2
    fenced = world.lease
    for call in (
        fenced.heartbeat,
        lambda: fenced.progress("half"),
        lambda: fenced.dir.attach_kv("summary", {"by": "the fenced"}),
        lambda: fenced.dir.attach_table("rows", [{"by": "the fenced"}]),
        lambda: fenced.complete(outputs={"by": "the fenced"}),
        lambda: fenced.fail("it broke"),
        fenced.give_back,
    ):
        assert _refused(call)
    assert second.job.artifacts == []
    assert second.complete(outputs={"by": "second"}).outputs == {"by": "second"}
    assert _refused(lambda: fenced.complete(outputs={"by": "the fenced"}))
    job = settled(world)
    assert (job.outputs, job.artifacts, job.progress, job.attempt) == ({"by": "second"}, [], None, 2)
    assert not Path(world.spool.tree.job(world.job_id), "artifacts").exists()


@pytest.mark.parametrize("prepare", [worlds.expired_for_good, worlds.expired_and_cancelled])
def test_a_fenced_worker_cannot_publish_into_a_job_that_ended_without_it(tmp_path: Path, prepare: Any) -> None:
    world = prepare(tmp_path / "spool")
    world.another().claims.expire(TYPE)
    before = world.spool.get(world.job_id)
    assert before.is_terminal
    assert _refused(lambda: world.lease.complete(outputs={"by": "the fenced"}, summary="done"))
    assert world.spool.get(world.job_id) == before


def test_a_job_that_waited_long_is_not_taken_from_whoever_has_just_claimed_it(tmp_path: Path) -> None:
    for number in itertools.count(1):
        world = worlds.queued(tmp_path / str(number))
        then = time.time() - worlds.LONG_AGO
        os.utime(f"{world.spool.tree.job(world.job_id)}/status.queued.0", (then, then))
        taken_back: list[int] = []
        count = itertools.count(1)

        def reap(operation: str, path: str) -> None:
            if next(count) == number:
                files.hook = None
                taken_back.append(world.another().claims.expire(TYPE))

        files.hook = reap
        lease = world.spool.claim(TYPE, "holder")
        files.hook = None
        assert lease is not None
        assert world.another().claims.expire(TYPE) == 0
        assert taken_back in ([], [0])
        if not taken_back:
            break
    assert number > 5


def test_a_heartbeat_saves_a_lease_that_was_about_to_run_out(tmp_path: Path) -> None:
    for beat in (lambda lease: lease.heartbeat(), lambda lease: lease.progress("half")):
        world = worlds.expired(tmp_path / str(id(beat)))
        beat(world.lease)
        assert world.another().claims.expire(TYPE) == 0
        assert world.lease.complete().attempt == 1


def test_a_lease_lasts_as_long_as_its_claimer_asked_for(tmp_path: Path) -> None:
    world = worlds.queued(tmp_path / "spool")
    lease = world.spool.claim(TYPE, "holder", lease="1h")
    assert lease is not None
    status = Path(world.spool.tree.job(world.job_id), lease.dir.status_name)
    for age, taken_back in ((3500, 0), (3700, 1)):
        os.utime(status, (time.time() - age, time.time() - age))
        assert world.another().claims.expire(TYPE) == taken_back


def test_a_fenced_worker_cannot_give_back_what_waits_for_the_next(tmp_path: Path) -> None:
    world = worlds.expired(tmp_path / "spool")
    world.another().claims.expire(TYPE)
    assert _refused(world.lease.give_back)


def test_of_two_reapers_at_one_lease_one_took_it_back(tmp_path: Path) -> None:
    world = worlds.expired(tmp_path / "spool")
    counts = []

    def other(operation: str, path: str) -> None:
        if operation == "rename" and path.endswith("/status.queued.1"):
            files.hook = None
            counts.append(world.another().claims.expire(TYPE))

    files.hook = other
    try:
        counts.append(world.spool.claims.expire(TYPE))
    finally:
        files.hook = None
    assert sum(counts) == 1
    assert settled(world).attempt == 2


def test_a_cancel_that_comes_while_the_lease_is_taken_back_is_not_lost(tmp_path: Path) -> None:
    """The reaper has looked for a cancel, and has not renamed yet."""
    world = worlds.expired(tmp_path / "spool")

    def cancel(operation: str, path: str) -> None:
        if operation == "rename" and path.endswith("/status.queued.1"):
            files.hook = None
            assert world.another().cancel(world.job_id).cancel_requested

    files.hook = cancel
    try:
        world.spool.claims.expire(TYPE)
    finally:
        files.hook = None
    assert world.another().claim(TYPE, "next") is None
    assert settled(world).status == states.CANCELLED


def test_a_cancel_is_not_lost_when_the_lease_runs_out_anywhere_in_it(tmp_path: Path) -> None:
    for number in itertools.count(1):
        world = worlds.leased(tmp_path / str(number))
        met, count = False, itertools.count(1)

        def run_out(operation: str, path: str) -> None:
            nonlocal met
            if next(count) == number:
                files.hook, met = None, True
                _outlast(world, [], "")

        files.hook = run_out
        world.spool.cancel(world.job_id)
        files.hook = None
        assert settled(world).status == states.CANCELLED
        if not met:
            break
    assert number > 2


def test_a_cancel_is_not_lost_when_another_canceller_has_no_room_for_his(tmp_path: Path) -> None:
    world = worlds.leased(tmp_path / "spool")

    def full(operation: str, path: str) -> None:
        if operation == "write" and "cancel.json" in path:
            files.hook = None
            assert world.another().cancel(world.job_id).cancel_requested
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    files.hook = full
    try:
        with pytest.raises(StorageError):
            world.spool.cancel(world.job_id)
    finally:
        files.hook = None
    assert world.lease.heartbeat() is True


def test_a_result_does_not_change_once_it_was_accepted(tmp_path: Path) -> None:
    """Two with the same token finish at once: a command that is tried again while the first still runs."""
    world = worlds.leased(tmp_path / "spool")
    token, accepted = world.lease.token, []

    def complete(lease: Callable[[], Lease], by: str) -> None:
        with suppress(LeaseLost):
            accepted.append(lease().complete(outputs={"by": by}).outputs)

    def other(operation: str, path: str) -> None:
        if operation == "create" and "result.json." in path:
            files.hook = None
            complete(lambda: world.another().lease(world.job_id, token), "the other")

    Path(world.lease.dir.result).write_bytes(b"")  # the first try was cut off here
    files.hook = other
    try:
        complete(lambda: world.lease, "holder")
    finally:
        files.hook = None
    assert [settled(world).outputs] == accepted


@pytest.mark.parametrize("died_before", ["result.json", "artifacts", "finished"])
def test_what_a_worker_left_undone_after_its_result_was_accepted_is_mended(tmp_path: Path, died_before: str) -> None:
    """The links to the result that counted, and the entry: design, section 3, "repaired by any reader"."""
    world = worlds.leased(tmp_path / "spool")
    world.lease.dir.attach_kv("summary", {"findings": 1})

    def die(operation: str, path: str) -> None:
        last = operation == "symlink" and path.endswith(f"{world.job_id}/{died_before}")
        if last or (operation == "rename" and f"/{died_before}/" in path):
            raise KeyboardInterrupt

    files.hook = die
    try:
        with pytest.raises(KeyboardInterrupt):
            world.lease.complete()
    finally:
        files.hook = None
    settle(world)
    job_dir = Path(world.spool.tree.job(world.job_id))
    assert (job_dir / "result.json").samefile(job_dir / "result.1.json")
    assert (job_dir / "artifacts").samefile(job_dir / "attempt-1" / "artifacts")


# -- a second one meets the first at any point ------------------------------------------------------

Log = list[tuple[str, str]]


def _run(world: World, log: Log, who: str) -> None:
    if lease := world.another().claim(TYPE, who):
        lease.complete(outputs={"by": who})
        log.append((states.SUCCEEDED, who))


def _complete(world: World, log: Log, who: str) -> None:
    world.lease.complete(outputs={"by": "holder"})
    log.append((states.SUCCEEDED, "holder"))


def _fail(world: World, log: Log, who: str) -> None:
    world.lease.fail("it broke")
    log.append((states.FAILED, "holder"))


def _cancel(world: World, log: Log, who: str) -> None:
    if world.another().cancel(world.job_id, requested_by=who).status == states.CANCELLED:
        log.append((states.CANCELLED, "whoever asked"))


def _give_back(world: World, log: Log, who: str) -> None:
    world.lease.give_back()


def _progress(world: World, log: Log, who: str) -> None:
    world.lease.progress("half")


def _attach(world: World, log: Log, who: str) -> None:
    world.lease.dir.attach_table("rows", [{"a": 1}])


def _expire(world: World, log: Log, who: str) -> None:
    world.another().claims.expire(TYPE)


def _outlast(world: World, log: Log, who: str) -> None:
    """The first one stands still for so long that its lease runs out."""
    worlds.make_leases_old(world.spool)
    _expire(world, log, who)


def _outlast_and_run(world: World, log: Log, who: str) -> None:
    _outlast(world, log, who)
    _run(world, log, who)


def _read(world: World, log: Log, who: str) -> None:
    world.another().get(world.job_id)


def _repair(world: World, log: Log, who: str) -> None:
    """It does not even wait a moment to see whether what looks wrong is only under way."""
    done = repairing.repair(world.another(), contents=True, pause=0)
    assert done.counts.keys() <= {"set-aside"}, done.findings


FIRST: list[tuple[Callable[[Path], World], Callable[..., None]]] = [
    (worlds.queued, _run),
    (worlds.queued, _cancel),
    (worlds.leased, _complete),
    (worlds.leased, _fail),
    (worlds.leased, _give_back),
    (worlds.leased, _cancel),
    (worlds.leased, _progress),
    (worlds.leased, _attach),
    (worlds.last_attempt, _complete),
    (worlds.last_attempt, _give_back),
    (worlds.leased_and_cancelled, _complete),
    (worlds.expired, _expire),
    (worlds.expired, _complete),
    (worlds.expired, _run),
    (worlds.expired_for_good, _expire),
    (worlds.expired_for_good, _complete),
    (worlds.expired_and_cancelled, _expire),
    (worlds.expired_and_cancelled, _complete),
    (worlds.torn_result, _read),
]
SECOND = [_run, _cancel, _expire, _outlast, _outlast_and_run, _read, _repair]


@pytest.mark.parametrize(("prepare", "first"), FIRST, ids=[f"{p.__name__}, {f.__name__[1:]}" for p, f in FIRST])
@pytest.mark.parametrize("second", SECOND, ids=[second.__name__[1:] for second in SECOND])
def test_two_operations_may_meet_anywhere(
    tmp_path: Path, prepare: Callable[[Path], World], first: Callable[..., None], second: Callable[..., None]
) -> None:
    """The second runs as a whole before each mutation of the first: each such order must end well."""
    problems = []
    for number in itertools.count(1):
        world, log = prepare(tmp_path / str(number)), []
        where, errors = _meet(world, log, first, second, number)
        try:
            _ended_once(world, log)
        except (AssertionError, OSError, SpoolError) as error:
            errors.append(repr(error))
        problems += [f"before {where}: {error}" for error in errors]
        if not where:
            break
        TRIED["meetings of two operations"] += 1
    assert not problems, f"{len(problems)} problems at {number - 1} points:\n" + "\n".join(problems)


def _meet(
    world: World, log: Log, first: Callable[..., None], second: Callable[..., None], number: int
) -> tuple[str, list[str]]:
    """Let the first begin, and the second run before its mutation ``number``; gives that, and what either raised."""
    where = ""
    errors: list[str] = []
    count = itertools.count(1)

    def run(act: Callable[..., None], who: str) -> None:
        try:
            act(world, log, who)
        except LeaseLost:
            pass
        except Exception as error:
            errors.append(f"the {who} raised {error!r}")

    def hook(operation: str, path: str) -> None:
        nonlocal where
        if next(count) == number:
            files.hook, where = None, f"{operation} {path}"
            run(second, "second")

    without_locks(world.spool.root)  # they would wait for each other, here in one process
    files.hook = hook
    try:
        run(first, "first")
    finally:
        files.hook = None
    return where, errors


def _ended_once(world: World, log: Log) -> None:
    job = settled(world)
    assert len(set(log)) <= 1, f"more than one end was accepted: {log}"
    for status, who in log:
        assert job.status == status, f"{status} was acknowledged to {who}, but the job is {job.status}"
        assert status != states.SUCCEEDED or job.outputs == {"by": who}
