"""Children by plain fork: they die where the test says, or race from one gate."""

from __future__ import annotations

import itertools
import json
import os
import resource
import signal
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from breyta_spool import SpoolError, files
from tests.tried import TRIED

DIED = 9
TORN_AFTER = 7
"""How many bytes a write that is torn has brought to the file."""
PATIENCE = 30
"""After how many seconds a child that hangs is ended, in place of the whole run."""

Action = Callable[[], Any]
W = TypeVar("W")


@dataclass(frozen=True)
class Ended:
    """How a child ended: ``answer`` is what its action returned, ``died_before`` the mutation it did not live to see."""

    answer: Any = None
    died_before: str | None = None


def _fork() -> int:
    with warnings.catch_warnings():
        # Other tests may have left a thread that watches a directory; our children need none of the parent's threads.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


class Child:
    """A forked process that runs an action, and tells its parent what that returned."""

    def __init__(self, action: Action, gate: tuple[int, int] | None = None) -> None:
        self._read, write = os.pipe()
        self._pid = _fork()
        if self._pid == 0:
            self._live(action, write, gate)
        os.close(write)

    @staticmethod
    def _live(action: Action, write: int, gate: tuple[int, int] | None) -> None:
        code = 1
        try:
            signal.alarm(PATIENCE)
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it; see _tear_the_next_write
            if gate is not None:
                os.close(gate[1])
                os.read(gate[0], 1)
            files.hook = files.hook and _telling(files.hook, write)
            os.write(write, json.dumps({"answer": action()}).encode() + b"\n")
            code = 0
        except BaseException:
            os.write(write, json.dumps({"error": traceback.format_exc()}).encode() + b"\n")
        finally:
            os._exit(code)

    def kill(self) -> None:
        """End it at once, wherever it is."""
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._read)

    def ended(self) -> Ended:
        """Wait for the end. Raises AssertionError when it was neither an answer nor the death that was asked for."""
        with os.fdopen(self._read, "rb") as pipe:
            told = pipe.read()
        _, status = os.waitpid(self._pid, 0)
        code = os.waitstatus_to_exitcode(status)
        said = {name: value for line in told.splitlines() for name, value in json.loads(line).items()}
        assert code in (0, DIED, -signal.SIGXFSZ), said.get("error") or f"a child ended with {code}"
        return Ended(said.get("answer"), said.get("before") if code else None)


def _telling(hook: Callable[[str, str], None], write: int) -> Callable[[str, str], None]:
    """The hook, which says what it was called for before it ends the process."""

    def call(operation: str, path: str) -> None:
        try:
            hook(operation, path)
        except Torn:
            os.write(write, json.dumps({"before": f"the end of {operation} {path}"}).encode() + b"\n")
            _tear_the_next_write(path)
        except SystemExit:
            os.write(write, json.dumps({"before": f"{operation} {path}"}).encode() + b"\n")
            os._exit(DIED)

    return call


Death = Callable[[int, str], type[BaseException] | None]
"""Says for a mutation, by its number and operation, whether the process dies before it, or in its midst."""


class Torn(Exception):
    """Raised by a hook: the process is to die in the midst of the write that comes."""


def _tear_the_next_write(path: str) -> None:
    """Let the kernel end this process when it has brought a few bytes more to a file."""
    size = os.path.getsize(path) if os.path.exists(path) else 0
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + TORN_AFTER, resource.RLIM_INFINITY))


def in_child(action: Action, dies_at: int | None = None) -> Ended:
    """Run an action in a child that dies just before its mutation number ``dies_at``, counted from 1."""
    return _in_child(action, lambda number, operation: SystemExit if number == dies_at else None)


def _in_child(action: Action, dies: Death) -> Ended:
    count = itertools.count(1)

    def hook(operation: str, path: str) -> None:
        if death := dies(next(count), operation):
            raise death

    files.hook = hook
    try:
        return Child(action).ended()
    finally:
        files.hook = None


WRITES = ("write ", "append ")


def race(actions: Sequence[Action]) -> list[Any]:
    """Run actions at the same moment, each in a process of its own; gives what they returned."""
    gate = os.pipe()
    children = [Child(action, gate) for action in actions]
    os.close(gate[0])
    os.close(gate[1])  # the last writer: now all of them read the end of the pipe
    return [child.ended().answer for child in children]


def killed_everywhere(
    place: Path,
    prepare: Callable[[Path], W],
    act: Callable[[W], Any],
    check: Callable[[W, Any], None],
    least: int,
    *,
    unheard: bool = True,
) -> None:
    """Kill an operation before and after each of its mutations and in each write, and check what is left.

    Each time in a fresh world. ``check`` is told what the operation returned, None when it was killed before. ``least``
    is how many mutations the operation must have, so that a hook that is never called does not go unseen. ``unheard``:
    also let it be done to the end, and nobody hear of it.
    """
    problems, points = [], 0

    def one(name: str, dies: Death = lambda number, operation: None, *, heard: bool = True) -> str | None:
        """One life; where it was cut off."""
        nonlocal points
        world, ended = prepare(place / name), Ended()
        try:
            ended = _in_child(lambda: act(world), dies)
            points += 1
            TRIED["crash points"] += 1
            check(world, ended.answer if heard else None)
        except (AssertionError, OSError, SpoolError) as error:
            problems.append(f"{name}, killed before {ended.died_before}: {error!r}")
        return ended.died_before

    for number in itertools.count(1):
        where = one(f"killed-{number}", lambda at, operation: SystemExit if at == number else None)
        if where is None:
            break
        if where.startswith(WRITES):
            one(f"torn-{number}", lambda at, operation: Torn if at == number else None)
    if unheard:
        one("unheard", heard=False)
    assert not problems, f"{len(problems)} of {points} points:\n" + "\n".join(problems)
    assert number > least
