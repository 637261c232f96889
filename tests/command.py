"""The commands of the tests themselves (``python -m tests.torture`` and others): how they end, and how tests run them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

REPOSITORY = Path(__file__).parent.parent


def leave_with(main: Callable[[], int]) -> NoReturn:
    """Run a command and leave with its exit code; a signal ends it by way of every 'finally', so nothing stays behind."""

    def leave(number: int, _: object) -> None:
        sys.exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)


def told_by(place: Path, seconds: float, *words: str) -> str:
    """Run a command with its temporary files at a place; gives what it printed.

    Raises AssertionError when it found something wrong, TimeoutExpired when it takes too long.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=REPOSITORY,
        env={**os.environ, "TMPDIR": str(place)},
    )
    try:
        out, _ = process.communicate(timeout=seconds)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)  # it ends its processes
            process.communicate(timeout=60)
    assert process.returncode == 0, out.decode()
    return out.decode()


def count(told: str, what: str) -> int:
    """The number that a command printed before some words; 0 when there is none."""
    found = re.search(rf"^ *([0-9]+) {re.escape(what)}$", told, re.MULTILINE)
    return int(found[1]) if found else 0
