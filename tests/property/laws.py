"""How much a law is tried: a few seconds' worth that is the same in each run, or with --whole much more and new."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

from hypothesis import HealthCheck, settings

from breyta_spool import SpoolError

T = TypeVar("T")

whole = False
"""Set by conftest.py, before the modules with laws are imported."""
_MORE = 20
PATIENCE = 60
"""Seconds after which a call counts as hanging; most take a few milliseconds."""


def tried(examples: int, more: int = _MORE, **options: Any) -> settings:
    """How many examples a law is tried on; ``more`` times as many with --whole."""
    return settings(
        max_examples=examples * more if whole else examples,
        derandomize=not whole,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
        **options,
    )


def refused(call: Callable[[], T]) -> T | SpoolError:
    """What a call gives, or the error of ours that it raises; any other error is the test's failure."""
    try:
        return call()
    except SpoolError as error:
        return error


@contextmanager
def bounded(seconds: int = PATIENCE) -> Iterator[None]:
    """Fail rather than hang."""

    def give_up(*_: object) -> NoReturn:
        raise AssertionError(f"it hangs: no answer after {seconds} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
