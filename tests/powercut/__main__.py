"""``python -m tests.powercut --cuts N``: cut the power of a spool at work N times, and look what is left. Needs root."""

from __future__ import annotations

import argparse
import random
from collections import Counter
from collections.abc import Sequence

from tests.command import leave_with
from tests.powercut.disk import leave_the_others, why_not
from tests.powercut.scene import Seen, Variant, cut_once, variants


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; 0 when nothing was wrong, 77 when there can be no power cuts here."""
    options = _parser().parse_args(arguments)
    if missing := why_not():
        print(f"skipped: {missing}")
        return 77
    leave_the_others()
    random.seed(options.seed)
    total: Counter[str] = Counter()
    wrong = 0
    chosen = variants(options.durability)
    for number in range(options.cuts):
        variant = chosen[(number + options.first) % len(chosen)]
        seen = cut_once(variant, options.seconds or random.uniform(0.5, 2.0))
        _add(total, seen.counts)
        wrong += len(seen.wrong)
        _print(number, variant, seen)
    for what, count in sorted(total.items()):
        print(f"{count:8} {what}")
    print(f"verdict: {f'{wrong} wrongs' if wrong else 'nothing wrong'} in {options.cuts} cuts")
    return 1 if wrong else 0


def _add(total: Counter[str], counts: Counter[str]) -> None:
    for what, count in counts.items():
        total[what] = max(total[what], count) if what.startswith("age") else total[what] + count


def _print(number: int, variant: Variant, seen: Seen) -> None:
    notable = [f"{count} {what}" for what, count in seen.counts.items() if count and "torn" in what]
    print(f"cut {number + 1}, {variant}: {', '.join(notable) or 'nothing torn'}", flush=True)
    for wrong in seen.wrong[:20]:
        print(f"WRONG: {wrong}", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.powercut", description=__doc__)
    parser.add_argument("--cuts", type=int, default=4)
    parser.add_argument("--durability", choices=("durable", "none"), default="durable")
    parser.add_argument("--seconds", type=float, help="how long before each cut (default: 0.5 to 2)")
    parser.add_argument("--seed", type=int, help="what these seconds are chosen by")
    parser.add_argument("--first", type=int, default=0, help="the number of the variant to begin with")
    return parser


if __name__ == "__main__":
    leave_with(main)
