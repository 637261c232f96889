"""The same idempotency key gives the same job, whoever races, dies, or meets a failing disk on the way."""

from __future__ import annotations

import errno
import itertools
import os
from pathlib import Path

import pytest

from breyta_spool import Conflict, InvalidInput, Spool, StorageError, files, ids, paths, states
from breyta_spool.index import DANGLING_SECONDS
from tests.crash import worlds
from tests.crash.invariants import job_ids, violations
from tests.crash.processes import killed_everywhere, race
from tests.crash.worlds import TYPE, World, settle
from tests.world import everything_in, work_off

KEY = "order 17/Ä"


def submit(world: World, n: int = 1) -> str:
    return world.another().submit(TYPE, {"n": n}, idempotency_key=KEY).job_id


def test_the_same_key_gives_back_the_same_job_as_it_is_now(tmp_path: Path) -> None:
    spool = worlds.empty(tmp_path).spool
    first = spool.submit(TYPE, {"n": 1}, idempotency_key=KEY)
    again = spool.submit(TYPE, {"n": 2}, idempotency_key=KEY)
    assert (again.job_id, again.payload, again.status) == (first.job_id, {"n": 1}, "queued")
    work_off(spool, job_type=TYPE)
    assert spool.submit(TYPE, idempotency_key=KEY).status == "succeeded"
    assert spool.submit(TYPE, idempotency_key="another").job_id != first.job_id
    assert spool.submit(TYPE).job_id not in (None, first.job_id)
    assert len(job_ids(spool)) == 3


def test_a_key_of_a_job_of_another_type_is_refused(tmp_path: Path) -> None:
    spool = worlds.empty(tmp_path).spool
    job = spool.submit(TYPE, idempotency_key=KEY)
    with pytest.raises(Conflict, match=f"belongs to {job.job_id}, a job of type work, not other"):
        spool.submit("other", idempotency_key=KEY)
    assert job_ids(spool) == [job.job_id]


@pytest.mark.parametrize("key", ["", "k" * 501, 17, "\ud800"])
def test_what_cannot_be_a_key_is_refused_and_reserves_nothing(tmp_path: Path, key: object) -> None:
    spool = worlds.empty(tmp_path).spool
    before = everything_in(spool.root)
    with pytest.raises(InvalidInput):
        spool.submit(TYPE, idempotency_key=key)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput):
        spool.submit(TYPE, {"n": float("nan")}, idempotency_key=KEY)
    assert everything_in(spool.root) == before


def test_many_who_race_with_one_key_get_one_job(tmp_path: Path) -> None:
    for number in range(4):
        world = worlds.empty(tmp_path / f"{number}")
        got = race([lambda n=n, world=world: submit(world, n) for n in range(8)])
        assert len(set(got)) == 1
        assert job_ids(world.spool) == got[:1]
        world.acknowledged += got[:1]
        assert set(settle(world).values()) == {states.SUCCEEDED}
        assert os.listdir(world.spool.tree.top("tmp")) == []


def test_a_submitter_killed_anywhere_leaves_the_key_to_the_next_who_gets_the_only_job(tmp_path: Path) -> None:
    def check(world: World, job_id: str | None) -> None:
        again = submit(world, 2)
        assert job_id in (None, again)
        assert job_ids(world.spool) == [again]
        world.acknowledged.append(again)
        assert settle(world) == {again: states.SUCCEEDED}

    killed_everywhere(tmp_path, worlds.empty, submit, check, 12)


def test_a_submitter_killed_anywhere_after_another_died_leaves_one_job(tmp_path: Path) -> None:
    def reserved(place: Path) -> World:
        world = worlds.empty(place)
        job_id = ids.new_job_id()
        link = Path(world.spool.tree.idempotency(_digest()))
        link.parent.mkdir(parents=True)
        link.symlink_to(paths.key_target(job_id))
        entry = Path(world.spool.index.add(job_id, TYPE))
        long_ago = entry.lstat().st_mtime - 2 * DANGLING_SECONDS
        os.utime(entry, (long_ago, long_ago), follow_symlinks=False)
        return world

    def check(world: World, job_id: str | None) -> None:
        again = submit(world, 2)
        assert job_id in (None, again)
        world.acknowledged.append(again)
        assert settle(world) == {again: states.SUCCEEDED}

    killed_everywhere(tmp_path, reserved, submit, check, 8)


def _digest() -> str:
    import hashlib
    import json

    return hashlib.sha256(json.dumps(KEY, ensure_ascii=False).encode()).hexdigest()


def test_two_submitters_with_one_key_may_meet_anywhere(tmp_path: Path) -> None:
    for number in itertools.count(1):
        world = worlds.empty(tmp_path / f"met-{number}")
        count, other = itertools.count(1), []

        def hook(operation: str, path: str, world: World = world, number: int = number) -> None:
            if next(count) == number:
                files.hook = None
                other.append(submit(world, 2))
                files.hook = hook

        files.hook = hook
        mine = submit(world, 1)
        files.hook = None
        world.acknowledged += [mine, *other]
        assert job_ids(world.spool) == [mine]
        assert other in ([], [mine])
        assert settle(world) == {mine: states.SUCCEEDED}
        assert os.listdir(world.spool.tree.top("tmp")) == []
        if not other:
            break
    assert number > 12


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_a_submit_that_fails_anywhere_can_be_tried_again(tmp_path: Path, fault: int) -> None:
    for number in itertools.count(1):
        world = worlds.empty(tmp_path / f"failed-{number}")
        count, failed = itertools.count(1), []

        def hook(operation: str, path: str, number: int = number) -> None:
            if next(count) == number:
                failed.append(operation)
                raise OSError(fault, os.strerror(fault), path)

        files.hook = hook
        got = None
        try:
            got = submit(world)
        except StorageError as error:
            assert error.details["errno"] == errno.errorcode[fault]
        files.hook = None
        again = submit(world, 2)
        assert got in (None, again)
        assert job_ids(world.spool) == [again]
        assert settle(world) == {again: states.SUCCEEDED}
        if not failed:
            break
    assert number > 12


def test_a_job_that_a_power_cut_has_torn_is_set_aside_and_made_again(tmp_path: Path) -> None:
    world = worlds.empty(tmp_path)
    job_id = submit(world, 1)
    os.truncate(f"{world.spool.tree.job(job_id)}/payload.json", 0)
    assert submit(world, 2) == job_id
    assert world.spool.get(job_id).payload == {"n": 2}
    assert "payload.json" in Path(f"{world.spool.tree.set_aside(job_id)}.why.txt").read_text()
    assert settle(world) == {job_id: states.SUCCEEDED}
    assert violations(world.spool, [job_id], settled=True) == []


@pytest.mark.parametrize("target", ["/etc/passwd", "../../jobs/20261122/1530/job-x", "../../../etc"])
def test_a_link_that_leads_elsewhere_is_not_followed(tmp_path: Path, target: str) -> None:
    spool = Spool.init(tmp_path / "spool", durability="none")
    job = spool.submit(TYPE, idempotency_key=KEY)
    link = Path(spool.tree.idempotency(_digest()))
    assert os.readlink(link) == paths.key_target(job.job_id)
    link.unlink()
    link.symlink_to(target)
    with pytest.raises(Exception, match="does not lead to a job"):
        spool.submit(TYPE, idempotency_key=KEY)
