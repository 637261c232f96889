"""``python -m tests.bench``: measure the product beside bare system calls and other queues, print a table with ratios.

A kind of row is a module with ``measure(setting) -> list[Row]``; ``--only`` names kinds.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tests.bench import document, place, report
from tests.bench.report import Row
from tests.bench.setting import FULL, QUICK, Setting, Sizes
from tests.command import leave_with

KINDS = {
    "rounds": "submit, claim and finish",
    "crowd": "four workers",
    "durable": "durable work",
    "roundtrip": "round trips",
    "waiting": "many waiting jobs",
    "programs": "a program for each job",
    "startup": "starts of helper commands",
    "finished": "many jobs that have ended",
    "memory": "memory",
    "idle": "idle workers",
    "upsert": "upserts",
    "calls": "system calls",
    "nfs": "NFS between hosts",
}
"""Modules of this package, in the order they are run. What needs more than this host is a module, too: ``measure`` may skip."""
MILLION = 1_000_000
MILLION_IMAGE_BYTES = 128 << 30


def measured(setting: Setting, kinds: Sequence[str]) -> tuple[list[Row], list[str]]:
    """The rows of some kinds, measured one after the other, and the kinds that failed."""
    rows: list[Row] = []
    failed = []
    for kind in kinds:
        began = time.monotonic()
        try:
            rows += importlib.import_module(f"tests.bench.{kind}").measure(setting)
        except Exception as error:
            traceback.print_exc()
            rows.append(Row(KINDS[kind], "", skipped=f"it failed: {type(error).__name__}: {error}"))
            failed.append(kind)
        print(f"{KINDS[kind]}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return rows, failed


def told(rows: list[Row], where: str) -> str:
    """The report as text."""
    notes = [
        f"Measured {where}; {machine()}.",
        "Ratio: the median of the ratios of single rounds, product by the other; half of them lie in 'middle half'. Compare within one run only.",
    ]
    for row in rows:
        if differs := row.detail.get("differs"):
            notes.append(
                f"{row.name}: product and bare do NOT leave the same tree, so their ratio misleads: {', '.join(differs)}"
            )
    return "\n".join([*notes, "", report.table(rows), *_calls_told(rows)])


def machine() -> str:
    """What it was measured with."""
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
    """Run the benchmark; 0 whatever the ratios are, 1 when a kind of row could not be measured at all."""
    options = _options(arguments)
    with place.fresh(options.dir, not options.no_mount, _image_bytes(options)) as (directory, where):
        setting = Setting(directory, _sizes(options))
        try:
            rows, failed = measured(setting, options.only or list(KINDS))
        finally:
            setting.close()
    print(told(rows, where))
    found = _found(rows, where, options.quick)
    if options.json:
        _write(options.json, found)
    if options.docs:
        _write(f"{options.docs}/bench.json", found)
        document.write(options.docs, rows, f"{where}; {machine()}")
    return 1 if failed else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description="Measure beside others that do the same."
    )
    parser.add_argument("--only", metavar="KIND,..", type=_kinds, help=f"some kinds of rows: {', '.join(KINDS)}")
    parser.add_argument("--quick", action="store_true", help="small numbers: a check that it runs, not a measurement")
    parser.add_argument(
        "--million", action="store_true", help="a million waiting and ended jobs, not 100,000; needs 80 GB"
    )
    parser.add_argument("--json", metavar="FILE", help="write the numbers there, too")
    parser.add_argument(
        "--docs", metavar="DIR", help="write bench.json, performance.png and performance.md's table there"
    )
    parser.add_argument("--dir", metavar="DIR", help="measure in DIR, for example on a shared file system")
    parser.add_argument("--no-mount", action="store_true", help="even as root, measure among the temporary files")
    return parser.parse_args(arguments)


def _kinds(text: str) -> list[str]:
    kinds = text.split(",")
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise argparse.ArgumentTypeError(f"no such kind: {', '.join(unknown)}")
    return kinds


def _sizes(options: argparse.Namespace) -> Sizes:
    sizes = QUICK if options.quick else FULL
    return replace(sizes, deep=MILLION) if options.million else sizes


def _image_bytes(options: argparse.Namespace) -> int:
    return MILLION_IMAGE_BYTES if options.million else place.IMAGE_BYTES


def _found(rows: list[Row], where: str, quick: bool) -> dict[str, Any]:
    when = time.strftime("%Y-%m-%d", time.gmtime())
    found: dict[str, Any] = {"when": when, "where": where, "machine": machine(), "quick": quick}
    return found | {"rows": [row.to_map() for row in rows]}


def _write(path: str, found: dict[str, Any]) -> None:
    with open(path, "w") as file:
        json.dump(found, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    leave_with(main)
