"""Sides that take turns: one after the other does the same work, again and again, so that a slow moment hits them all."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Collection, Mapping
from time import perf_counter

from tests.bench.linux import settle

Sides = Mapping[str, Callable[[], float]]
"""The name of each side, and its work: gives a number, a rate or a time."""


class Turns:
    """The numbers of some sides. A side in ``forgiven`` that fails is left out from then on, and ``missing`` says why."""

    def __init__(self, place: str, forgiven: Collection[str] = ()) -> None:
        self.place = place
        self.numbers: dict[str, list[float]] = {}
        self.missing: dict[str, str] = {}
        self._forgiven = forgiven
        self._rounds = 0

    def go(self, sides: Sides) -> None:
        """One round. Each begins with a disk that has nothing to write; another side begins each time."""
        names = list(sides)
        first = self._rounds % len(names)
        self._rounds += 1
        for name in names[first:] + names[:first]:
            if name in self.missing:
                continue
            settle(self.place)
            gc.collect()
            try:
                self.numbers.setdefault(name, []).append(sides[name]())
            except Exception as error:
                if name not in self._forgiven:
                    raise
                self.drop(name, error)

    def drop(self, name: str, error: Exception) -> None:
        """Leave a side out, with all it did."""
        kind = "" if type(error) in (RuntimeError, ModuleNotFoundError) else f"{type(error).__name__}: "
        self.missing[name] = f"{kind}{error}".strip().splitlines()[0][:150]
        self.numbers.pop(name, None)


def by_threads(count: int, work: Callable[[int], object]) -> float:
    """Do work in so many threads at once, each told its number; gives the seconds. Raises what the first raised."""
    barrier = threading.Barrier(count + 1)
    failures: list[BaseException] = []

    def one(number: int) -> None:
        barrier.wait()
        try:
            work(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    barrier.wait()
    began = perf_counter()
    for thread in threads:
        thread.join()
    spent = perf_counter() - began
    if failures:
        raise failures[0]
    return spent
