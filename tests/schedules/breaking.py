"""Breaks the product on purpose: one function of it gets another text, for as long as a block lasts."""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def broken(owner: Any, name: str, old: str, new: str) -> Iterator[None]:
    """Replace some text in the source of a function. Raises AssertionError when the text is not there any more."""
    right = getattr(owner, name)
    source = textwrap.dedent(inspect.getsource(right))
    assert source.count(old) == 1, f"{name} does not have this text once: {old}"
    found: dict[str, Any] = {}
    module = sys.modules[right.__module__]
    exec("from __future__ import annotations\n" + source.replace(old, new), module.__dict__, found)
    setattr(owner, name, found[name])
    try:
        yield
    finally:
        setattr(owner, name, right)
