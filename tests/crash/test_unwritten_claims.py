"""A worker that handles jobs in its own process writes a lease down only when the job has run for a while."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from breyta_spool import Spool, jsonio, paths, states
from breyta_spool.handler import ActiveJob, PythonHandler
from breyta_spool.worker import Settings, Worker
from tests.crash import worlds
from tests.crash.invariants import status_of, violations
from tests.crash.worlds import TYPE, World, make_leases_old


def _worker(spool: Spool, function: object, **settings: object) -> Worker:
    handle = PythonHandler(function, "h", spool.root)  # type: ignore[arg-type]
    return Worker(spool, handle, Settings(TYPE, "quick", once=True, **settings))  # type: ignore[arg-type]


def _names(world: World) -> set[str]:
    return set(os.listdir(world.spool.tree.job(world.job_id)))


def _listed(world: World) -> list[str]:
    return [at.parts[-4] for at in Path(world.spool.root).glob(f"*/*/*/{world.job_id}") if at.parts[-4] != "jobs"]


def test_a_quick_job_tells_of_its_claim_in_its_result(tmp_path: Path) -> None:
    world = worlds.queued(tmp_path / "spool")
    _worker(world.spool, lambda job: None, labels={"rack": 7}).run()
    assert "claim.1.json" not in _names(world)
    job = world.spool.get(world.job_id)
    assert (job.status, job.worker_id, job.worker_labels, job.attempt) == ("succeeded", "quick", {"rack": 7}, 1)
    (attempt,) = job.attempts
    assert (attempt.worker_id, attempt.lease_ms) == ("quick", world.spool.settings.default_lease_ms)
    assert attempt.claimed_at == job.started_at is not None
    assert "claim" not in (job.result or {})
    assert violations(world.spool, world.acknowledged, settled=True) == []


@pytest.mark.parametrize("claim", ["x", 7, [], {}, {"workerId": 7}, {"workerId": "w", "claimedAt": []}], ids=str)
def test_a_claim_in_a_result_that_is_none_hides_nothing_else(tmp_path: Path, claim: object) -> None:
    world = worlds.queued(tmp_path / "spool")
    _worker(world.spool, lambda job: None).run()
    result = Path(world.spool.tree.job(world.job_id), "result.1.json")
    result.write_bytes(jsonio.record(jsonio.parse_object(result.read_bytes(), "result") | {"claim": claim}))
    job = world.spool.get(world.job_id)
    assert (job.status, job.attempt, len(job.attempts)) == ("succeeded", 1, 1)


def test_a_job_that_runs_on_is_written_down_and_listed(tmp_path: Path) -> None:
    world, seen = worlds.queued(tmp_path / "spool"), []

    def handle(job: ActiveJob) -> None:
        end = time.monotonic() + 30
        while "claim.1.json" not in _names(world) and time.monotonic() < end:
            time.sleep(0.02)
        seen.append((world.spool.get(job.job_id).worker_id, _listed(world)))

    _worker(world.spool, handle).run()
    assert seen == [("quick", ["leased"])]
    assert _listed(world) == ["finished"]
    assert violations(world.spool, world.acknowledged, settled=True) == []


def test_a_lease_of_another_duration_is_written_down_at_once(tmp_path: Path) -> None:
    world, seen = worlds.queued(tmp_path / "spool"), []
    _worker(world.spool, lambda job: seen.append(("claim.1.json" in _names(world), _listed(world))), lease="7s").run()
    assert seen == [(True, ["leased"])]


def test_a_worker_that_died_before_it_wrote_its_claim_gives_the_job_back(tmp_path: Path) -> None:
    world = worlds.queued(tmp_path / "spool")
    spool = world.another()
    held = spool.claims.claim(spool.queue(TYPE), TYPE, "dead", {}, spool.settings.default_lease_ms, True, True)
    assert held is not None
    assert _listed(world) == ["queued"]
    assert world.spool.claim(TYPE, "next") is None  # it meets the entry, and lists the job as leased
    assert _listed(world) == ["leased"]
    make_leases_old(world.spool)
    world.spool.claims.expire(TYPE)
    assert status_of(world.spool, world.job_id).name == "status.queued.1"
    lease = world.spool.claim(TYPE, "next")
    assert lease is not None
    assert lease.complete().status == states.SUCCEEDED
    assert violations(world.spool, world.acknowledged, settled=True) == []


def test_others_may_list_a_job_as_leased_before_its_worker_ends_it(tmp_path: Path) -> None:
    world = worlds.queued(tmp_path / "spool")
    other = world.another()
    _worker(world.spool, lambda job: other.claims.claim(other.queue(TYPE), TYPE, "w", {}, 1000)).run()
    assert _listed(world) == ["finished"]
    assert world.spool.get(world.job_id).worker_id == "quick"


def test_what_runs_in_its_process_when_a_worker_is_told_to_go_is_written_down(tmp_path: Path) -> None:
    world = worlds.queued(tmp_path / "spool")
    running, may_end = threading.Event(), threading.Event()

    def handle(job: ActiveJob) -> None:
        running.set()
        may_end.wait(30)

    worker = _worker(world.spool, handle)
    threading.Thread(target=worker.run, daemon=True).start()
    assert running.wait(30)
    worker.abort()
    end = time.monotonic() + 30
    while status_of(world.spool, world.job_id).state != states.QUEUED and time.monotonic() < end:
        time.sleep(0.02)
    may_end.set()
    job = world.spool.get(world.job_id)
    assert (job.status, [attempt.worker_id for attempt in job.attempts]) == (states.QUEUED, ["quick"])
    assert _listed(world) == ["queued"]


def test_a_torn_result_that_is_met_in_the_queue_is_done_again(tmp_path: Path) -> None:
    """Its worker lost its power between the rename that ended the job and the move of the entry."""
    world = worlds.torn_result(tmp_path / "spool")
    world.spool.index.move(world.job_id, paths.finished(states.SUCCEEDED, TYPE), paths.queued(TYPE))
    assert world.spool.claim(TYPE, "another") is None
    assert status_of(world.spool, world.job_id).name == "status.queued.1"
    lease = world.spool.claim(TYPE, "next")
    assert lease is not None
    assert lease.complete(outputs={"by": "next"}).outputs == {"by": "next"}
    assert violations(world.spool, world.acknowledged, settled=True) == []
