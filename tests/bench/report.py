"""Rows of numbers, product beside bare, and how they are told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Any

Pairs = list[tuple[float, float]]
"""Product and bare, measured one right after the other."""


def p99(values: Sequence[float]) -> float:
    """The 99th percentile."""
    return quantiles(values, n=100, method="inclusive")[98]


@dataclass
class Row:
    """One thing that was measured. ``least`` or ``most`` is the goal for the ratio product / bare, None is no goal."""

    name: str
    unit: str
    pairs: Pairs
    least: float | None = None
    most: float | None = None
    summary: Callable[[Sequence[float]], float] = median
    detail: dict[str, Any] = field(default_factory=dict)
    skipped: str = ""

    @property
    def product(self) -> float:
        """The product's number."""
        return self.summary([product for product, _ in self.pairs])

    @property
    def bare(self) -> float:
        """The bare number."""
        return self.summary([bare for _, bare in self.pairs])

    @property
    def ratio(self) -> float:
        """Product by bare."""
        return self.product / self.bare

    @property
    def spread(self) -> str:
        """The middle half of the ratios of single pairs: how much of the ratio is noise."""
        if self.summary is not median or len(self.pairs) < 3:
            return ""
        low, _, high = quantiles([product / bare for product, bare in self.pairs], n=4, method="inclusive")
        return f"{low:.2f} .. {high:.2f}"

    @property
    def goal(self) -> str:
        """The goal in words and whether it was reached, which no test depends on."""
        if self.least is not None:
            return f"at least {self.least:g}: " + ("yes" if self.ratio >= self.least else "no")
        if self.most is not None:
            return f"at most {self.most:g}: " + ("yes" if self.ratio <= self.most else "no")
        return ""

    def cells(self) -> list[str]:
        """The row of the table."""
        if self.skipped:
            return [self.name, self.unit, "-", "-", "-", "", f"not counted: {self.skipped}"]
        numbers = [_number(self.product), _number(self.bare), f"{self.ratio:.2f}"]
        return [self.name, self.unit, *numbers, self.spread, self.goal]

    def to_map(self) -> dict[str, Any]:
        """The row as JSON."""
        told: dict[str, Any] = {"name": self.name, "unit": self.unit}
        if self.skipped:
            return told | {"skipped": self.skipped}
        told |= {"product": self.product, "bare": self.bare, "ratio": self.ratio}
        return told | {"least": self.least, "most": self.most, "pairs": self.pairs} | self.detail


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}" if value < 100 else f"{value:.0f}"


HEADINGS = ["", "", "product", "bare", "ratio", "middle half", "goal"]


def table(rows: list[Row]) -> str:
    """All rows as text: numbers to the right, words to the left."""
    lines = [HEADINGS, *[row.cells() for row in rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    return "\n".join("  ".join(_laid_out(line, widths)).rstrip() for line in lines)


def _laid_out(line: list[str], widths: list[int]) -> list[str]:
    return [
        cell.rjust(width) if 2 <= column <= 5 else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(line, widths, strict=True))
    ]
