"""The picture: a bar for each comparison, how far the product is on the better or the worse side of its goal."""

from __future__ import annotations

import math

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

from tests.bench.report import Comparison, Row, number

MET, MISSED, INK, FAINT = "#2a7f8e", "#d9772b", "#2b2b2b", "#f3f3f0"
_FURTHEST = 16.0
_NAMES, _BESIDE = -0.74, -0.012
"""Where the two columns of words are, as shares of the width of the plot."""


def draw(rows: list[Row], path: str) -> None:
    """Write a PNG. What has no goal, or the goal of none at all, is not in it."""
    bars = [(row, it) for row in rows for it in row.comparisons() if it.times is not None]
    if not bars:
        return
    figure, axes = plt.subplots(figsize=(8, 1 + 0.25 * len(bars)), dpi=120)
    names: list[str] = []
    for place, (row, it) in enumerate(bars):
        if row.name not in names:
            names.append(row.name)
            _write(axes, _NAMES, place, row.name, "left", weight="bold")
        if len(names) % 2:
            axes.axhspan(
                place - 0.5, place + 0.5, xmin=_NAMES - 0.01, color=FAINT, zorder=0, clip_on=False, linewidth=0
            )
        _write(axes, _BESIDE, place, f"beside {it.goal.against}" if it.goal.against else row.unit, "right")
        _bar(axes, place, it)
    _lay_out(axes, bars)
    figure.savefig(path, bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)


def _write(axes: plt.Axes, at: float, place: int, text: str, side: str, weight: str = "normal") -> None:
    axes.text(
        at,
        place,
        text,
        transform=axes.get_yaxis_transform(),
        ha=side,
        va="center",
        fontsize=8,
        color=INK,
        weight=weight,
    )


def _bar(axes: plt.Axes, place: int, it: Comparison) -> None:
    end = _end(it)
    axes.barh(place, end, height=0.62, color=MET if it.met else MISSED, zorder=2)
    goal = it.goal.least if it.goal.least is not None else it.goal.most
    assert goal is not None
    said = f"{number(it.ratio)}  (goal {'≥' if it.goal.least is not None else '≤'} {goal:,g})"
    away = 4 if end >= 0 else -4
    axes.annotate(
        said, (end, place), xytext=(away, 0), textcoords="offset points",
        ha="left" if end >= 0 else "right", va="center", fontsize=7.5, color=INK, zorder=4,
    )  # fmt: skip


def _end(it: Comparison) -> float:
    """Where a bar ends: the power of two by which the goal was reached, as far as the picture reaches."""
    assert it.times is not None
    return math.log2(min(max(it.times, 1 / _FURTHEST), _FURTHEST))


def _lay_out(axes: plt.Axes, bars: list[tuple[Row, Comparison]]) -> None:
    axes.set_yticks([])
    axes.set_ylim(len(bars) - 0.4, -0.6)
    ends = [_end(it) for _, it in bars]
    left, right = min(-1.0, min(ends)) - 1.6, max(1.0, max(ends)) + 1.6
    axes.set_xlim(left, right)
    ticks = [tick for tick in range(-4, 5) if left < tick < right]
    axes.set_xticks(ticks, [f"{2**tick:g} x" if tick >= 0 else f"1/{2**-tick} x" for tick in ticks], fontsize=8)
    axes.xaxis.tick_top()
    axes.tick_params(axis="x", length=0, colors=INK)
    axes.axvline(0, color=INK, linewidth=1.3, zorder=3)
    axes.grid(axis="x", color="#dcdcdc", linewidth=0.6, zorder=1)
    for spine in axes.spines.values():
        spine.set_visible(False)
    title = f"{sum(bool(it.met) for _, it in bars)} of {len(bars)} goals met: how many times as good as its goal each measurement is"
    axes.set_title(title, fontsize=10.5, x=_NAMES, ha="left", color=INK, pad=32)
    explained = "At each bar: the product's number by that of what it stands beside, or its number itself. Left of the line the goal is missed."
    below_title = 1 + 0.32 / axes.figure.get_figheight()
    axes.text(_NAMES, below_title, explained, transform=axes.transAxes, fontsize=8, color=INK)
