"""One schedule, run: actors in threads of which one goes on at a time, and everyone else stands still.

An actor is asked to stop before each change of the disk (``files.hook``), and, where a scenario says so, before each
look at it (the interpreter's audit events, and the calls of ``os`` that have none). An actor that dies is never woken again, so not
even its cleanups run: its thread ends with the process.
"""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from breyta_spool import files
from tests.schedules.history import History
from tests.schedules.host import SPECTATOR, Host
from tests.schedules.schedule import Plan, Turn, told
from tests.schedules.view import View

PATIENCE = 30.0
"""After how many seconds a schedule that hangs is given up."""
_CHANGES = {
    "os.rename": 2,
    "os.link": 2,
    "os.mkdir": 1,
    "os.rmdir": 1,
    "os.remove": 1,
    "os.utime": 1,
    "os.truncate": 1,
    "os.chmod": 1,
    "os.chown": 1,
}
"""The events of calls that change the disk, and how many of their arguments are paths."""
_LISTINGS = ("os.listdir", "os.scandir")


def commutes(operation: str, path: str) -> bool:
    """Whether a change may as well come just before the next one of its actor: then nobody is stopped before it.

    That is so when no actor ever sees it by itself. Files with a leading dot and all that is built in tmp/ have names of
    their maker's own, and readers pass over them. The clock is touched with "now", and no run lasts so long that the
    time it had before would be another.
    """
    if operation == "touch":
        return path == "locks/clock.lock"
    return operation in ("mkdir", "create", "write") and _is_ones_own(path)


def _is_ones_own(path: str) -> bool:
    return path.startswith("tmp/") or os.path.basename(path).startswith(".")


class NotReproducible(Exception):
    """The same schedule led to something else this time: then nothing that was explored can be trusted."""


@dataclass
class Actor:
    """Who takes part in a schedule. ``seen`` stands for everything it was told by the disk so far."""

    name: str
    act: Callable[[], Any]
    seen: int = 0
    state: str = "new"
    gate: Any = field(default_factory=threading.Lock)
    announced: str = ""

    def saw(self, *what: object) -> None:
        self.seen = hash((self.seen, what))


@dataclass(frozen=True)
class Node:
    """A point where a choice was made: the state there, the way to it, who was going on, and who else could."""

    key: int
    plan: Plan
    going_on: str
    others: str


@dataclass
class Run:
    """What came of a schedule. ``joined``: it came to a state that was known, so it was not run to its end."""

    plan: Plan = ()
    nodes: list[Node] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)
    joined: bool = False
    problems: list[str] = field(default_factory=list)


