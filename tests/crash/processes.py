"""Children by plain fork: they die where the test says, or race from one gate."""

from __future__ import annotations

import itertools
import json
import os
import signal
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from breyta_spool import SpoolError, files

DIED = 9
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
            if gate is not None:
                os.close(gate[1])
                os.read(gate[0], 1)
            files.hook = files.hook and _telling(files.hook, write)
            os.write(write, json.dumps({"answer": action()}).encode())
            code = 0
        except BaseException:
            os.write(write, json.dumps({"error": traceback.format_exc()}).encode())
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
        said = json.loads(told) if told else {}
        assert code in (0, DIED), said.get("error") or f"a child ended with {code}"
        return Ended(said.get("answer"), said.get("before"))


def _telling(hook: Callable[[str, str], None], write: int) -> Callable[[str, str], None]:
    """The hook, which says what it was called for before it ends the process."""

    def call(operation: str, path: str) -> None:
        try:
            hook(operation, path)
        except SystemExit:
            os.write(write, json.dumps({"before": f"{operation} {path}"}).encode())
            os._exit(DIED)

    return call


def in_child(action: Action, dies_at: int | None = None) -> Ended:
    """Run an action in a child that dies just before its mutation number ``dies_at``, counted from 1."""
    count = itertools.count(1)

    def hook(operation: str, path: str) -> None:
        if next(count) == dies_at:
            raise SystemExit

    files.hook = hook
    try:
        return Child(action).ended()
    finally:
        files.hook = None


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
) -> None:
    """Kill an operation before each of its mutations in turn, in a fresh world each time, and check what is left.

    ``check`` is told what the operation returned, None when it was killed before. The last child is not killed.
    ``least`` is how many mutations the operation must have, so that a hook that is never called does not go unseen.
    """
    problems = []
    for number in itertools.count(1):
        world = prepare(place / f"killed-{number}")
        ended = Ended()
        try:
            ended = in_child(lambda world=world: act(world), dies_at=number)
            check(world, ended.answer)
        except (AssertionError, OSError, SpoolError) as error:
            problems.append(f"killed before {ended.died_before}: {error!r}")
        if ended.died_before is None:
            break
    assert not problems, f"{len(problems)} of {number - 1} points:\n" + "\n".join(problems)
    assert number > least
