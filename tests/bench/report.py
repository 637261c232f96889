"""Rows of numbers, the product beside others, and how they are told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Any

PRODUCT, BARE = "product", "bare calls"


def p99(values: Sequence[float]) -> float:
    """The 99th percentile."""
    return quantiles(values, n=100, method="inclusive")[98] if len(values) > 1 else values[0]


@dataclass(frozen=True)
class Goal:
    """What the product's number by that of a side should be: at ``least`` or at ``most``; neither is no goal.

    Without ``against`` it is the number itself that is judged.
    """

    against: str
    least: float | None = None
    most: float | None = None

    @property
    def said(self) -> str:
        """The goal in words."""
        if self.least is not None:
            return f"at least {self.least:g}"
        return f"at most {self.most:g}" if self.most is not None else ""


@dataclass(frozen=True)
class Comparison:
    """The product beside one side, or its number alone. The ratio is the median of the ratios of single rounds.

    ``spread`` is the middle half of those: how much of the ratio is noise.
    """

    goal: Goal
    product: float
    other: float | None
    ratio: float
    spread: str

    @property
    def met(self) -> bool | None:
        """Whether the goal was reached; None without one. No test depends on it."""
        if self.goal.least is not None:
            return self.ratio >= self.goal.least
        return self.ratio <= self.goal.most if self.goal.most is not None else None

    @property
    def times(self) -> float | None:
        """By how much the goal was reached: 1 is just so, 2 is twice as good. None when that cannot be said."""
        if self.goal.least:
            return self.ratio / self.goal.least
        return self.goal.most / self.ratio if self.goal.most and self.ratio else None


@dataclass
class Row:
    """One thing that was measured: the numbers of each side, a number a round, taken in turns; the product is one side.

    ``missing`` says of a side why it was not measured, ``skipped`` of the whole row.
    """

    name: str
    unit: str
    sides: dict[str, list[float]] = field(default_factory=dict)
    goals: list[Goal] = field(default_factory=list)
    summary: Callable[[Sequence[float]], float] = median
    detail: dict[str, Any] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    skipped: str = ""

    def number(self, side: str) -> float:
        """What is told of a side: the median of its rounds, unless the row says otherwise."""
        return self.summary(self.sides[side])

    def comparisons(self) -> list[Comparison]:
        """The product beside each side that was measured, in the order of the goals."""
        return [self._compared(goal) for goal in self.goals if not goal.against or goal.against in self.sides]

    def _compared(self, goal: Goal) -> Comparison:
        ours = self.number(PRODUCT)
        if not goal.against:
            return Comparison(goal, ours, None, ours, "")
        other = self.number(goal.against)
        ratios = [mine / its for mine, its in zip(self.sides[PRODUCT], self.sides[goal.against], strict=False)]
        if self.summary is not median or len(ratios) < 3:
            return Comparison(goal, ours, other, ours / other, "")
        # Neighbours in time are compared: a slow minute slows both, and would shift a ratio of two medians.
        low, middle, high = quantiles(ratios, n=4, method="inclusive")
        return Comparison(goal, ours, other, middle, f"{low:.2f} .. {high:.2f}")

    def unmeasured(self) -> dict[str, str]:
        """The sides that a goal names and that were not measured, and why; the row itself when all of it was not."""
        if self.skipped:
            return {"": self.skipped}
        names = [goal.against for goal in self.goals if goal.against and goal.against not in self.sides]
        return {name: self.missing.get(name, "nobody knows why") for name in names}

    def to_map(self) -> dict[str, Any]:
        """The row as JSON."""
        told: dict[str, Any] = {"name": self.name, "unit": self.unit}
        if self.skipped:
            return told | {"skipped": self.skipped}
        told["sides"] = {
            name: {"number": _short(self.number(name)), "rounds": [_short(value) for value in values]}
            for name, values in self.sides.items()
        }
        told["comparisons"] = [
            {
                "against": it.goal.against,
                "ratio": _short(it.ratio),
                "least": it.goal.least,
                "most": it.goal.most,
                "met": it.met,
            }
            for it in self.comparisons()
        ]
        return told | {"missing": self.missing} | self.detail


def paired(
    name: str, unit: str, pairs: Sequence[tuple[float, float]], least: float | None = None, most: float | None = None
) -> Row:
    """A row of two sides: the product and the bare calls, a pair of numbers a round."""
    ours, by_hand = [mine for mine, _ in pairs], [its for _, its in pairs]
    return Row(name, unit, {PRODUCT: ours, BARE: by_hand}, [Goal(BARE, least, most)])


def _short(value: float) -> float:
    return float(f"{value:.5g}")


def number(value: float) -> str:
    """A number as people read it, to three digits or so."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}" if value < 100 else f"{value:.0f}"


HEADINGS = ["what", "unit", "product", "beside", "its number", "ratio", "middle half", "goal"]


def lines(rows: list[Row]) -> list[list[str]]:
    """A line of cells for each comparison; the name of a row only stands in its first line."""
    found = []
    for row in rows:
        its = [_measured(it) for it in row.comparisons()]
        its += [["-", side, "-", "-", "", f"not measured: {why}"] for side, why in row.unmeasured().items()]
        for number, cells in enumerate(its):
            found.append([row.name if number == 0 else "", row.unit if number == 0 else "", *cells])
    return found


def _measured(it: Comparison) -> list[str]:
    met = {True: ": met", False: ": NOT MET", None: ""}[it.met]
    goal = it.goal.said + met
    if it.other is None:
        return [number(it.product), "", "", "", "", goal]
    return [number(it.product), it.goal.against, number(it.other), number(it.ratio), it.spread, goal]


def table(rows: list[Row]) -> str:
    """All rows as text: numbers to the right, words to the left."""
    laid = [HEADINGS, *lines(rows)]
    widths = [max(len(line[column]) for line in laid) for column in range(len(HEADINGS))]
    return "\n".join("  ".join(_laid_out(line, widths)).rstrip() for line in laid)


def _laid_out(line: list[str], widths: list[int]) -> list[str]:
    return [
        cell.rjust(width) if column in (2, 4, 5) else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(line, widths, strict=True))
    ]


def markdown(rows: list[Row]) -> str:
    """All rows as a table in Markdown."""
    told = [HEADINGS, ["---", "---", "--:", "---", "--:", "--:", "---", "---"], *lines(rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in told).replace("NOT MET", "**not met**")
