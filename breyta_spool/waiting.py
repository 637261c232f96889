"""A bounded wait: polls decide, the kernel's events only wake earlier.

Events are lost on overflow, never come for what another host did on NFS, and need a kernel that has them; so no
answer here rests on one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from breyta_spool import durations, jsonio
from breyta_spool.errors import InvalidInput

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
            pause *= self.factor ** min(polls - 1, 200)
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
        raise InvalidInput(f"maxAttempts: {max_attempts!r} is not a whole number from 1", field="maxAttempts")
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
            f"backoff.type: {given.get('type')!r} is unknown: allowed are constant, linear, exponential",
            field="backoff",
        )
    if unknown := set(given) - {"type", "factor", "max"}:
        raise InvalidInput(
            f"backoff has unknown fields {sorted(unknown)}: allowed are type, factor, max", field="backoff"
        )
    factor = given.get("factor", 2 if kind == "exponential" else 1)
    if not isinstance(factor, int | float) or isinstance(factor, bool) or not 0 <= factor <= 1000:
        raise InvalidInput(f"backoff.factor: {factor!r} is not a number from 0 to 1000", field="backoff")
    longest = given.get("max")
    return (
        kind,
        float(factor),
        None if longest is None else durations.milliseconds(longest, field="backoff.max"),
    )


class Wake:
    """Something that can be waited for and set: by the program itself, or by changes in the watched directories."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._removers: list[Callable[[], None]] = []

    def watch(self, directory: str, *, touched: bool = False) -> bool:
        """Be set when a name arrives in a directory or, if ``touched``, when it is touched itself.

        Whether the kernel can tell; if not, only polling is left. Look once more after this: what happened before
        it is not told.
        """
        try:
            remove = _watch(directory, touched, self.set)
        except (OSError, ImportError):
            return False
        self._removers.append(remove)
        return True

    def set(self) -> None:
        """Wake whoever waits."""
        self._event.set()

    def wait(self, seconds: float) -> bool:
        """Wait until set or until the time is over; whether it was set. The next wait starts afresh."""
        woken = self._event.wait(max(0.0, seconds))
        self._event.clear()
        return woken

    def close(self) -> None:
        """Stop watching."""
        for remove in self._removers:
            remove()
        self._removers.clear()


def _watch(directory: str, touched: bool, call: Callable[[], None]) -> Callable[[], None]:
    # The observers of watchdog hold a rename back for half a second to pair its two events; the layer below does not.
    from watchdog.observers.inotify_c import CallbackId, InotifyConstants, InotifyFD, Mask

    class Callback:
        def on_event(self, event: object) -> None:
            call()

        def on_watch_deleted(self, wd: int) -> None:
            call()

        def on_queue_overflow(self) -> None:
            call()

    mask = InotifyConstants.IN_ATTRIB if touched else InotifyConstants.IN_MOVED_TO | InotifyConstants.IN_CREATE
    reader, callback = InotifyFD.get_instance(), Callback()
    me = CallbackId(id(callback))
    descriptor = reader.add_callback(directory.encode(), Mask(mask | InotifyConstants.IN_ONLYDIR), callback, me)
    return lambda: reader.remove_callbacks([(descriptor, me)])


def poll(
    probe: Callable[[], T],
    done: Callable[[T], bool],
    limits: Bound,
    wake: Callable[[], Wake],
    seen: Callable[[T], None] = lambda state: None,
) -> tuple[T, bool]:
    """Probe until ``done`` or until the bound is reached; the last state, and whether it is done.

    ``wake`` is called once, after the first probe, for something that ends a pause early; such an early look is
    not counted as a poll. ``seen`` is shown every state.
    """
    end = None if limits.timeout_ms is None else time.monotonic() + limits.timeout_ms / 1000
    polls, waker = 0, None
    try:
        while True:
            polls += 1
            seen(state := probe())
            if done(state) or polls == limits.max_attempts:
                return state, done(state)
            waker = waker or wake()
            until = time.monotonic() + limits.pause_ms(polls) / 1000
            last = end is not None and until >= end
            early = _early(probe, done, waker, min(until, end) if end is not None else until, seen, polls == 1)
            if early is not None:
                return early, True
            if last:
                seen(state := probe())
                return state, done(state)
    finally:
        if waker is not None:
            waker.close()


def _early(
    probe: Callable[[], T],
    done: Callable[[T], bool],
    waker: Wake,
    until: float,
    seen: Callable[[T], None],
    look: bool,
) -> T | None:
    """Pause, looking whenever woken (and, if ``look``, at once); a state that is done, None when time is over."""
    while True:
        if look:
            seen(state := probe())
            if done(state):
                return state
        left = until - time.monotonic()
        if left <= 0:
            return None
        look = waker.wait(left)
