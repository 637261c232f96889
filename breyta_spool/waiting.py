"""A bounded wait: polls decide, the kernel's events only wake earlier.

Events are lost on overflow, never come for what another host did on NFS, and need a kernel that has them; so no
answer here rests on one.
"""

from __future__ import annotations

import math
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from breyta_spool import durations, jsonio
from breyta_spool.errors import InvalidInput, shown

DEFAULT_INTERVAL_MS = 10_000
DEFAULT_TIMEOUT_MS = 1_800_000

T = TypeVar("T")


@dataclass(frozen=True)
class Bound:
    """How often and how long to look. Times are milliseconds; ``max_attempts`` counts the polls."""

    interval_ms: int = DEFAULT_INTERVAL_MS
    timeout_ms: int | None = DEFAULT_TIMEOUT_MS
    max_attempts: int | None = None
    backoff: str = "constant"
    factor: float = 1.0
    max_interval_ms: int | None = None

    def pause_ms(self, polls: int) -> float:
        """How long to pause after so many polls.

        >>> [Bound(100, backoff="exponential", factor=2, max_interval_ms=500).pause_ms(n) for n in (1, 2, 3, 4)]
        [100, 200, 400, 500]
        """
        pause: float = self.interval_ms
        if self.backoff == "linear":
            pause += self.interval_ms * self.factor * (polls - 1)
        elif self.backoff == "exponential":
            try:
                pause *= self.factor ** min(polls - 1, 200)
            except OverflowError:
                pause = math.inf
        return min(pause, self.max_interval_ms or 86_400_000)

    @property
    def spoken(self) -> str:
        """The bound in words."""
        parts = [durations.spoken(self.timeout_ms)] if self.timeout_ms is not None else []
        return " or ".join(parts + ([f"{self.max_attempts} polls"] if self.max_attempts else []))


def bound(
    interval: Any = None,
    timeout: Any = None,
    max_attempts: Any = None,
    backoff: Mapping[str, Any] | None = None,
) -> Bound:
    """Check the bounds of an await as an author gives them (contract, section 2). Raises InvalidInput.

    ``interval`` and ``timeout`` are durations; without timeout and max_attempts the timeout is 30 minutes.

    >>> bound(timeout="5m").timeout_ms
    300000
    """
    interval_ms = DEFAULT_INTERVAL_MS if interval is None else durations.milliseconds(interval, field="interval")
    if interval_ms < 1:
        raise InvalidInput("interval: at least 1ms", field="interval")
    if max_attempts is not None and (
        not isinstance(max_attempts, int) or isinstance(max_attempts, bool) or max_attempts < 1
    ):
        raise InvalidInput(f"maxAttempts: {shown(max_attempts)} is not a whole number from 1", field="maxAttempts")
    if timeout is not None:
        timeout_ms: int | None = durations.milliseconds(timeout, field="timeout")
    else:
        timeout_ms = DEFAULT_TIMEOUT_MS if max_attempts is None else None
    kind, factor, longest = _backoff(backoff or {})
    return Bound(interval_ms, timeout_ms, max_attempts, kind, factor, longest)


def _backoff(given: Mapping[str, Any]) -> tuple[str, float, int | None]:
    if not isinstance(given, Mapping):
        raise InvalidInput(f"backoff must be an object, not {jsonio.kind_of(given)}", field="backoff")
    kind = str(given.get("type", "constant")).lstrip(":")
    if kind not in ("constant", "linear", "exponential"):
        raise InvalidInput(
            f"backoff.type: {shown(given.get('type'))} is unknown: allowed are constant, linear, exponential",
            field="backoff",
        )
    if unknown := set(given) - {"type", "factor", "max"}:
        raise InvalidInput(
            f"backoff has unknown fields {shown(sorted(map(str, unknown)))}: allowed are type, factor, max",
            field="backoff",
        )
    factor = given.get("factor", 2 if kind == "exponential" else 1)
    if not isinstance(factor, int | float) or isinstance(factor, bool) or not 0 <= factor <= 1000:
        raise InvalidInput(f"backoff.factor: {shown(factor)} is not a number from 0 to 1000", field="backoff")
    longest = given.get("max")
    return (
        kind,
        float(factor),
        None if longest is None else durations.milliseconds(longest, field="backoff.max"),
    )


