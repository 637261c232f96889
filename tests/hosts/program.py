"""A program that runs on a host of the lab. What it prints is stamped by the outer machine's clock."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any


class Program:
    """A program on a host. ``lines`` holds what it printed so far, each with the moment it came, in seconds."""

    def __init__(self, what: str, tell: Callable[[int], None]) -> None:
        self.what = what
        self.lines: list[tuple[float, str]] = []
        self.errors: list[str] = []
        self.code: int | None = None
        self._tell = tell
        self._change = threading.Condition()

    def heard(self, message: dict[str, Any]) -> None:
        """Take what the host tells of it."""
        with self._change:
            if "out" in message:
                self.lines.append((time.monotonic(), message["out"]))
            elif "err" in message:
                self.errors.append(message["err"])
            elif self.code is None:
                self.code = message["code"]
            self._change.notify_all()

    def signal(self, number: int) -> None:
        """Send a signal to it and to what it started."""
        self._tell(number)

    def line(self, start: str, seconds: float = 60) -> tuple[float, str]:
        """Wait for the first line that begins with something; gives the moment it came, and the line."""
        return self.look(start, 1, seconds)[0]

    def look(self, start: str, count: int, seconds: float = 60) -> list[tuple[float, str]]:
        """Wait for the first ``count`` lines that begin with something."""
        end = time.monotonic() + seconds
        with self._change:
            while len(found := [line for line in self.lines if line[1].startswith(start)]) < count:
                assert self.code is None, f"it ended: {self}"
                self._sleep(end)
        return found[:count]

    def wait(self, seconds: float = 60) -> int:
        """Wait for its end; gives its exit code."""
        end = time.monotonic() + seconds
        with self._change:
            while self.code is None:
                self._sleep(end)
        return self.code

    def _sleep(self, end: float) -> None:
        assert time.monotonic() < end, f"not in time: {self}"
        self._change.wait(max(0.01, min(1.0, end - time.monotonic())))

    def output(self, seconds: float = 60) -> str:
        """What it printed, once it has ended well. Raises AssertionError when it has not."""
        assert self.wait(seconds) == 0, self
        return "\n".join(text for _, text in self.lines)

    def answer(self, seconds: float = 60) -> Any:
        """What it printed last, which must be JSON, once it has ended well."""
        return json.loads(self.output(seconds).rpartition("\n")[2])

    def __repr__(self) -> str:
        told = [text for _, text in self.lines[-10:]] + self.errors[-30:]
        return f"{self.what}, code {self.code}:\n" + "\n".join(told)
