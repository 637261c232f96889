"""Where there is no syncfs, each file and directory is synced: all that the acknowledged rests on is named.

Others may have made a part of it and died before their own barrier, so a barrier names that part, too.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from breyta_spool import Spool, batches, files, finishing, once, paths, submitting
from breyta_spool.awaiting import BatchAwait, JobAwait
from breyta_spool.barrier import Barrier
from breyta_spool.claims import Claims
from breyta_spool.handler import PythonHandler
from breyta_spool.reader import Reader
from breyta_spool.results import Outcome
from breyta_spool.waiting import bound
from breyta_spool.worker import Settings, Worker
from tests.crash import worlds
from tests.crash.test_failing_disk import _with_barrier
from tests.crash.worlds import TYPE, World, settled

LIMITS = bound(timeout="5s")


def _named(world: World, act: Callable[[Claims], Any]) -> set[str]:
    """What an operation has its barriers sync, as paths below the spool; the root is ``.``."""
    named: set[str] = set()

    def barrier(written: Callable[[], Iterable[str]]) -> None:
        named.update(written())

    act(_with_barrier(world.spool, barrier))
    return {os.path.relpath(path, world.spool.root) for path in named}


def _with_all_above(spool: Spool, *written: str) -> set[str]:
    found = set()
    for path in (Path(os.path.relpath(path, spool.root)) for path in written):
        found |= {str(path), *map(str, path.parents)}
    return found


def _request(spool: Spool, job_id: str) -> Iterator[str]:
    yield from (f"{spool.tree.job(job_id)}/{name}" for name in (paths.JOB, paths.PAYLOAD))


def _result(spool: Spool, job_id: str) -> Iterator[str]:
    attempt = f"{spool.tree.job(job_id)}/attempt-1"
    yield f"{spool.tree.job(job_id)}/result.1.json"
    yield from (f"{attempt}/artifacts/{name}" for name in ("kv/summary.json", "report.txt"))
    yield from (f"{attempt}/artifacts/tables/findings.{ending}" for ending in ("jsonl", "table.json"))


def _attach_each(world: World, place: Path) -> None:
    (place / "report.txt").write_text("report\n")
    world.lease.dir.attach_file(str(place / "report.txt"))
    world.lease.dir.attach_kv("summary", {"n": 1})
    world.lease.dir.attach_table("findings", [{"n": 1}])


def _job(spool: Spool) -> str:
    (path,) = Path(spool.root, "jobs").glob("*/*/job-*")
    return path.name


def test_submit_names_the_request_and_its_place_in_the_queue(tmp_path: Path) -> None:
    world = worlds.empty(tmp_path / "spool")

    def submit(claims: Claims) -> None:
        request = submitting.build_request(claims.settings, "job-01M87QW2VNWAZ8GCK0ZF8MC9CR", TYPE, {}, {})
        submitting.publish(claims, *request)

    named, job_id = _named(world, submit), _job(world.spool)
    bucket = world.spool.tree.bucket(paths.queued(TYPE), job_id)
    assert named >= _with_all_above(world.spool, *_request(world.spool, job_id), bucket)


@pytest.mark.parametrize("times", [1, 2], ids=["who made the job", "who found it"])
def test_a_submit_with_a_key_names_the_key_too(tmp_path: Path, times: int) -> None:
    world = worlds.empty(tmp_path / "spool")
    for _ in range(times):
        named = _named(world, lambda claims: once.submit(claims, "key", TYPE, {}, {}))
    job_id = _job(world.spool)
    (link,) = Path(world.spool.root, "idempotency").glob("*/*")
    bucket = world.spool.tree.bucket(paths.queued(TYPE), job_id)
    assert named >= _with_all_above(world.spool, *_request(world.spool, job_id), bucket, str(link.parent))


def test_a_submit_with_a_key_names_the_result_of_a_job_that_has_ended(tmp_path: Path) -> None:
    world = worlds.empty(tmp_path / "spool")
    job_id = world.spool.submit(TYPE, idempotency_key="key").job_id
    world.held = world.spool.claim(TYPE, "holder")
    _attach_each(world, tmp_path)
    world.lease.complete()
    named = _named(world, lambda claims: once.submit(claims, "key", TYPE, {}, {}))
    assert named >= _with_all_above(world.spool, *_request(world.spool, job_id), *_result(world.spool, job_id))


def test_a_finish_names_the_request_too(tmp_path: Path) -> None:
    world = worlds.leased(tmp_path / "spool")
    _attach_each(world, tmp_path)
    named = _named(world, lambda claims: _finish(claims, world))
    spool, job_id = world.spool, world.job_id
    assert named >= _with_all_above(spool, *_request(spool, job_id), *_result(spool, job_id))


def _finish(claims: Claims, world: World) -> None:
    claims.finish(world.lease.held.dir, TYPE, Outcome("succeeded"), {})


def test_artifacts_are_on_the_disk_before_the_rename_that_makes_a_result_of_them_count(tmp_path: Path) -> None:
    world = worlds.leased(tmp_path / "spool")
    _attach_each(world, tmp_path)
    order: list[str] = []
    files.hook = lambda operation, path: order.append(os.path.basename(path))
    claims = _with_barrier(world.spool, lambda written: order.extend(map(os.path.basename, written())))
    _finish(claims, world)
    files.hook = None
    counts = order.index("status.succeeded.1")
    assert {"report.txt", "summary.json", "findings.jsonl", "findings.table.json", "artifacts", "kv", "tables"} <= {
        *order[:counts]
    }


def test_a_result_without_artifacts_costs_one_barrier(tmp_path: Path) -> None:
    world, barriers = worlds.leased(tmp_path / "spool"), []
    _finish(_with_barrier(world.spool, barriers.append), world)
    assert len(barriers) == 1


def test_a_worker_whose_disk_did_not_sync_an_artifact_stops_and_the_job_is_done_again(tmp_path: Path) -> None:
    world = worlds.queued(tmp_path / "spool")
    spool = world.another()
    spool.barrier = _Refusing(spool.root)
    spool.claims = _with_barrier(spool, spool.barrier)
    logged: list[str] = []
    handler = PythonHandler(lambda job: job.attach_kv("summary", {"n": 1}) and None, "test", spool.root)
    tally = Worker(spool, handler, Settings(TYPE, lease="1s", poll=0.05), logged.append).run()
    assert (tally.handled, tally.lost) == (0, 1)
    assert "the disk did not sync, so this worker stops" in "\n".join(logged)
    assert settled(world).attempt == 2


class _Refusing(Barrier):
    has_failed = True

    def __call__(self, written: Callable[[], Iterable[str]]) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_a_pipe_that_a_handler_leaves_does_not_hold_up_its_worker(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    assert {*finishing.tree_of(str(tmp_path))} == {str(tmp_path), str(tmp_path / "file")}


def test_an_await_names_the_request_and_the_result(tmp_path: Path) -> None:
    world = worlds.leased(tmp_path / "spool")
    _attach_each(world, tmp_path)
    world.lease.complete()
    named = _named(world, lambda claims: JobAwait(Reader(claims), world.job_id).run(LIMITS))
    spool, job_id = world.spool, world.job_id
    assert named >= _with_all_above(spool, *_request(spool, job_id), *_result(spool, job_id))


@pytest.mark.parametrize("prepare", [worlds.queued, worlds.leased, worlds.leased_and_cancelled])
def test_a_cancel_names_the_request_too(tmp_path: Path, prepare: Callable[[Path], World]) -> None:
    world = prepare(tmp_path / "spool")
    named = _named(world, lambda claims: claims.cancel(world.job_id, TYPE, "test", ""))
    cancel = f"{world.spool.tree.job(world.job_id)}/cancel.json"
    assert named >= _with_all_above(world.spool, *_request(world.spool, world.job_id), cancel)


def _requests(world: World) -> Iterator[str]:
    yield f"{world.spool.tree.batch(world.batch_id)}/batch.json"
    for job_id in world.acknowledged:
        yield from _request(world.spool, job_id)


def test_cancelling_a_batch_names_all_of_it(tmp_path: Path) -> None:
    world = worlds.batch(tmp_path / "spool")
    record = batches.load(world.spool.claims, world.batch_id)
    named = _named(world, lambda claims: batches.cancel(claims, record, "test", ""))
    cancel = f"{world.spool.tree.batch(world.batch_id)}/cancel.json"
    assert named >= _with_all_above(world.spool, *_requests(world), cancel)


def test_the_await_of_a_batch_names_all_of_it(tmp_path: Path) -> None:
    world = worlds.ended_batch(tmp_path / "spool")
    record = batches.load(world.spool.claims, world.batch_id)
    named = _named(world, lambda claims: BatchAwait(Reader(claims), record).run(LIMITS, None, None))
    results = [f"{world.spool.tree.job(job_id)}/result.1.json" for job_id in world.acknowledged]
    assert named >= _with_all_above(world.spool, *_requests(world), *results)
