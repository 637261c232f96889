"""What a process gets from its host besides files, made the same in every run: chance, ids of processes, clocks.

A schedule can be run again only if everything else is the same. All of this is put into a forked child that only runs
schedules and leaves by ``os._exit``, so nothing of it is undone.
"""

from __future__ import annotations

import hashlib
import os
import random
import time
from collections import Counter
from typing import Any

from breyta_spool import ids

SPECTATOR = "-"
"""Who acts while no actor does: who prepares a world, and who settles it."""


class Host:
    """The same host for each run. Every actor is a process of its own on it, with its own chance and its own pid."""

    def __init__(self, now: float) -> None:
        self._now = now
        self.begin()

    def begin(self) -> None:
        """Begin a run: everything that was drawn or counted is forgotten."""
        self._drawn: Counter[str] = Counter()
        self._ticks: Counter[str] = Counter()
        self.labels: dict[str, str] = {}
        self.become(SPECTATOR)

    def become(self, who: str) -> None:
        """Go on as another process."""
        self._who = who
        ids._last = 0  # what a process remembers of the ids it made; each id is told apart by its random bits

    def install(self) -> None:
        """Take the place of the real one, in this process, for good."""
        given: dict[Any, dict[str, Any]] = {
            os: {"urandom": self._urandom, "getpid": lambda: 1000 + ord(self._who), "listdir": _sorted(os.listdir)},
            time: {
                "time": lambda: self._now,
                "time_ns": lambda: int(self._now * 1e9),
                # The pauses of a worker are not part of a schedule; what has to look old is made old.
                "monotonic": lambda: 1000.0,
                "monotonic_ns": self._tick,
            },
            # It spreads load and guards nothing; a generator shared by the actors would tie them together.
            random: {"randrange": lambda stop: 0},
        }
        for module, functions in given.items():
            for name, function in functions.items():
                setattr(module, name, function)

    def _urandom(self, size: int) -> bytes:
        """As random as an actor can tell: it depends on who draws for the how manyeth time, and on nothing else."""
        self._drawn[self._who] += 1
        label = f"{self._who}{self._drawn[self._who]}"
        drawn = hashlib.blake2b(label.encode(), digest_size=size).digest()
        self.labels[drawn.hex()] = label
        return drawn

    def _tick(self) -> int:
        self._ticks[self._who] += 1
        return self._ticks[self._who]


def _sorted(listdir: Any) -> Any:
    """A directory has no order. A file system's own would tell of the past, and so be a state that nobody sees."""
    return lambda path: sorted(listdir(path))
