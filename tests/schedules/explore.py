"""Explores every schedule of a scenario up to a bound, those with the fewest preemptions and crashes first.

A state that was reached before is not gone on from again: the same follows from it, and since the cheapest way to a
state comes first, no way with more preemptions left is lost. How many schedules that covers is counted afterwards.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.schedules.runner import Child, Run, Runner, Task, Template
from tests.schedules.scenarios import Scenario
from tests.schedules.schedule import Plan, Turn, told
from tests.schedules.stage import Node

PROCESSES = 2
CHUNK = 64
"""How many schedules a child runs before the next is forked."""
END = 0


@dataclass
class Found:
    """What came of an exploration."""

    scenario: Scenario
    bound: int
    runs: int = 0
    ends: int = 0
    states: int = 0
    schedules: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    complete: bool = False
    problems: list[tuple[Plan, list[str], list[str]]] = field(default_factory=list)

    def told(self) -> str:
        """What is wrong, with the schedules that show it; the shortest first."""
        return "\n".join(
            f"{self.scenario.name!r}, schedule {told(plan)}:\n  "
            + "\n  ".join(problems)
            + f"\n  again: python -m tests.schedules --scenario '{self.scenario.name}' --schedule '{told(plan)}'"
            for plan, problems, _ in self.problems[:5]
        )


@contextmanager
def somewhere() -> Iterator[Path]:
    """A directory in memory, where there is one."""
    shared = "/dev/shm"
    place = tempfile.mkdtemp(prefix="schedules-", dir=shared if os.access(shared, os.W_OK) else None)
    try:
        yield Path(place)
    finally:
        shutil.rmtree(place, ignore_errors=True)


class Explorer:
    """One exploration."""

    def __init__(self, scenario: Scenario, bound: int, place: Path) -> None:
        self._place = place
        self._template = Template.of(scenario, place / "template")
        self.found = Found(scenario, bound)
        self._bound = bound
        self._waiting: list[deque[Task]] = [deque() for _ in range(bound + 1)]
        self._known: set[int] = set()
        self._rested: dict[int, Any] = {}
        self._follows: dict[int | None, list[tuple[int, int]]] = {None: []}
        self._children = 0
        self._cpu_before = _cpu_seconds()

    def explore(self, seconds: float | None = None, most: int | None = None) -> Found:
        """Run until everything was explored, a problem was found, the time is up, or about so many were run."""
        began = time.monotonic()
        self._waiting[0].append(Task(()))
        for cost, waiting in enumerate(self._waiting):
            while waiting and not self.found.problems:
                late = seconds is not None and time.monotonic() - began > seconds
                if late or (most is not None and self.found.runs >= most):
                    return self._summed_up(began)
                count = min(
                    len(waiting), CHUNK * PROCESSES, most - self.found.runs if most is not None else len(waiting)
                )
                tasks = [waiting.popleft() for _ in range(count)]
                for task, run in zip(tasks, self._run(tasks), strict=True):
                    self._take(task, run, cost)
        self.found.complete = not self.found.problems
        return self._summed_up(began)

    def run_once(self, task: Task) -> Run:
        """Run one schedule, and explore nothing."""
        (run,), _ = self._child([task]).results()
        return run

    def _run(self, tasks: list[Task]) -> list[Run]:
        """Run some schedules by all processes; what comes of them does not depend on who is faster."""
        children = [self._child(tasks[number::PROCESSES]) for number in range(min(PROCESSES, len(tasks)))]
        runs: list[Run | None] = [None] * len(tasks)
        try:
            for number, child in enumerate(children):
                runs[number::PROCESSES], rested = child.results()
                self._rested.update(rested)
        finally:
            for child in children:
                child.end()
        return [run for run in runs if run is not None]

    def _child(self, tasks: list[Task]) -> Child:
        self._children += 1
        return Child(Runner(self._template, f"{self._place}/{self._children}", self._known, self._rested), tasks)

    def _take(self, task: Task, run: Run, cost: int) -> None:
        self.found.runs += 1
        if run.problems:
            self.found.problems.append((run.plan, run.problems, run.trace))
        before, paid = task.expected, task.paid
        for node in run.nodes:
            self._follows.setdefault(before, []).append((node.key, paid))
            if node.key in self._known:
                return
            self._known.add(node.key)
            self._branch(node, cost)
            before, paid = node.key, 0

    def _branch(self, node: Node, cost: int) -> None:
        """Note what else can follow at a point."""
        if not node.others and not node.going_on:
            self.found.ends += 1
            return
        if not node.going_on:
            for other in node.others[1:]:
                self._waiting[cost].append(Task((*node.plan, Turn(other)), node.key))
        elif cost < self._bound:
            here = node.plan[-1]
            for plan in [
                *((*node.plan, Turn(other)) for other in node.others),
                (*node.plan[:-1], here._replace(dies=True)),
            ]:
                self._waiting[cost + 1].append(Task(plan, node.key, 1))

    # -- counting -----------------------------------------------------------------------------------

    def _summed_up(self, began: float) -> Found:
        self.found.seconds = time.monotonic() - began
        self.found.cpu_seconds = _cpu_seconds() - self._cpu_before
        self.found.states = len(self._known)
        self.found.schedules = self._schedules()
        return self.found

    def _schedules(self) -> int:
        """How many schedules lead through the states, each counted as often as there are ways."""
        counted: dict[tuple[int | None, int], int] = {}
        left: list[tuple[int | None, int]] = [(None, self._bound)]
        while left:
            at = left[-1]
            below = [(key, at[1] - paid) for key, paid in self._follows.get(at[0], ()) if paid <= at[1]]
            missing = [further for further in below if further not in counted]
            if missing:
                left += missing
                continue
            counted[at] = sum(counted[further] for further in below) if below else 1
            left.pop()
        return counted[None, self._bound]


def _cpu_seconds() -> float:
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def explored(scenario: Scenario, bound: int, seconds: float | None = None, most: int | None = None) -> Found:
    """Explore a scenario in a place of its own."""
    with somewhere() as place:
        return Explorer(scenario, bound, place).explore(seconds, most)
