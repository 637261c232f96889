"""One line on a terminal that changes while something is waited for."""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from breyta_spool.errors import SpoolError

_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_PLAIN = "|/-\\"


def bar(done: float, total: float, width: int = 20) -> str:
    """A bar and a percentage.

    >>> bar(1, 4, 8)
    '[##------]  25%'
    """
    share = min(1.0, done / total) if total else 0.0
    full = int(share * width)
    return f"[{'#' * full}{'-' * (width - full)}] {share * 100:3.0f}%"


def shown(line: Callable[[], str]) -> AbstractContextManager[object]:
    """Show a line while something goes on, if stderr is a terminal."""
    return Spinner(line) if sys.stderr.isatty() else nullcontext()


class Spinner:
    """Shows ``line()``, asked for once a second, behind a turning sign on stderr; leaves nothing behind."""

    def __init__(self, line: Callable[[], str]) -> None:
        self._line = line
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._turn, daemon=True)
        self._frames = _FRAMES if (sys.stderr.encoding or "").lower().startswith("utf") else _PLAIN

    def __enter__(self) -> Spinner:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=2)
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()

    def _turn(self) -> None:
        text, turns = "", 0
        while not self._stop.is_set():
            if turns % 10 == 0:
                try:
                    text = self._line()
                except (SpoolError, OSError) as error:
                    text = str(error)
            # What a handler reported is not trusted with the terminal.
            printable = "".join(c if c.isprintable() else " " for c in text)
            shown = printable[: max(10, shutil.get_terminal_size().columns - 4)]
            sys.stderr.write(f"\r\x1b[K{self._frames[turns % len(self._frames)]} {shown}")
            sys.stderr.flush()
            turns += 1
            self._stop.wait(0.1)
