"""Files that a power cut has torn, and content that looks torn to a reader: what was acknowledged stays readable."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from breyta_spool import Damaged, Lease, Spool, SpoolError, states
from tests.crash import worlds
from tests.crash.invariants import violations
from tests.crash.worlds import TYPE, World, settle, settled

CUTS = pytest.mark.parametrize("part", [0, 0.5], ids=["empty", "half"])


def _tear(path: str, part: float) -> None:
    os.truncate(path, int(os.stat(path).st_size * part))


# -- torn -------------------------------------------------------------------------------------------


@CUTS
@pytest.mark.parametrize("name", ["job.json", "payload.json"])
def test_a_torn_request_is_set_aside_and_the_others_go_on(tmp_path: Path, name: str, part: float) -> None:
    world = worlds.queued(tmp_path / "spool")
    torn, spool = world.acknowledged.pop(), world.spool
    _tear(f"{spool.tree.job(torn)}/{name}", part)
    world.acknowledged.append(spool.submit(TYPE, {"n": 2}).job_id)
    assert set(settle(world)) == {world.job_id}
    assert Path(spool.tree.set_aside(torn), name).exists()
    assert name in Path(f"{spool.tree.set_aside(torn)}.why.txt").read_text()
    with pytest.raises(Damaged, match="has been set aside") as caught:
        spool.get(torn)
    assert "submit it again" in caught.value.hint


@CUTS
def test_a_request_torn_while_it_was_leased_is_set_aside_by_the_reaper(tmp_path: Path, part: float) -> None:
    world = worlds.expired(tmp_path / "spool")
    torn = world.acknowledged.pop()
    _tear(f"{world.spool.tree.job(torn)}/job.json", part)
    assert settle(world) == {}
    assert Path(world.spool.tree.set_aside(torn)).is_dir()


@CUTS
def test_a_torn_result_is_done_again(tmp_path: Path, part: float) -> None:
    world = worlds.ended(tmp_path / "spool")
    _tear(f"{world.spool.tree.job(world.job_id)}/result.1.json", part)
    assert world.spool.get(world.job_id).status == states.QUEUED
    job = settled(world)
    assert (job.status, job.attempt, job.outputs) == (states.SUCCEEDED, 2, {"by": "settler"})
    link = Path(world.spool.tree.job(world.job_id), "result.json")
    assert link.readlink() == Path("result.2.json")


@CUTS
def test_a_torn_result_of_the_last_attempt_ends_the_job(tmp_path: Path, part: float) -> None:
    world = worlds.ended(tmp_path / "spool", max_attempts=1)
    _tear(f"{world.spool.tree.job(world.job_id)}/result.1.json", part)
    job = world.spool.get(world.job_id)
    assert (job.status, job.outputs) == (states.TIMED_OUT, {})
    settled(world)


@CUTS
def test_a_torn_result_of_a_cancelled_job_leaves_it_cancelled(tmp_path: Path, part: float) -> None:
    world = worlds.leased_and_cancelled(tmp_path / "spool")
    world.lease.complete(status=states.CANCELLED)
    _tear(f"{world.spool.tree.job(world.job_id)}/result.1.json", part)
    assert world.spool.get(world.job_id).status == states.CANCELLED
    settled(world)


@CUTS
@pytest.mark.parametrize("name", ["claim.1.json", "attempt-1/progress.jsonl", "attempt-1/artifacts.jsonl"])
def test_what_an_attempt_leaves_torn_does_not_hide_the_job(tmp_path: Path, name: str, part: float) -> None:
    """None of these is ever made durable by itself."""
    world = worlds.leased(tmp_path / "spool")
    world.lease.progress("half", artifacts=[{"kind": "link", "resourceUri": "https://example.org/report"}])
    _tear(f"{world.spool.tree.job(world.job_id)}/{name}", part)
    assert world.spool.get(world.job_id).status in states.PROGRESS
    job = settled(world)
    assert (job.status, job.attempt, job.outputs) == (states.SUCCEEDED, 2, {"by": "settler"})


@CUTS
def test_a_torn_claim_does_not_hide_the_result_that_followed(tmp_path: Path, part: float) -> None:
    world = worlds.ended(tmp_path / "spool")
    _tear(f"{world.spool.tree.job(world.job_id)}/claim.1.json", part)
    assert world.spool.get(world.job_id).outputs == {"by": "holder"}
    assert world.spool.await_job(world.job_id, timeout="1s").succeeded


@CUTS
def test_a_torn_note_of_a_cancel_is_still_a_cancel(tmp_path: Path, part: float) -> None:
    world = worlds.expired_and_cancelled(tmp_path / "spool")
    _tear(f"{world.spool.tree.job(world.job_id)}/cancel.json", part)
    assert settled(world).status == states.CANCELLED


@pytest.mark.parametrize("name", ["job.json", "payload.json"])
def test_a_request_that_is_missing_is_damaged(tmp_path: Path, name: str) -> None:
    world = worlds.queued(tmp_path / "spool")
    Path(world.spool.tree.job(world.acknowledged[0]), name).unlink()
    with pytest.raises(Damaged, match=name):
        world.spool.get(world.acknowledged.pop())
    assert settle(world) == {}


def test_a_damaged_job_can_be_set_aside_a_second_time(tmp_path: Path) -> None:
    """An operator copied it back, and forgot the first copy."""
    world = worlds.queued(tmp_path / "spool")
    torn, spool = world.acknowledged.pop(), world.spool
    Path(spool.tree.set_aside(torn), "attempt-1").mkdir(parents=True)
    _tear(f"{spool.tree.job(torn)}/job.json", 0)
    world.acknowledged.append(spool.submit(TYPE, {"n": 2}).job_id)
    assert set(settle(world)) == {world.job_id}


def test_a_spool_whose_locks_and_empty_directories_were_not_copied_works(tmp_path: Path) -> None:
    """As git, and some tools for backups, copy it."""
    world = worlds.expired(tmp_path / "spool")
    shutil.rmtree(f"{world.spool.root}/locks")
    for directory, _, _ in os.walk(world.spool.root, topdown=False):
        if not os.listdir(directory):
            os.rmdir(directory)
    world.acknowledged.append(world.spool.submit(TYPE, {"n": 2}).job_id)
    assert set(settle(world).values()) == {states.SUCCEEDED}


def test_an_entry_in_the_queue_of_another_type_does_not_cost_the_job(tmp_path: Path) -> None:
    """The index is advice only: an entry in the wrong list is put right."""
    world = worlds.queued(tmp_path / "spool")
    spool = world.spool
    wrong = Path(spool.tree.entry("queued/other", world.job_id))
    wrong.parent.mkdir(parents=True)
    os.rename(spool.tree.entry(f"queued/{TYPE}", world.job_id), wrong)
    assert spool.claim("other", "holder") is None
    job = settled(world)
    assert (job.status, job.attempt) == (states.SUCCEEDED, 1)


# -- whole, but odd ---------------------------------------------------------------------------------


def _nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


LONE_SURROGATE = "\ud800"
ODD = {
    "a lone surrogate": LONE_SURROGATE,
    "200 levels": _nested(199),
    "199 levels": _nested(198),
    "a large number": 10**400,
    "a NUL": "\0",
}
odd = pytest.mark.parametrize("value", ODD.values(), ids=ODD.keys())


@odd
@pytest.mark.parametrize("place", ["payload", "metadata"])
def test_a_request_is_refused_at_once_or_can_be_claimed(tmp_path: Path, place: str, value: Any) -> None:
    world = worlds.empty(tmp_path / "spool")
    try:
        world.acknowledged.append(world.spool.submit(TYPE, **{place: {"v": value}}).job_id)
    except SpoolError:
        assert violations(world.spool, settled=True) == []
        return
    assert getattr(settled(world), place) == {"v": value}


def _finish(lease: Lease, place: str, value: Any) -> Any:
    if place == "attached":
        lease.progress("half", artifacts=[{"v": value}])
        return lease.complete()
    given = {"v": value} if place in ("outputs", "metrics", "worker_info") else str(value)
    return lease.complete(**{place: [{"v": value}] if place == "artifacts" else given})


@odd
@pytest.mark.parametrize("place", ["outputs", "metrics", "summary", "artifacts", "attached", "worker_info"])
def test_a_result_is_refused_at_once_or_stays(tmp_path: Path, place: str, value: Any) -> None:
    world = worlds.leased(tmp_path / "spool")
    try:
        done = _finish(world.lease, place, value)
    except SpoolError:
        done = world.lease.complete(outputs={"by": "holder"})
    assert (done.status, done.attempt) == (states.SUCCEEDED, 1)
    assert settled(world).attempt == 1


def test_a_result_too_large_to_be_read_is_refused(tmp_path: Path) -> None:
    world = worlds.leased(tmp_path / "spool")
    try:
        done = world.lease.complete(outputs={"v": "x" * (65 << 20)})
    except SpoolError:
        done = world.lease.complete(outputs={"by": "holder"})
    assert (done.status, done.attempt) == (states.SUCCEEDED, 1)


@pytest.mark.parametrize(
    "artifact",
    [{"label": "no address"}, {"resourceUri": ["a list"]}, {"resourceUri": "x", "tableId": "of somebody else"}],
    ids=["without an address", "a list for an address", "a table of somebody else"],
)
@pytest.mark.parametrize("when", ["with progress", "at the end"])
def test_an_odd_artifact_is_refused_at_once_or_listed(tmp_path: Path, artifact: dict[str, Any], when: str) -> None:
    world = worlds.leased(tmp_path / "spool")
    kept = None
    try:
        if when == "with progress":
            world.lease.progress("half", artifacts=[artifact])
            kept = world.lease.complete().artifacts
        else:
            kept = world.lease.complete(artifacts=[artifact]).artifacts
    except SpoolError:
        world.lease.complete()
    assert kept in (None, [artifact])
    assert settled(world).attempt == 1


def test_a_file_whose_name_is_no_text_can_be_attached(tmp_path: Path) -> None:
    world = worlds.leased(tmp_path / "spool")
    name = os.fsdecode(b"report-\xff.md")
    (tmp_path / name).write_text("# Report\n")
    kept = 0
    try:
        world.lease.dir.attach_file(str(tmp_path / name))
        kept = 1
    except SpoolError:
        pass
    assert len(world.lease.complete().artifacts) == kept
    assert settled(world).attempt == 1


def test_a_job_that_was_accepted_is_not_damaged_because_the_limit_was_lowered(tmp_path: Path) -> None:
    spool = Spool.init(tmp_path / "spool", durability="none")
    world = World(spool, [spool.submit(TYPE, {"text": "x" * 1000}).job_id])
    path = Path(spool.root, "spool.json")
    path.write_text(path.read_text().replace(f'"payloadLimitBytes": {16 << 20}', '"payloadLimitBytes": 100'))
    assert Spool.open(spool.root).settings.payload_limit_bytes == 100
    world.spool = Spool.open(spool.root)
    assert settled(world).status == states.SUCCEEDED
