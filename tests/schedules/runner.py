"""Runs schedules of one scenario, each on a fresh copy of its world, in forked children that leave by ``os._exit``."""

from __future__ import annotations

import gc
import os
import pickle
import shutil
import signal
import time
import traceback
import warnings
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from breyta_spool import Spool
from tests.crash.worlds import LONG_AGO, World
from tests.schedules import verdict
from tests.schedules.host import Host
from tests.schedules.model import Job
from tests.schedules.part import Part
from tests.schedules.scenarios import Scenario
from tests.schedules.schedule import Plan
from tests.schedules.stage import Run, Stage, listen, on
from tests.schedules.view import DIRECTORY, View, is_old

PATIENCE = 300
"""After how many seconds a child that hangs is ended."""


@dataclass(frozen=True)
class Task:
    """A schedule to run. ``expected``: the state where it leaves the one that it was made from."""

    plan: Plan
    expected: int | None = None
    paid: int = 0


@dataclass
class Template:
    """A world as a list of what is in it, to be made again and again."""

    scenario: Scenario
    world: World
    now: float
    view: View
    entries: list[tuple[str, str, Any]] = field(default_factory=list)
    before: dict[str, Job] = field(default_factory=dict)

    @classmethod
    def of(cls, scenario: Scenario, place: Path) -> Template:
        """Prepare the world of a scenario once."""
        world = scenario.prepare(place)
        view = View(str(place))
        view.look()
        now = os.stat(place).st_mtime + 3600 * scenario.hours_later
        made = cls(scenario, world, now, view)
        for path, digest in view.digests.items():
            if path:
                made.entries.append((path, *_contents(f"{place}/{path}", digest)))
        made.before = {job_id: verdict.found(world, job_id, scenario.torn) for job_id in world.acknowledged}
        return made

    def copy(self, place: str) -> None:
        """Make the world again."""
        os.mkdir(place)
        for path, target, data in self.entries:
            if target is not None:
                os.symlink(target, f"{place}/{path}")
            elif data is None:
                os.mkdir(f"{place}/{path}")
            else:
                _write(f"{place}/{path}", *data)


def _contents(path: str, digest: int) -> tuple[str | None, tuple[bytes, bool] | None]:
    if os.path.islink(path):
        return os.readlink(path), None
    if digest == DIRECTORY:
        return None, None
    return None, (Path(path).read_bytes(), is_old(os.stat(path)))


def _write(path: str, data: bytes, old: bool) -> None:
    """What was touched lately is as fresh in every copy, or a long exploration would outlast the leases of its world."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        if data:
            os.write(fd, data)
        if old:
            os.utime(fd, (time.time() - LONG_AGO,) * 2)
    finally:
        os.close(fd)


class Runner:
    """Runs schedules in this process, which is a child of its own."""

    def __init__(self, template: Template, place: str, known: Container[int], rested: dict[int, Any]) -> None:
        self._template, self._place, self._known = template, place, known
        self._rested = rested
        self.newly_rested: dict[int, Any] = {}
        self._host = Host(template.now)
        self._count = 0

    def install(self) -> None:
        """Make this process one that only runs schedules."""
        gc.freeze()
        self._host.install()
        listen()
        os.mkdir(self._place)

    def run(self, task: Task) -> Run:
        """Run a schedule; one that comes to its end is judged. Raises NotReproducible."""
        self._count += 1
        place = f"{self._place}/{self._count}"
        self._template.copy(place)
        self._host.begin()
        view = self._template.view.copy(place)
        stage = Stage(self._host, view, task.plan, self._known, task.expected, self._template.scenario.looks)
        world, first = World(Spool.open(place)), self._template.world
        for name, act in self._template.scenario.actors.items():
            part = Part(name, world.another(), stage, first.acknowledged, self._token(), first.batch_id)
            stage.add(name, lambda act=act, part=part: act(part))
        with on(stage):
            run = stage.play()
        if not run.joined:
            run.problems += self._judged(stage, world)
        shutil.rmtree(place, ignore_errors=True)
        return run

    def _token(self) -> str:
        held = self._template.world.held
        return held.token if held else ""

    def _judged(self, stage: Stage, world: World) -> list[str]:
        history, view = stage.history, stage.view
        problems = list(verdict.unexplained(history, self._template.before, world))
        acknowledged = [*self._template.world.acknowledged, *history.submitted()]
        state = hash((view.refresh(), tuple(sorted(acknowledged))))
        if state not in self._rested:
            self._rested[state] = self.newly_rested[state] = verdict.rest(
                world, acknowledged, self._template.scenario.torn
            )
        wrong, end = self._rested[state]
        return [*problems, *wrong, *verdict.broken_promises(history, end)]


# -- children ---------------------------------------------------------------------------------------


class Child:
    """A forked process that runs some schedules and tells what came of them."""

    def __init__(self, runner: Runner, tasks: Sequence[Task]) -> None:
        read, write = os.pipe()
        self.pid = _fork()
        if self.pid == 0:
            _work(runner, tasks, write)
        os.close(write)
        self._pipe = os.fdopen(read, "rb")

    def results(self) -> tuple[list[Run], dict[int, Any]]:
        """What came of the schedules. Raises RuntimeError with what the child says when it failed."""
        told = self._pipe.read()
        self.end()
        answer = pickle.loads(told) if told else "a runner was killed"
        if isinstance(answer, str):
            raise RuntimeError(answer)
        runs, rested = answer
        return runs, rested

    def end(self) -> None:
        """End the process, wherever it is, if that was not done before."""
        if not self._pipe.closed:
            self._pipe.close()
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


def _fork() -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other tests may have left a thread; none is needed here
        return os.fork()


def _work(runner: Runner, tasks: Sequence[Task], write: int) -> None:
    """Never returns: the threads of actors that died still stand in the spool."""
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.alarm(PATIENCE)
        runner.install()
        answer: Any = [runner.run(task) for task in tasks], runner.newly_rested
    except BaseException:
        answer = traceback.format_exc()
    try:
        with os.fdopen(write, "wb") as pipe:
            pickle.dump(answer, pipe)
    finally:
        os._exit(0)
