"""A schedule as a short text: who goes on for how many steps, one turn after the other.

``a3.r.b2!.a``: the actor a does three steps and stands still before the fourth; r goes on until it ends; b does two
steps and dies before the third; a goes on until it ends. What is not said: the first of those left goes on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple


class Turn(NamedTuple):
    """One actor goes on: for so many steps, or (None) until it ends; ``dies``: it never wakes after them."""

    actor: str
    steps: int | None = None
    dies: bool = False

    def __str__(self) -> str:
        return f"{self.actor}{'' if self.steps is None else self.steps}{'!' if self.dies else ''}"


Plan = tuple[Turn, ...]
_TURN = re.compile(r"([a-z])(?:([0-9]+)(!?))?")


def told(plan: Iterable[Turn]) -> str:
    """A schedule as text.

    >>> told(parsed("a3.r.b2!.a"))
    'a3.r.b2!.a'
    """
    return ".".join(map(str, plan))


def parsed(text: str) -> Plan:
    """A schedule from its text. Raises ValueError.

    >>> parsed("a3.b0!")
    (Turn(actor='a', steps=3, dies=False), Turn(actor='b', steps=0, dies=True))
    """
    return tuple(_turn(turn) for turn in text.split(".")) if text else ()


def _turn(text: str) -> Turn:
    match = _TURN.fullmatch(text)
    if match is None:
        raise ValueError(f"not a turn of a schedule: {text!r}; one looks like a, a3 or a3!")
    return Turn(match[1], None if match[2] is None else int(match[2]), bool(match[3]))
