"""``python -m tests.bench [--quick] [--json FILE] [--dir DIR] [--no-mount]``: measure, print a table with ratios."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.bench import calls, place, product, report, rounds, roundtrip, startup, upsert
from tests.bench.report import Row
from tests.command import leave_with


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    rounds: int
    slices: int
    jobs: int
    durable_jobs: int
    trips: int
    starts: int
    traced_jobs: int
    table_rows: int
    upserts: int


FULL = Sizes(
    rounds=5, slices=6, jobs=500, durable_jobs=50, trips=500, starts=25, traced_jobs=200, table_rows=100_000, upserts=9
)
QUICK = Sizes(rounds=1, slices=1, jobs=50, durable_jobs=5, trips=5, starts=2, traced_jobs=5, table_rows=1000, upserts=1)


def measured(directory: str, sizes: Sizes) -> list[Row]:
    """Every row, measured one after the other."""
    sampled = f"{directory}/sample"
    sample = product.make_sample(sampled)
    _say("submit, claim and finish ..")
    rows = rounds.throughput(directory, sample, sizes.rounds, sizes.slices, sizes.jobs)
    _say("durable submit ..")
    rows.append(rounds.durable(directory, sample, sizes.rounds * sizes.slices, sizes.durable_jobs))
    _say("round trips ..")
    rows += roundtrip.measure(directory, sampled, sizes.trips)
    _say("starts of a helper command ..")
    rows.append(startup.helper_start(directory, sizes.starts))
    _say("upserts ..")
    rows += upsert.measure(directory, sizes.table_rows, sizes.upserts)
    _say("system calls ..")
    return rows + calls.measure(directory, sampled, sizes.traced_jobs)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def told(rows: list[Row], where: str) -> str:
    """The report as text."""
    notes = [
        f"Measured {where}; {_machine()}.",
        "Ratio: product by bare, of the medians; half of the single ratios lie in 'middle half'. Compare within one run only.",
    ]
    for row in rows:
        if differs := row.detail.get("differs"):
            notes.append(
                f"{row.name}: the sides do NOT leave the same tree, so its ratio misleads: {', '.join(differs)}"
            )
    return "\n".join([*notes, "", report.table(rows), *_calls_told(rows)])


def _machine() -> str:
    return f"Python {platform.python_version()}, Linux {platform.release()}, {os.cpu_count()} CPUs"


def _calls_told(rows: list[Row]) -> list[str]:
    told = []
    for row in rows:
        if "productCalls" in row.detail:
            for side in ("product", "bare"):
                listed = ", ".join(f"{name} {count:g}" for name, count in row.detail[f"{side}Calls"].items())
                told.append(f"{row.name}, {side}: {listed}")
    return ["", *told] if told else []


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0 whatever the ratios are."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure against bare system calls.")
    parser.add_argument("--quick", action="store_true", help="small numbers: a check that it runs, not a measurement")
    parser.add_argument("--json", metavar="FILE", help="write the numbers there, too")
    parser.add_argument("--dir", metavar="DIR", help="measure in DIR, for example on a shared file system")
    parser.add_argument("--no-mount", action="store_true", help="even as root, measure among the temporary files")
    options = parser.parse_args(arguments)
    with place.fresh(options.dir, not options.no_mount) as (directory, where):
        rows = measured(directory, QUICK if options.quick else FULL)
    print(told(rows, where))
    if options.json:
        _write(options.json, rows, where, options.quick)
    return 0


def _write(path: str, rows: list[Row], where: str, quick: bool) -> None:
    found: dict[str, Any] = {"where": where, "machine": _machine(), "quick": quick}
    found["rows"] = [row.to_map() for row in rows]
    with open(path, "w") as file:
        json.dump(found, file, indent=2)
        file.write("\n")


if __name__ == "__main__":
    leave_with(main)
