"""How much a run of the tests has tried: crash points, failing calls, meetings; told at its end, for docs/guarantees.md."""

from __future__ import annotations

from collections import Counter

TRIED: Counter[str] = Counter()
"""Counted by the tests of this process."""
