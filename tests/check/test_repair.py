"""``spool repair``: it mends what it can, throws nothing away, and may be killed, fail and meet others anywhere."""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from breyta_spool import Spool, checkup, files, repairing, states
from tests.check.damage import LEFT, MENDED, Damage, Well, well
from tests.crash.invariants import job_ids, status_of
from tests.crash.processes import killed_everywhere
from tests.crash.test_failing_disk import Failed, fails_everywhere
from tests.crash.worlds import TYPE, make_leases_old
from tests.world import Cli, everything_in

GOES = {"left-in-tmp", "worker-dead"}
"""What a repair removes: it is nobody's any more."""


@pytest.fixture(autouse=True)
def _no_hook_is_left() -> Any:
    yield
    files.hook = None


def contents_of(root: str) -> Counter[str]:
    """What all regular files hold, wherever they are; the empty ones and the clock apart."""
    found = (path for path in Path(root).rglob("*") if path.is_file() and not path.is_symlink())
    return Counter(hashlib.sha256(data).hexdigest() for path in found if (data := path.read_bytes()))


def repaired(spool: Spool) -> repairing.Repaired:
    return repairing.repair(spool, contents=True, pause=0)


def is_well(spool: Spool) -> bool:
    return checkup.check(spool, contents=True, pause=0).counts.keys() <= {"set-aside"}


def drained(at: Well) -> dict[str, str]:
    """Let a worker do what there is; gives the status of each job."""
    make_leases_old(at.spool)
    while lease := at.spool.claim(TYPE, "settler"):
        lease.complete(outputs={"by": "settler"})
    return {job_id: status_of(at.spool, job_id).state for job_id in job_ids(at.spool)}


@pytest.mark.parametrize(("code", "damage"), MENDED.values(), ids=list(MENDED))
def test_what_can_be_mended_is_mended_and_nothing_is_thrown_away(tmp_path: Path, code: str, damage: Damage) -> None:
    at = well(tmp_path / "spool")
    damage(at)
    before = contents_of(at.spool.root)
    done = repaired(at.spool)
    assert done.mended[code] >= 1
    assert (done.counts, done.healthy) == ({}, True)
    assert all(action for _, action in done.actions)
    assert is_well(at.spool)
    assert not before - contents_of(at.spool.root) or code in GOES
    assert repaired(at.spool).mended == {}
    set_aside = {"request-damaged"} & {code}
    assert len(drained(at)) == 6 + (code == "key-wrong") - len(set_aside)
    assert set(drained(at).values()) <= {states.SUCCEEDED, states.FAILED}
    assert at.spool.get(at.ended).outputs == ({"by": "settler"} if code == "result-damaged" else {"by": "holder"})


@pytest.mark.parametrize(("code", "damage"), LEFT.values(), ids=list(LEFT))
def test_what_only_a_person_can_judge_is_left_as_it_is(tmp_path: Path, code: str, damage: Damage) -> None:
    at = well(tmp_path / "spool")
    damage(at)
    before = everything_in(at.spool.root)
    done = repaired(at.spool)
    assert (done.mended, done.counts) == ({}, {code: 1})
    assert everything_in(at.spool.root) - {"locks/clock.lock"} == before - {"locks/clock.lock"}


def index_of(spool: Spool) -> dict[str, str]:
    root = Path(spool.root)
    lists = (entry for top in ("queued", "leased", "finished") for entry in root.glob(f"{top}/*/*/job-*"))
    return {str(entry.relative_to(root)): str(entry.readlink()) for entry in lists}


def test_the_index_is_built_anew_from_the_jobs(tmp_path: Path) -> None:
    at = well(tmp_path / "spool")
    before = index_of(at.spool)
    assert len(before) == 6
    for name in ("queued", "leased", "finished"):
        shutil.rmtree(at.root(name))
    done = repaired(at.spool)
    assert done.mended == {"entry-missing": 6, "top-missing": 3}
    assert index_of(at.spool) == before
    assert set(drained(at).values()) == {states.SUCCEEDED, states.FAILED}


def test_a_status_comes_back_as_the_files_bear_it_out(tmp_path: Path) -> None:
    at = well(tmp_path / "spool")
    was = {job_id: status_of(at.spool, job_id).name for job_id in (at.queued, at.ended)}
    for job_id in (at.queued, at.ended, at.leased):
        (status,) = at.dir(job_id).glob("status.*")
        status.unlink()
    repaired(at.spool)
    assert {job_id: status_of(at.spool, job_id).name for job_id in was} == was
    assert status_of(at.spool, at.leased).name == "status.queued.1"  # its token is gone, so it is done again


def test_an_end_without_the_result_it_needs_does_not_win_over_a_job_that_waits(tmp_path: Path) -> None:
    at = well(tmp_path / "spool")
    (at.dir(at.queued) / "status.succeeded.1").touch()
    repaired(at.spool)
    assert status_of(at.spool, at.queued).name == "status.queued.0"
    (kept,) = at.root("lost+found").glob(f"{at.queued}.status.succeeded.1.*[0-9a-f]")
    assert kept.with_name(f"{kept.name}.why.txt").read_text().startswith("20")