class Wake:
    """Something to wait for: the program itself can set it, and so can changes in the watched directories.

    Thread-safe. The wait reads the kernel's events itself, so nothing stands between an event and who waits for it.
    """

    def __init__(self) -> None:
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._events = -1
        self._watches: set[int] = set()
        self._guard = threading.Lock()

    def watch(self, directory: str, *, opened: bool = False, left: bool = False) -> bool:
        """Be set when something is renamed in a directory, has ``left`` it, or when it is ``opened`` itself.

        Whether the kernel can tell; if not, only polling is left. Look once more after this: what happened before
        it is not told.
        """
        try:
            self._add(os.fsencode(directory), opened, left)
        except (OSError, ImportError):
            return False
        return True

    def _add(self, directory: bytes, opened: bool, left: bool) -> None:
        # Its observers hold a rename back for half a second, to pair the two events it has; its bindings do not.
        from watchdog.observers.inotify_c import InotifyConstants, Mask, inotify_add_watch

        if self._events < 0:
            self._events = _inotify()
        mask = InotifyConstants.IN_MOVED_FROM if left else InotifyConstants.IN_MOVED_TO
        mask = InotifyConstants.IN_OPEN if opened else mask
        watch = inotify_add_watch(self._events, directory, Mask(mask | InotifyConstants.IN_ONLYDIR))
        if watch < 0:
            raise OSError("the directory cannot be watched")
        self._watches.add(watch)

    def set(self) -> None:
        """Wake whoever waits; nothing once it is closed."""
        with self._guard:
            if self._bell >= 0:
                os.eventfd_write(self._bell, 1)

    def wait(self, seconds: float) -> bool:
        """Wait until set or until the time is over; whether it was set. The next wait starts afresh."""
        poller = select.poll()
        for fd in (self._bell, self._events):
            if fd >= 0:
                poller.register(fd, select.POLLIN)
        ready = poller.poll(max(0, math.ceil(seconds * 1000)))
        for fd, _ in ready:
            with suppress(BlockingIOError):  # another thread that waits was faster
                os.read(fd, 65536)  # what happened does not matter: whoever is woken looks for himself
        return bool(ready)

    def close(self) -> None:
        """Stop watching. Nobody may wait any more."""
        with self._guard:
            if self._events >= 0:
                _put_by(self._events, self._watches)
            if self._bell >= 0:
                os.close(self._bell)
            self._bell = self._events = -1


_spare: deque[int] = deque()
"""Inotify instances without a watch. The kernel takes 10 ms and more to close one, so they are used again."""


def _inotify() -> int:
    from watchdog.observers.inotify_c import inotify_init

    try:
        fd = _spare.pop()
    except IndexError:
        fd = inotify_init()
        if fd < 0:
            raise OSError("no inotify instance is left") from None
        os.set_blocking(fd, False)
        os.set_inheritable(fd, False)
    with suppress(BlockingIOError):
        while os.read(fd, 65536):
            pass  # what the last user of it was told
    return fd


def _put_by(fd: int, watches: set[int]) -> None:
    from watchdog.observers.inotify_c import WatchDescriptor, inotify_rm_watch

    for watch in watches:
        inotify_rm_watch(fd, WatchDescriptor(watch))
    if len(_spare) < 4:
        _spare.append(fd)
    else:
        os.close(fd)


def _forget_after_fork() -> None:
    while _spare:
        os.close(_spare.pop())  # shared with the parent: each would take the other's events


os.register_at_fork(after_in_child=_forget_after_fork)


def poll(probe: Callable[[], T], done: Callable[[T], bool], limits: Bound, wake: Callable[[], Wake]) -> tuple[T, bool]:
    """Probe until ``done`` or until the bound is reached; the last state, and whether it is done.

    ``wake`` is called once, after the first probe, for something that ends a pause early with one more look. Such a
    look is not counted as a poll. A ``probe`` should be cheap: there may be several for one change.
    """
    end = math.inf if limits.timeout_ms is None else time.monotonic() + limits.timeout_ms / 1000
    polls, waker, state = 0, None, probe()
    try:
        while not done(state):
            polls += 1
            if polls == limits.max_attempts or time.monotonic() >= end:
                return state, False
            until = min(end, time.monotonic() + limits.pause_ms(polls) / 1000)
            # Right after the watch began comes one look for what happened before it.
            woken = waker is None
            waker = waker or wake()
            while not done(state) and (woken or time.monotonic() < until):
                state = probe() if woken else state
                woken = not done(state) and waker.wait(until - time.monotonic())
            state = state if done(state) else probe()
        return state, True
    finally:
        if waker is not None:
            waker.close()