class Stage:
    """Runs one plan, then goes on without preemptions until all have ended or a known state is reached."""

    def __init__(self, host: Host, view: View, plan: Plan, known: Container[int], expected: int | None, looks: bool):
        self.host, self.view, self.history = host, view, History({})
        self.run = Run()
        self._actors: dict[str, Actor] = {}
        self._plan, self._at, self._steps = list(plan), -1, 0
        self._planned = len(plan)
        self._known, self._expected, self._looks = known, expected, looks
        self._acting: Actor | None = None
        self._over = threading.Lock()
        self._over.acquire()
        self._failure = ""

    def add(self, name: str, act: Callable[[], Any]) -> None:
        """Let somebody take part."""
        self._actors[name] = actor = Actor(name, act)
        actor.gate.acquire()
        self.history.counts[name] = 0

    def play(self) -> Run:
        """Run the schedule. Raises NotReproducible."""
        files.hook = self._before_change
        self._next()
        if not self._over.acquire(timeout=PATIENCE):
            self._failure = f"{told(self._plan)} hangs: an actor waits for another, or for ever"
        files.hook, self._acting = None, None
        self.host.become(SPECTATOR)
        self.run.plan = self._walked()
        if self._failure:
            raise NotReproducible(self._failure)
        return self.run

    # -- turns --------------------------------------------------------------------------------------

    def _next(self) -> None:
        """Let the next actor go on, when the one before has ended, died or come to the end of its turn."""
        self._at += 1
        self._steps = 0
        if self._at >= len(self._plan):
            left = self._left()
            if self._joins(None) or not left:
                return self._end()
            self._plan.append(Turn(left[0]))
        turn = self._plan[self._at]
        actor = self._actors.get(turn.actor)
        if actor is None or actor.state in ("ended", "dead") or (actor.state == "begun" and turn.steps == 0):
            return self._fail(f"{told(self._plan)}: {turn.actor} cannot go on here")
        if self._at == self._planned - 1 and not turn.dies:
            self._check(self._stood_still())
        self._acting = actor
        self.host.become(actor.name)
        if actor.state == "new":
            actor.state = "begun"
            threading.Thread(target=self._live, args=(actor,), daemon=True).start()
        else:
            actor.gate.release()
        return None

    def _live(self, actor: Actor) -> None:
        try:
            actor.act()
        except BaseException:
            self.run.problems.append(f"{actor.name} raised {traceback.format_exc(limit=-4)}")
        if self._plan[self._at].steps is not None:
            return self._fail(f"{told(self._plan)}: {actor.name} ends before it has done so many steps")
        self._is_gone(actor, "ended")
        return self._next()

    def _reached(self, actor: Actor, what: str) -> None:
        """An actor stands before a step: it goes on, or stands still from here."""
        turn = self._plan[self._at]
        if turn.steps is None:
            if self._at >= self._planned - 1 and self._joins(actor):
                self._end()
                self._stand_still(actor)
        elif self._steps == turn.steps:
            self._turn_ends(actor, turn)
        self._steps += 1
        actor.saw(what)  # so that no step leads back to where it came from
        self.run.trace.append(f"{actor.name} {what}")

    def _turn_ends(self, actor: Actor, turn: Turn) -> None:
        if turn.dies:
            if self._at == self._planned - 1:
                self._check(actor)
            self._is_gone(actor, "dead")
            self.run.trace.append(f"{actor.name} dies")
        self._next()
        self._stand_still(actor)

    def _stand_still(self, actor: Actor) -> None:
        actor.gate.acquire()

    def _left(self) -> str:
        return "".join(name for name, actor in self._actors.items() if actor.state in ("new", "begun"))

    def _walked(self) -> Plan:
        return tuple(self._plan[: self._at + 1])

    def _end(self) -> None:
        if self._over.locked():
            self._over.release()

    def _fail(self, message: str) -> None:
        self._failure = self._failure or message
        self._end()

    # -- states -------------------------------------------------------------------------------------

    def _joins(self, going_on: Actor | None) -> bool:
        """Note the state that was reached, at a point that no plan prescribes; whether it was known before."""
        key = self.key(going_on)
        others = self._left()
        plan = tuple(self._plan[: self._at])
        if going_on is not None:
            others = others.replace(going_on.name, "")
            plan = (*plan, Turn(going_on.name, self._steps))
        self.run.nodes.append(Node(key, plan, going_on.name if going_on else "", others))
        self.run.joined = key in self._known
        return self.run.joined

    def key(self, going_on: Actor | None) -> int:
        """The state: the disk, what every actor knows, and who goes on. From equal states the same may follow."""
        knows = tuple((actor.state, actor.seen) for actor in self._actors.values())
        return hash((self.view.refresh(), knows, going_on.name if going_on else ""))

    def _is_gone(self, actor: Actor, state: str) -> None:
        """An actor has ended or died: from now on only its calls count."""
        actor.state, actor.seen = state, self.history.story(actor.name)

    def _check(self, going_on: Actor | None) -> None:
        """Where the plan leaves the schedule that it was made from, all must be as it was there."""
        if self._expected is not None and self.key(going_on) != self._expected:
            self._fail(f"{told(self._plan)}: not the state that this schedule led to before")

    def _stood_still(self) -> Actor | None:
        """Who was going on until now, and could still."""
        before = self._plan[self._at - 1] if self._at else None
        return self._actors[before.actor] if before and before.steps is not None and not before.dies else None

    # -- what the actors do -------------------------------------------------------------------------

    def _before_change(self, operation: str, path: str) -> None:
        actor = self._acting
        if actor is None:
            return
        found = self.view.relative(path)
        if found is None:
            self._refuse(actor, f"{operation} outside of the spool: {path}")
        elif commutes(operation, found):
            self.run.trace.append(f"{actor.name} ({operation} {found})")
        else:
            self._reached(actor, f"{operation} {found}")
        actor.announced = found or ""
        if found and operation == "write":
            self.view.will_change(found)

    def _refuse(self, actor: Actor, message: str) -> None:
        """Give the whole run up; whoever asks stands still for ever."""
        self._fail(message)
        self._stand_still(actor)

    def pause(self, what: str) -> None:
        """A step of an actor's own, that is no call of the spool."""
        actor = self._acting
        assert actor is not None
        self._reached(actor, what)

    def knows(self, what: object) -> None:
        """The acting one has learnt something that is not on the disk."""
        if self._acting is not None:
            self._acting.saw(what)

    def remembers(self, *what: object) -> None:
        """The acting one has come to a point where only this is left of everything that it saw."""
        if self._acting is not None:
            self._acting.seen = hash(what)

    @contextmanager
    def unseen(self) -> Iterator[Callable[[str], None]]:
        """What is done here is done by nobody; it tells which paths it changes by the function this gives."""
        self.view.busy = True
        try:
            yield lambda path: self.view.will_change(self.view.relative(path) or "")
        finally:
            self.view.busy = False

    def heard(self, event: str, args: tuple[Any, ...]) -> None:
        """An audit event of an actor: a file is about to be opened, listed or changed."""
        actor = self._acting
        if actor is None:
            return
        if event in _CHANGES:
            self._changes(actor, event, args[: _CHANGES[event]], args)
        elif event == "os.symlink":
            self._changes(actor, event, args[1:2], args)
        elif event in _LISTINGS:
            self._looks_at(actor, event, args[0])
        elif event == "open":
            if isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                self._changes(actor, event, args[:1], args)
            else:
                self._looks_at(actor, event, args[0])

    def _looks_at(self, actor: Actor, event: str, path: Any) -> None:
        found = self.view.relative(path)
        if found is None:
            if isinstance(path, (str, bytes)) and not os.path.isabs(path):
                actor.saw(event, path, self.view.refresh())  # below an open directory; it is not told which
            return
        if self._looks:
            self._reached(actor, f"looks: {event.removeprefix('os.')} {found}")
        actor.saw(event, found, self.view.listed(found) if event in _LISTINGS else self.view.seen(found))

    def _changes(self, actor: Actor, event: str, paths: tuple[Any, ...], args: tuple[Any, ...]) -> None:
        found = [self.view.relative(path) for path in paths]
        if None in found:
            if any(isinstance(path, (str, bytes)) and not os.path.isabs(path) for path in paths):
                actor.saw(event, str(paths), self.view.refresh())
                self.view.all_will_change()
            return
        changed = [path for path in found if path is not None]
        announced = actor.announced in changed or changed[0].startswith(f"{actor.announced}/")
        # What was prepared for oneself may be taken away without a word.
        if not announced and not (event == "os.remove" and _is_ones_own(changed[0])):
            self._refuse(actor, f"{event} {changed}: a change of the disk that files.hook was not told of")
        above = os.path.dirname(changed[-1])
        actor.saw(event, tuple(changed), *map(self.view.seen, changed), self.view.seen(above))
        if event in ("os.rmdir", "os.rename"):
            actor.saw(self.view.listed(changed[-1]))
        for path in changed:
            self.view.will_change(path)


# -- the process ------------------------------------------------------------------------------------

_stage: Stage | None = None
_EVENTS = {*_CHANGES, *_LISTINGS, "os.symlink", "open"}


def listen() -> None:
    """Hear every audit event of this process from now on, and the looks that have none."""
    sys.addaudithook(_heard)
    for name in ("lstat", "stat", "readlink"):
        setattr(os, name, _announcing(getattr(os, name)))


def _heard(event: str, args: tuple[Any, ...]) -> None:
    if _stage is not None and event in _EVENTS and not _stage.view.busy:
        _stage.heard(event, args)


def _announcing(call: Callable[..., Any]) -> Callable[..., Any]:
    def announced(path: Any, *args: Any, **named: Any) -> Any:
        _heard("open", (path, None, 0))
        return call(path, *args, **named)

    return announced


@contextmanager
def on(stage: Stage) -> Iterator[None]:
    """Let a stage hear what happens."""
    global _stage
    _stage = stage
    try:
        yield
    finally:
        _stage = None
