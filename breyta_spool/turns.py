"""Taking turns at a queue under a file lock. Nothing depends on it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

TURN_SECONDS = 1.0
"""How long a worker waits for its turn to read the queue before it goes on without."""


class Turn:
    """A worker's turn at a queue: held from the first call to the end of the block, or not at all.

    The lock keeps idle workers that wake for one job from all reading the queue at once. Nothing depends on it: where
    locks do not work, or the holder hangs, the wait ends after TURN_SECONDS and the claim goes on.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock: Any = None

    def __enter__(self) -> Callable[[], None]:
        return self._wait

    def _wait(self) -> None:
        if not self._path or self._lock is not None:
            return
        from filelock import FileLock, Timeout

        lock = FileLock(self._path, timeout=TURN_SECONDS)
        try:
            lock.acquire(poll_interval=0.005)
        except (Timeout, OSError, NotImplementedError):
            return
        self._lock = lock

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            with suppress(OSError):
                self._lock.release()
