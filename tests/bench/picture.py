"""The picture: a bar for each comparison, how far the product is on the better or the worse side of its goal."""

from __future__ import annotations

import math

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

from tests.bench.report import Comparison, Row

MET, MISSED, INK = "#2a7f8e", "#d9772b", "#333333"
_FURTHEST = 16.0


def draw(rows: list[Row], path: str) -> None:
    """Write a PNG. What has no goal, or the goal of none at all, is not in it."""
    bars = [(row, it) for row in rows for it in row.comparisons() if it.times is not None]
    if not bars:
        return
    figure, axes = plt.subplots(figsize=(10, 0.9 + 0.27 * len(bars)), dpi=110)
    for place, (_, it) in enumerate(bars):
        reached = min(max(it.times or 1, 1 / _FURTHEST), _FURTHEST)
        axes.barh(place, math.log2(reached), height=0.68, color=MET if it.met else MISSED, zorder=2)
        beyond = reached >= 1
        axes.annotate(
            _said(it), (math.log2(reached), place), xytext=(4 if beyond else -4, 0), textcoords="offset points",
            ha="left" if beyond else "right", va="center", fontsize=7.5, color=INK,
        )  # fmt: skip
    _lay_out(axes, bars)
    figure.savefig(path, bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)


def _said(it: Comparison) -> str:
    goal = f"{'≥' if it.goal.least is not None else '≤'} {it.goal.least or it.goal.most:g}"
    return f"{it.ratio:.3g}  (goal {goal})"


def _label(row: Row, it: Comparison) -> str:
    return f"{row.name} | {it.goal.against}" if it.goal.against else f"{row.name}, {row.unit}"


def _lay_out(axes: plt.Axes, bars: list[tuple[Row, Comparison]]) -> None:
    axes.set_yticks(range(len(bars)), [_label(row, it) for row, it in bars], fontsize=8)
    axes.set_ylim(len(bars) - 0.4, -0.6)
    ends = math.log2(_FURTHEST)
    values = [math.log2(min(max(it.times or 1, 1 / _FURTHEST), _FURTHEST)) for _, it in bars]
    left, right = min(-1.2, min(values) - 1.3), max(1.2, max(values) + 1.3)
    axes.set_xlim(max(left, -ends - 1.3), min(right, ends + 1.3))
    ticks = [tick for tick in range(-4, 5) if left + 0.5 < tick < right - 0.5]
    axes.set_xticks(ticks, [f"{2**tick:g} x" if tick >= 0 else f"1/{2**-tick}" for tick in ticks], fontsize=8)
    axes.axvline(0, color=INK, linewidth=1.2, zorder=3)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6, zorder=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_title(
        "How far each measurement is from its goal: right of the line it is met", fontsize=10, loc="left", color=INK
    )
    axes.set_xlabel("times as good as the goal asks (a bar that ends at the edge goes further)", fontsize=8, color=INK)