def test_a_job_with_two_ends_is_set_aside(tmp_path: Path) -> None:
    at = well(tmp_path / "spool")
    (at.dir(at.ended) / "status.timed_out.1").touch()
    assert repaired(at.spool).mended == {"status-unclear": 1}
    assert at.root(f"lost+found/{at.ended}/result.1.json").exists()
    assert at.root(f"lost+found/{at.ended}.why.txt").exists()
    assert index_of(at.spool).keys() & {at.ended} == set()


def test_a_job_in_two_places_keeps_the_one_where_it_belongs(tmp_path: Path) -> None:
    at = well(tmp_path / "spool")
    copy = at.root("jobs/20010101/0000") / at.queued
    shutil.copytree(at.dir(at.queued), copy)
    assert repaired(at.spool).mended == {"misplaced": 1}
    assert not copy.exists()
    assert list(at.root("lost+found").glob(f"{at.queued}.*/job.json"))
    assert is_well(at.spool)


EVERY_WAY = ["a leased job lost its status", "a request is torn", "a result is torn", "a batch was moved",
             "a waiting job has no entry", "an entry too many", "an entry that leads elsewhere", "a worker that died",
             "a submitter of a batch that died", "a link of a job that leads elsewhere", "a file in a bucket"]  # fmt: skip
"""Damages that between them take every way that a repair has; the whole run tries all."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "mended" in metafunc.fixturenames:
        names = list(MENDED) if metafunc.config.getoption("--whole") else EVERY_WAY
        metafunc.parametrize("mended", names)


def test_a_repair_killed_anywhere_is_finished_by_the_next(tmp_path: Path, mended: str) -> None:
    code, damage = MENDED[mended]
    kept: dict[str, Counter[str]] = {}

    def prepare(place: Path) -> Well:
        at = well(place)
        damage(at)
        kept[at.spool.root] = contents_of(at.spool.root)
        return at

    def check(at: Well, answer: Any) -> None:
        again = repaired(at.spool)
        assert again.healthy, again.findings
        assert is_well(at.spool)
        assert code in GOES or not kept[at.spool.root] - contents_of(at.spool.root), "something was lost"

    killed_everywhere(tmp_path, prepare, lambda at: repaired(at.spool).healthy, check, 1)


def test_a_repair_on_a_failing_disk_loses_nothing_and_can_be_done_again(tmp_path: Path, mended: str) -> None:
    _, damage = MENDED[mended]

    def prepare(place: Path) -> Any:
        at = well(place)
        damage(at)
        return at

    def check(at: Well, answer: Any) -> None:
        assert isinstance(answer, Failed) or answer in (True, False)
        again = repaired(at.spool)
        assert again.healthy, again.findings
        assert is_well(at.spool)

    def act(at: Well) -> bool:
        return repaired(at.spool).healthy

    fails_everywhere(tmp_path, prepare, act, check, 1)


def test_a_repair_may_meet_a_worker_anywhere(tmp_path: Path) -> None:
    """It takes no notice of how far the others are, and mends at once what they would mend next."""
    for number in itertools.count(1):
        at = well(tmp_path / str(number))
        count, met = itertools.count(1), False

        def meet(operation: str, path: str) -> None:
            nonlocal met
            if next(count) == number:
                files.hook, met = None, True
                repaired(Spool.open(at.spool.root))

        files.hook = meet
        new = at.spool.submit(TYPE, {"n": 4}).job_id
        lease = at.spool.claim(TYPE, "worker")
        assert lease is not None
        lease.dir.attach_kv("summary", 1)
        done = lease.complete(outputs={"by": "worker"})
        at.spool.cancel(new)
        files.hook = None
        assert at.spool.get(done.job_id).outputs == {"by": "worker"}
        assert at.spool.get(new).status == states.CANCELLED
        assert is_well(at.spool)
        assert repaired(at.spool).mended.keys() <= {"left-in-tmp"}
        if not met:
            break
    assert number > 30


def test_the_command_tells_what_it_has_done_and_what_is_left(tmp_path: Path) -> None:
    at = well(tmp_path / "spool")
    at.entry(at.queued).unlink()
    Path(at.spool.tree.batch(at.batch), "batch.json").write_text("{")
    answer = Cli(at.spool.root, tmp_path)("spool", "repair")
    assert answer.code == 5
    data = answer.document["data"]
    assert (data["healthy"], data["mended"], data["left"]) == (False, {"entry-missing": 1}, {"batch-damaged": 1})
    assert data["actions"][0]["done"] == f"it is listed in queued/{TYPE}"
    assert os.path.lexists(at.entry(at.queued))


def test_a_repair_needs_the_right_to_do_anything(tmp_path: Path) -> None:
    spool = Spool.init(tmp_path / "spool", durability="none", require_keys=True)
    account = spool.accounts.create("worker", ["jobs.worker", "jobs.read"])
    _, key = spool.accounts.create_key(account.service_account_id, "k")
    cli = Cli(spool.root, tmp_path)
    answer = cli("spool", "repair", BREYTA_API_KEY=key)
    assert (answer.code, answer.error["code"]) == (7, "not_allowed")
