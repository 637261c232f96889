"""The product under every schedule up to a bound; and what the explorer says when the product is broken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from breyta_spool import ids, once
from breyta_spool.claims import Claims
from tests.schedules.__main__ import HEAD, line
from tests.schedules.breaking import broken
from tests.schedules.explore import Explorer, explored, somewhere
from tests.schedules.runner import Task
from tests.schedules.scenarios import SCENARIOS, Scenario, named
from tests.schedules.schedule import parsed

SAMPLE = 64
"""How many schedules are run of each scenario, those with the fewest preemptions first, unless all are."""
ALWAYS = "frozen holder"
"""All schedules of this one with one preemption or death are tried in each run of the tests."""


@pytest.mark.parametrize("scenario", SCENARIOS, ids=[scenario.name for scenario in SCENARIOS])
def test_no_schedule_loses_a_job_or_accepts_two_results(
    scenario: Scenario, whole: bool, record_property: Callable[[str, object], None]
) -> None:
    if whole:
        found = explored(scenario, scenario.bound)
    else:
        found = explored(scenario, 1, most=None if scenario.name == ALWAYS else SAMPLE)
    print(f"{HEAD}\n{line(found)}")
    record_property("schedules", line(found))
    assert not found.problems, found.told()
    assert found.complete or (found.runs >= SAMPLE and not whole)


FOUND = [("torn result of the last attempt", "x1.r.x.y"), ("cancel and reap", "r0.c.r1.a.r")]
"""Schedules that once showed a fault of the product."""


@pytest.mark.parametrize(("scenario", "text"), FOUND)
def test_what_was_once_wrong_is_right(scenario: str, text: str) -> None:
    with somewhere() as place:
        run = Explorer(named(scenario), 0, place).run_once(Task(parsed(text)))
    assert not run.problems, run.problems


# -- a broken product -------------------------------------------------------------------------------

BROKEN: dict[str, tuple[Any, str, str, str, str]] = {
    "the job is published before its entry": (
        once,
        "_make",
        "claims.index.add(job_id, job_type)\n            submitting.move_into_place(claims, staged, place)",
        "submitting.move_into_place(claims, staged, place)\n            claims.index.add(job_id, job_type)",
        "one key",
    ),
    "all leases have one token": (ids, "new_token", "os.urandom(8).hex()", "'0' * 16", "last attempt"),
    "a reaper does not look for a cancel again": (
        Claims,
        "_let_go",
        "after = self._cancelled_meanwhile(job_dir, after)",
        "pass",
        "cancel and reap",
    ),
    "who cancels does not look again": (
        Claims,
        "request_cancel",
        "if status_in(job_dir) == status:",
        "if True:",
        "cancel and reap",
    ),
    "a reaper does not look for a cancel at all": (
        Claims,
        "_let_go",
        "cancel = paths.CANCEL in looking.names_if_any(job_dir)",
        "cancel = False",
        "frozen holder of the last attempt",
    ),
    "the result is written after the rename": (
        Claims,
        "_publish",
        "files.write_new(result, data)\n    except",
        "files.swap(directory.job_dir, directory.status_name, Status(outcome.status, directory.attempt).name)\n"
        "        files.write_new(result, data)\n    except",
        "frozen holder",
    ),
    "a second try replaces the result under the same token": (
        Claims,
        "_publish",
        "if not files.swap_to_ours(directory.job_dir, directory.status_name, mine):",
        "token = directory.token\n        if False:",
        "same token",
    ),
    "a claim does not touch the status first": (
        Claims,
        "_win",
        'files.touch(f"{job_dir}/{queued.name}")',
        "pass",
        "long wait",
    ),
    "a claim overwrites whatever the status is by now": (
        Claims,
        "_win",
        "files.swap_to_ours(job_dir, queued.name, leased.name)",
        "(files.write_new(f'{job_dir}/{leased.name}', b''), files.unlink(f'{job_dir}/{queued.name}'))",
        "last attempt",
    ),
    "a reaper takes the entry of a job that is being put back": (
        Claims,
        "_redone",
        "return self.redo_if_torn(job_id, ended)",
        "return False",
        "torn result of the last attempt",
    ),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_product_that_is_broken_is_found_out(how: str) -> None:
    owner, name, old, new, scenario = BROKEN[how]
    with broken(owner, name, old, new):
        found = explored(named(scenario), 2)
    assert found.problems, f"{found.runs} schedules, and none shows that {how}"
    print(found.told())
