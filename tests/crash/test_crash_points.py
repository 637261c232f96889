"""Kill each operation before each of its changes to the disk, and look what the others make of what is left."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from breyta_spool import Job, NoSuchSpool, Spool, jobs, paths, states
from breyta_spool.handler import ActiveJob, PythonHandler
from breyta_spool.worker import Settings, Worker
from tests.crash import worlds
from tests.crash.invariants import violations
from tests.crash.processes import in_child, killed_everywhere
from tests.crash.worlds import TYPE, World, settle, settled

# -- submit, claim ----------------------------------------------------------------------------------


def test_a_submitter_killed_anywhere_leaves_a_whole_job_or_none(tmp_path: Path) -> None:
    def check(world: World, job_id: str | None) -> None:
        world.acknowledged += [job_id] if job_id else []
        assert list(settle(world).values()) in ([states.SUCCEEDED], [] if job_id is None else None)

    killed_everywhere(tmp_path, worlds.empty, lambda world: world.spool.submit(TYPE, {"n": 1}).job_id, check, 14)


def test_a_submitter_killed_anywhere_does_not_touch_the_jobs_of_others(tmp_path: Path) -> None:
    def check(world: World, job_id: str | None) -> None:
        world.acknowledged += [job_id] if job_id else []
        done = settle(world)
        assert set(done.values()) == {states.SUCCEEDED}
        assert len(done) <= 2

    killed_everywhere(tmp_path, worlds.queued, lambda world: world.spool.submit(TYPE, {"n": 2}).job_id, check, 6)


def test_a_worker_killed_anywhere_in_its_claim_leaves_the_job_to_the_next(tmp_path: Path) -> None:
    def claim(world: World) -> int:
        lease = world.spool.claim(TYPE, "victim")
        assert lease is not None
        return lease.dir.attempt

    def check(world: World, attempt: int | None) -> None:
        job = settled(world)
        assert (job.status, job.outputs) == (states.SUCCEEDED, {"by": "settler"})
        assert job.attempt == 2 if attempt else job.attempt <= 2

    killed_everywhere(tmp_path, worlds.queued, claim, check, 8)


def test_a_worker_killed_anywhere_in_its_last_claim_leaves_a_job_that_ends(tmp_path: Path) -> None:
    def check(world: World, claimed: bool | None) -> None:
        job = settled(world)
        assert job.status == states.TIMED_OUT if claimed else job.status in (states.SUCCEEDED, states.TIMED_OUT)

    killed_everywhere(
        tmp_path,
        lambda place: worlds.queued(place, max_attempts=1),
        lambda world: world.spool.claim(TYPE, "victim") is not None,
        check,
        8,
    )


def test_a_worker_killed_anywhere_in_a_jobs_life_loses_nothing(tmp_path: Path) -> None:
    def handle(job: ActiveJob) -> dict[str, Any]:
        job.progress("half")
        Path(job.dir, "report.md").write_text("# done\n")
        job.attach_file(f"{job.dir}/report.md")
        job.attach_table("rows", [{"a": 1}])
        return {"outputs": {"by": "victim"}}

    def work(world: World) -> int:
        handler = PythonHandler(handle, "victim", world.spool.root)
        return Worker(world.spool, handler, Settings(TYPE, once=True, poll=60)).run().handled

    def check(world: World, handled: int | None) -> None:
        job = settled(world)
        assert job.status == states.SUCCEEDED
        assert job.outputs["by"] == "victim" if handled else job.outputs["by"] in ("victim", "settler")
        assert len(job.artifacts) == (2 if job.outputs["by"] == "victim" else 0)

    killed_everywhere(tmp_path, worlds.queued, work, check, 30)


# -- inside a lease ---------------------------------------------------------------------------------


def test_a_worker_killed_anywhere_while_it_renews_its_lease_leaves_the_lease_to_run_out(tmp_path: Path) -> None:
    def check(world: World, cancel: bool | None) -> None:
        assert cancel in (None, False)
        assert world.lease.heartbeat() is False, "the claim can be read"
        claim = jobs.load_claim(world.spool.tree.job(world.job_id), 1)
        assert claim is not None
        assert claim.lease_ms in ((120_000, 3_600_000) if cancel is None else (3_600_000,))
        job = settled(world)
        assert (job.status, job.attempt) == (states.SUCCEEDED, 2)

    killed_everywhere(tmp_path, worlds.leased, lambda world: world.lease.heartbeat("1h"), check, 4)


def test_a_process_killed_anywhere_while_it_reports_progress_harms_nothing(tmp_path: Path) -> None:
    artifact = {"kind": "link", "resourceUri": "https://example.org/report"}

    def check(world: World, told: Any) -> None:
        job = world.spool.get(world.job_id)
        assert job.progress is None if told is None and job.progress is None else job.progress.message == "half"
        done = world.lease.complete(outputs={"by": "holder"})
        assert done.status == states.SUCCEEDED
        if told is not None:
            assert (done.progress.message, done.artifacts) == ("half", [artifact])
        settled(world)

    killed_everywhere(
        tmp_path, worlds.leased, lambda world: world.lease.progress("half", artifacts=[artifact]), check, 3
    )


def _attached_or_not(world: World, described: dict[str, Any] | None, before: int = 0) -> Job:
    """The worker ends a job whose helper was killed while it attached; what was acknowledged is in the result."""
    done = world.lease.complete(outputs={"by": "holder"})
    assert violations(world.spool, world.acknowledged) == []
    if described is not None:
        assert described["resourceUri"] in [artifact["resourceUri"] for artifact in done.artifacts]
        assert len(done.artifacts) == 1
    assert len(done.artifacts) >= before
    return done


def test_a_helper_killed_anywhere_while_it_attaches_a_file_attached_it_or_not(tmp_path: Path) -> None:
    report = tmp_path / "report.md"
    report.write_text("# Report\n" * 1000)
    killed_everywhere(
        tmp_path, worlds.leased, lambda world: world.lease.dir.attach_file(str(report)), _attached_or_not, 3
    )


def test_a_helper_killed_anywhere_while_it_attaches_a_value_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    def prepare(place: Path) -> World:
        world = worlds.leased(place)
        world.lease.dir.attach_kv("summary", {"findings": 1})
        return world

    def check(world: World, described: dict[str, Any] | None) -> None:
        done = _attached_or_not(world, described, before=1)
        value = Path(world.lease.dir.artifacts, "kv", "summary.json").read_text()
        assert '"value": {"findings": 2}' in value or (described is None and '"value": {"findings": 1}' in value)
        assert len(done.artifacts) == 1

    killed_everywhere(tmp_path, prepare, lambda world: world.lease.dir.attach_kv("summary", {"findings": 2}), check, 4)


def test_a_helper_killed_anywhere_while_it_attaches_a_value_that_expires_leaves_nothing_unswept(tmp_path: Path) -> None:
    def attach(world: World, value: int) -> dict[str, Any]:
        return world.lease.dir.attach_kv("summary", value, ttl_seconds=60)

    def prepare(place: Path) -> World:
        world = worlds.leased(place)
        attach(world, 1)
        return world

    def check(world: World, described: dict[str, Any] | None) -> None:
        uri = _attached_or_not(world, described, before=1).artifacts[0]["resourceUri"]
        assert world.spool.resources.read(uri)["value"] in ((1, 2) if described is None else (2,))
        _all_is_swept(world)

    killed_everywhere(tmp_path, prepare, lambda world: attach(world, 2), check, 5)


def _make_due(world: World) -> None:
    """Let every value and every link look as if their time had come."""
    for value in Path(world.spool.root).glob("jobs/*/*/*/attempt-*/artifacts/kv/*.json"):
        os.utime(value, (0, 0))
    for link in Path(world.spool.root, "expiring").rglob("job-*"):
        bucket = Path(world.spool.root, "expiring/20200101/0000")
        bucket.mkdir(parents=True, exist_ok=True)
        link.rename(bucket / link.name)


def _all_is_swept(world: World) -> None:
    _make_due(world)
    world.another().claims.sweep()
    assert list(Path(world.spool.root).glob("jobs/*/*/*/attempt-*/artifacts/kv/*.json")) == []
    assert list(Path(world.spool.root, "expiring").rglob("job-*")) == []


def test_a_sweep_killed_anywhere_is_finished_by_the_next(tmp_path: Path) -> None:
    def prepare(place: Path) -> World:
        world = worlds.leased(place)
        for name in ("one", "two"):
            world.lease.dir.attach_kv(name, 1, ttl_seconds=60)
        world.lease.dir.attach_kv("kept", 1, ttl_seconds=60)
        world.lease.complete(outputs={"by": "holder"})
        _make_due(world)
        os.utime(Path(world.lease.dir.artifacts, "kv/kept.json"))
        return world

    def check(world: World, swept: Any) -> None:
        world.another().claims.sweep()
        assert os.listdir(f"{world.lease.dir.artifacts}/kv") == ["kept.json"]
        links = list(Path(world.spool.root, "expiring").rglob("job-*"))
        assert [link.name for link in links] == [f"{world.job_id}.1.kept"]
        assert links[0].resolve() == Path(world.lease.dir.artifacts, "kv/kept.json").resolve()
        assert world.spool.get(world.job_id).status == states.SUCCEEDED
        _all_is_swept(world)

    killed_everywhere(tmp_path, prepare, lambda world: world.spool.claims.sweep(), check, 6)


OLD, NEW = [{"id": 1, "v": "a"}, {"id": 2, "v": "b"}], [{"id": 2, "v": "c"}, {"id": 3, "v": "d"}]


def _with_table(place: Path) -> World:
    world = worlds.leased(place)
    world.lease.dir.attach_table("rows", OLD, key_fields=["id"])
    return world


def _rows(world: World) -> list[str]:
    return Path(world.lease.dir.artifacts, "tables", "rows.jsonl").read_text().splitlines()


@pytest.mark.parametrize(("mode", "least", "counts"), [("append", 4, (2, 4)), ("upsert", 10, (2, 3))])
def test_a_helper_killed_anywhere_while_it_attaches_rows_leaves_all_of_them_or_none(
    tmp_path: Path, mode: str, least: int, counts: tuple[int, int]
) -> None:
    def check(world: World, described: dict[str, Any] | None) -> None:
        done = _attached_or_not(world, described, before=1)
        assert len(_rows(world)) in (counts if described is None else counts[1:])
        assert done.artifacts[0]["rowCount"] == len(_rows(world))

    killed_everywhere(
        tmp_path, _with_table, lambda world: world.lease.dir.attach_table("rows", NEW, write_mode=mode), check, least
    )


@pytest.mark.parametrize(("mode", "least", "counts"), [("append", 4, (4, 6)), ("upsert", 10, (3,))])
def test_rows_can_be_attached_again_after_a_helper_was_killed(
    tmp_path: Path, mode: str, least: int, counts: tuple[int, ...]
) -> None:
    def attach(world: World) -> dict[str, Any]:
        return world.lease.dir.attach_table("rows", NEW, write_mode=mode)

    def check(world: World, described: dict[str, Any] | None) -> None:
        again = attach(world)
        assert again["rowCount"] == len(_rows(world))
        assert again["rowCount"] in (counts if described is None else counts[-1:])
        _attached_or_not(world, again)

    killed_everywhere(tmp_path, _with_table, attach, check, least)


@pytest.mark.parametrize(("mode", "points"), [("append", range(3, 8)), ("upsert", range(7, 14))])
def test_a_table_survives_one_killed_helper_after_the_other(tmp_path: Path, mode: str, points: range) -> None:
    """The second is killed in what the first has left, the third gets through."""

    def attach(world: World) -> dict[str, Any]:
        return world.lease.dir.attach_table("rows", NEW, write_mode=mode)

    def append(world: World) -> dict[str, Any]:
        return world.lease.dir.attach_table("rows", [{"id": 9, "v": "z"}])

    for first in points:

        def prepare(place: Path, first: int = first) -> World:
            world = _with_table(place)
            in_child(lambda: attach(world), dies_at=first)
            return world

        def check(world: World, described: dict[str, Any] | None) -> None:
            again = append(world)
            assert again["rowCount"] == len(_rows(world))
            assert '{"id":9,"v":"z"}' in _rows(world)
            _attached_or_not(world, again)

        killed_everywhere(tmp_path / str(first), prepare, append, check, 3)


# -- ends -------------------------------------------------------------------------------------------


def _complete(world: World) -> str:
    return world.lease.complete(outputs={"by": "holder"}).status


def _ended_once(world: World, answer: str | None) -> None:
    job = settled(world)
    assert job.status == states.SUCCEEDED
    if answer is not None or job.attempt == 1:
        assert (job.outputs, job.attempt) == ({"by": "holder"}, 1)
    else:
        assert (job.outputs, job.attempt, job.artifacts) == ({"by": "settler"}, 2, [])


def test_a_worker_killed_anywhere_in_its_finish_has_one_result_accepted(tmp_path: Path) -> None:
    killed_everywhere(tmp_path, worlds.leased, _complete, _ended_once, 5)


def test_a_worker_killed_anywhere_in_a_finish_with_artifacts_has_one_result_accepted(tmp_path: Path) -> None:
    def prepare(place: Path) -> World:
        world = _with_table(place)
        world.lease.dir.attach_kv("summary", {"findings": 1})
        return world

    killed_everywhere(tmp_path, prepare, _complete, _ended_once, 6)


def test_a_worker_killed_anywhere_in_its_last_finish_leaves_success_or_timeout(tmp_path: Path) -> None:
    def check(world: World, answer: str | None) -> None:
        job = settled(world)
        if answer is not None or job.status == states.SUCCEEDED:
            assert (job.status, job.outputs) == (states.SUCCEEDED, {"by": "holder"})
        else:
            assert (job.status, job.outputs, job.error.code) == (states.TIMED_OUT, {}, states.TIMED_OUT)

    killed_everywhere(tmp_path, worlds.last_attempt, _complete, check, 5)


def test_a_worker_killed_anywhere_while_it_finishes_a_cancelled_job_leaves_one_end(tmp_path: Path) -> None:
    def check(world: World, answer: str | None) -> None:
        job = settled(world)
        if answer is not None or job.status == states.SUCCEEDED:
            assert (job.status, job.outputs) == (states.SUCCEEDED, {"by": "holder"})
        else:
            assert (job.status, job.outputs, job.error.code) == (states.CANCELLED, {}, states.CANCELLED)

    killed_everywhere(tmp_path, worlds.leased_and_cancelled, _complete, check, 5)


def _cancel(world: World) -> str:
    return world.spool.cancel(world.job_id, reason="no longer needed", requested_by="test").status


def _cancelled_if_acknowledged(world: World, answer: str | None) -> None:
    job = settled(world)
    assert job.status == states.CANCELLED if answer else job.status in (states.CANCELLED, states.SUCCEEDED)


def test_a_canceller_of_a_queued_job_killed_anywhere_cancels_it_or_lets_it_run(tmp_path: Path) -> None:
    killed_everywhere(tmp_path, worlds.queued, _cancel, _cancelled_if_acknowledged, 4)


def test_a_canceller_of_a_leased_job_killed_anywhere_cancels_it_or_lets_it_run(tmp_path: Path) -> None:
    killed_everywhere(tmp_path, worlds.leased, _cancel, _cancelled_if_acknowledged, 2)


def _give_back(world: World) -> str:
    return world.lease.give_back().status


def test_a_worker_killed_anywhere_while_it_gives_a_job_back_leaves_it_to_the_next(tmp_path: Path) -> None:
    def check(world: World, answer: str | None) -> None:
        assert answer in (None, states.QUEUED)
        assert (settled(world).status, world.spool.get(world.job_id).attempt) == (states.SUCCEEDED, 2)

    killed_everywhere(tmp_path, worlds.leased, _give_back, check, 2)


def test_a_worker_killed_anywhere_while_it_gives_up_the_last_attempt_leaves_a_job_that_ends(tmp_path: Path) -> None:
    def check(world: World, answer: str | None) -> None:
        assert answer in (None, states.TIMED_OUT)
        assert settled(world).status == states.TIMED_OUT

    killed_everywhere(tmp_path, worlds.last_attempt, _give_back, check, 2)


# -- repairs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prepare", "end", "attempt", "least"),
    [
        (worlds.expired, states.SUCCEEDED, 2, 4),
        (worlds.expired_for_good, states.TIMED_OUT, 1, 4),
        (worlds.expired_and_cancelled, states.CANCELLED, 1, 4),
    ],
    ids=["to the queue", "to timed_out", "to cancelled"],
)
def test_a_reaper_killed_anywhere_leaves_a_job_that_goes_on(
    tmp_path: Path, prepare: Any, end: str, attempt: int, least: int
) -> None:
    def check(world: World, count: int | None) -> None:
        assert count in (None, 1)
        job = settled(world)
        assert (job.status, job.attempt) == (end, attempt)

    killed_everywhere(tmp_path, prepare, lambda world: world.spool.claims.expire(TYPE), check, least)


def test_a_reader_killed_anywhere_while_it_puts_back_a_torn_result_leaves_a_job_that_is_done_again(
    tmp_path: Path,
) -> None:
    def check(world: World, answer: str | None) -> None:
        assert answer in (None, states.QUEUED)
        world.spool.get(world.job_id)
        job = settled(world)
        assert (job.status, job.outputs, job.attempt) == (states.SUCCEEDED, {"by": "settler"}, 2)

    killed_everywhere(tmp_path, worlds.torn_result, lambda world: world.spool.get(world.job_id).status, check, 5)


def test_a_reader_killed_anywhere_while_it_puts_back_the_last_attempt_leaves_a_job_that_ends(tmp_path: Path) -> None:
    def check(world: World, answer: str | None) -> None:
        assert answer in (None, states.TIMED_OUT)
        world.spool.get(world.job_id)
        job = settled(world)
        assert (job.status, job.outputs) == (states.TIMED_OUT, {})

    killed_everywhere(
        tmp_path,
        lambda place: worlds.torn_result(place, max_attempts=1),
        lambda world: world.spool.get(world.job_id).status,
        check,
        5,
    )


def test_a_retry_killed_anywhere_makes_one_new_job_or_none(tmp_path: Path) -> None:
    def check(world: World, job_id: str | None) -> None:
        world.acknowledged += [job_id] if job_id else []
        done = settle(world)
        assert set(done.values()) == {states.SUCCEEDED}
        new = sorted(set(done) - {world.job_id})
        assert [world.spool.get(job_id).retry_of for job_id in new] in ([world.job_id], [] if not job_id else None)

    killed_everywhere(tmp_path, worlds.ended, lambda world: world.spool.retry(world.job_id).job_id, check, 6)


def _init(place: Path) -> str:
    return Spool.init(place, durability="none").root


def test_an_init_killed_anywhere_leaves_a_whole_spool_or_none(tmp_path: Path) -> None:
    def check(place: Path, root: str | None) -> None:
        try:
            spool = Spool.open(place)
        except NoSuchSpool:
            assert root is None
            return
        assert {path.name for path in place.iterdir() if not path.name.startswith(".")} == {*paths.TOP, "spool.json"}
        world = World(spool)
        world.acknowledged.append(spool.submit(TYPE).job_id)
        assert settled(world).status == states.SUCCEEDED

    killed_everywhere(tmp_path, lambda place: place, _init, check, 10)


def test_an_init_killed_anywhere_can_be_done_again(tmp_path: Path) -> None:
    def check(place: Path, root: str | None) -> None:
        assert (place / "spool.json").exists() or (root is None and Spool.open(_init(place)))

    killed_everywhere(tmp_path, lambda place: place, _init, check, 10)
