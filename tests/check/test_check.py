"""``spool check``: it finds every way of going wrong, and nothing in a spool that is well or at work."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections import Counter
from pathlib import Path

import pytest

from breyta_spool import Spool, checkup, ids
from breyta_spool.findings import ERROR, NOTE, WARNING
from tests import example
from tests.check.damage import LEFT, MENDED, Damage, well
from tests.crash.worlds import TYPE
from tests.world import Cli, everything_in, until

ALL = MENDED | LEFT


def codes(spool: Spool, contents: bool = True) -> Counter[str]:
    return checkup.check(spool, contents=contents, pause=0).counts


@pytest.mark.parametrize("contents", [False, True], ids=["names", "contents"])
def test_nothing_is_found_in_a_spool_that_is_well(tmp_path: Path, contents: bool) -> None:
    at = well(tmp_path / "spool")
    report = checkup.check(at.spool, contents=contents, pause=0)
    assert (report.findings, report.healthy) == ([], True)
    assert (report.jobs, report.batches, report.entries) == (6, 1, 6)


def test_of_the_example_only_what_its_age_explains_is_found(tmp_path: Path) -> None:
    shutil.copytree(example.DIRECTORY, tmp_path / "spool", symlinks=True)
    assert codes(Spool.open(tmp_path / "spool")).keys() <= {"lease-forgotten", "top-missing", "worker-dead"}


@pytest.mark.parametrize(("code", "damage"), ALL.values(), ids=list(ALL))
def test_every_damage_is_found_and_nothing_else(tmp_path: Path, code: str, damage: Damage) -> None:
    at = well(tmp_path / "spool")
    damage(at)
    before = everything_in(at.spool.root)
    report = checkup.check(at.spool, contents=True, pause=0)
    assert report.counts.keys() >= {code}
    assert report.counts.keys() - {code} <= {"misplaced": {"entry-missing"}}.get(code, set()), report.findings
    assert report.healthy == (checkup.KINDS[code][0] != ERROR)
    assert everything_in(at.spool.root) - before <= {"locks/clock.lock"}, "a check changes nothing"
    for found in report.findings:
        assert found.severity in (ERROR, WARNING, NOTE)
        assert found.message
        assert found.remedy
        assert os.path.lexists(f"{at.spool.root}/{found.path}") or code == "top-missing"


def test_every_kind_of_problem_has_a_damage_that_shows_it() -> None:
    assert {code for code, _ in ALL.values()} == checkup.KINDS.keys()


NEEDS_CONTENTS = {"a table", "a value", "an account", "a key that leads elsewhere", "an entry that leads elsewhere",
                  "a link of a job that leads elsewhere", "a request is torn", "the payload of an ended job",
                  "an entry of another type"}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in ALL if name not in NEEDS_CONTENTS])
def test_most_damage_shows_in_the_names_alone(tmp_path: Path, name: str) -> None:
    at = well(tmp_path / "spool")
    ALL[name][1](at)
    assert ALL[name][0] in codes(at.spool, contents=False)


def test_a_spool_at_work_is_not_ill(tmp_path: Path) -> None:
    """Two workers, a submitter and a canceller change everything while it is looked at again and again."""
    spool = Spool.init(tmp_path / "spool", durability="none")
    stop, errors = threading.Event(), []

    def submit() -> None:
        own = Spool.open(spool.root)
        while not stop.is_set():
            own.submit_batch(TYPE, [{"payload": n} for n in range(3)])
            own.cancel(own.submit(TYPE).job_id)

    def work() -> None:
        own = Spool.open(spool.root)
        while not stop.is_set():
            if lease := own.claim(TYPE, "worker"):
                lease.complete()

    def guarded(act: object) -> None:
        try:
            act()  # type: ignore[operator]
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(act,)) for act in (submit, work, work)]
    for thread in threads:
        thread.start()
    try:
        until(lambda: len(spool.list(limit=20)) == 20 or errors, 60)
        reports = [checkup.check(spool, contents=n % 2 == 1, pause=0.5) for n in range(4)]
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
    assert not errors
    assert [report.findings for report in reports] == [[]] * 4
    assert reports[0].jobs >= 20


def test_a_link_in_the_place_of_a_directory_is_not_followed_out_of_the_spool(tmp_path: Path) -> None:
    at = well(tmp_path / "spool")
    outside = tmp_path / "outside"
    (outside / "1530" / ids.new_job_id()).mkdir(parents=True)
    for place in ("jobs/20261122", f"{at.dir(at.queued).parent.relative_to(at.spool.root)}/{ids.new_batch_id()}"):
        at.root(place).symlink_to(outside)
    report = checkup.check(at.spool, contents=True, pause=0)
    assert report.counts == {"foreign": 2}
    assert report.jobs == 6


def test_findings_are_counted_beyond_the_limit_and_the_worst_come_first(tmp_path: Path) -> None:
    at = well(tmp_path / "spool")
    at.root("tmp").rmdir()
    for job_id in (at.queued, at.ended):
        at.entry(job_id).unlink()
    report = checkup.check(at.spool, limit=2, pause=0)
    assert report.counts == {"entry-missing": 2, "top-missing": 1}
    assert [found.severity for found in report.findings] == [ERROR, NOTE]
    assert not report.healthy


def test_the_command_says_what_is_wrong_and_leaves_with_5_if_it_is_an_error(tmp_path: Path) -> None:
    at = well(tmp_path / "spool")
    cli = Cli(at.spool.root, tmp_path)
    answer = cli("spool", "check")
    assert (answer.code, answer.data["healthy"], answer.data["counts"]) == (0, True, {})
    assert answer.data["checked"] == {"jobs": 6, "batches": 1, "entries": 6}
    at.entry(at.queued).unlink()
    answer = cli("spool", "check")
    assert answer.code == 5
    document = json.loads(answer.stdout)
    assert document["ok"] is True
    assert document["data"]["counts"] == {"entry-missing": 1}
    (found,) = document["data"]["findings"]
    assert found["severity"] == "error"
    assert at.queued in found["message"]
    assert "breyta spool repair" in found["remedy"]
    assert answer.stderr == ""


def test_a_check_of_what_is_no_spool_says_so(tmp_path: Path) -> None:
    answer = Cli(str(tmp_path), tmp_path)("spool", "check")
    assert (answer.code, answer.error["code"]) == (3, "no_such_spool")
