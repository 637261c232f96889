"""The explorer itself: it finds what is wrong, misses nothing within its bound, and says when a run is not repeated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.worlds import World
from tests.schedules.__main__ import main
from tests.schedules.explore import Explorer, explored, somewhere
from tests.schedules.history import Call
from tests.schedules.linear import explained
from tests.schedules.model import Job
from tests.schedules.part import Part
from tests.schedules.runner import Task
from tests.schedules.scenarios import Scenario, leased, named, queued
from tests.schedules.schedule import parsed, told
from tests.schedules.wrong import BY_CHANCE, WRONG
from tests.world import age_lease


def test_a_wrong_protocol_is_right_as_long_as_nobody_is_interrupted() -> None:
    found = explored(WRONG, 0)
    assert (found.complete, found.problems, found.schedules) == (True, [], 2)


def test_a_wrong_protocol_is_found_out_by_one_preemption_or_one_crash() -> None:
    found = explored(WRONG, 1)
    assert not found.complete
    shown = {told(plan): " ".join(problems) for plan, problems, _ in found.problems}
    assert "['status.leased.1.aaaaaaaaaaaaaaaa', 'status.leased.1.bbbbbbbbbbbbbbbb']" in shown["a0.b.a"]
    assert "is not there" in shown["a1!.b"]


def test_what_was_found_can_be_run_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--scenario", "frozen holder", "--schedule", "h2.r.h.a"]) == 0
    said = capsys.readouterr().out
    assert "h rename jobs/" in said
    assert "r waits until all leases have run out" in said
    assert said.splitlines()[-2] == "schedule h2.r.h.a: 0 problems"


def test_a_run_that_is_not_repeated_fails_loudly() -> None:
    with pytest.raises(RuntimeError, match="NotReproducible"):
        explored(BY_CHANCE, 1)


def test_a_schedule_that_does_not_fit_fails_loudly() -> None:
    with somewhere() as place:
        explorer = Explorer(named("frozen holder"), 0, place)
        for text in ("h99.r.a", "h99!", "h.h", "z", "h2.r.h0"):
            with pytest.raises(RuntimeError, match="NotReproducible"):
                explorer.run_once(Task(parsed(text)))


def _held_for_ten_minutes(place: Path) -> World:
    world = leased(place)
    age_lease(world.spool, world.job_id, 600)
    return world


def test_an_exploration_may_last_longer_than_the_leases_of_its_world() -> None:
    scenario = Scenario("slow", _held_for_ten_minutes, {"r": lambda part: part.expire()})
    with somewhere() as place:
        run = Explorer(scenario, 0, place).run_once(Task(()))
    assert run.problems == []
    assert run.trace == ["r (touch locks/clock.lock)"]


def _steps(count: int) -> Callable[[Part], None]:
    def act(part: Part) -> None:
        for number in range(count):
            part.stage.pause(f"step {number}")

    return act


@pytest.mark.parametrize("bound", [0, 1, 2, 3])
def test_no_schedule_is_missed(bound: int) -> None:
    """As many as there are when every choice is written down, without a state that is known again."""
    steps = {"a": 3, "b": 1, "c": 2}
    scenario = Scenario("steps", queued, {name: _steps(count) for name, count in steps.items()})
    assert explored(scenario, bound).schedules == _written_down(dict.fromkeys(steps, 0), None, steps, bound)


def _written_down(at: dict[str, int], going_on: str | None, steps: dict[str, int], left: int) -> int:
    """How many schedules begin here: each actor has done so many steps, and one of them may be going on."""

    def further(name: str, left: int) -> int:
        if at[name] == steps[name]:
            return _written_down({other: done for other, done in at.items() if other != name}, None, steps, left)
        return _written_down({**at, name: at[name] + 1}, name, steps, left)

    if going_on is None:
        return sum(further(name, left) for name in at) if at else 1
    others = [name for name in at if name != going_on]
    count = further(going_on, left)
    if left:
        count += sum(further(name, left - 1) for name in others)
        count += _written_down({name: at[name] for name in others}, None, steps, left - 1)
    return count


def test_a_history_is_explained_by_some_order_or_by_none() -> None:
    job = Job("queued")

    def claim(actor: str, begun: int, ended: int, answer: tuple[int, str] | None) -> Call:
        return Call(actor, "claim", "", {}, (), begun, ended, answer)

    def finish(actor: str, token: str, begun: int, ended: int | None, answer: object) -> Call:
        return Call(actor, "finish", "", {"token": token, "status": "succeeded"}, (), begun, ended, answer)

    one = claim("a", 1, 2, (1, "t"))
    assert explained([one], job, Job("leased", 1, "t"))
    assert not explained([one], job, job)
    assert not explained([one, claim("b", 3, 4, (1, "u"))], job, Job("leased", 1, "u"))
    assert explained([one, finish("a", "t", 3, None, None)], job, Job("succeeded", 1))
    assert explained([one, finish("a", "t", 3, None, None)], job, Job("leased", 1, "t"))
    both = [finish("a", "t", 3, 6, ("succeeded", "a")), finish("b", "t", 4, 5, "lost")]
    assert explained([one, *both], job, Job("succeeded", 1))
    late = [finish("a", "t", 5, 6, ("succeeded", "a")), finish("b", "t", 3, 4, "lost")]
    assert not explained([one, *late], job, Job("succeeded", 1))
