"""``python -m tests.torture --minutes N``: real processes on one spool, killed and stopped at random, then a verdict."""

from __future__ import annotations

import argparse
import os
import random
import shutil
import tempfile
import time
from collections.abc import Sequence

from tests.command import leave_with
from tests.torture.run import Plan, Report, run, say

SHOWN = 20
"""How many wrongs are printed."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; 0 when everybody was told the truth."""
    options = _parser().parse_args(arguments)
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    seconds = options.seconds if options.seconds is not None else options.minutes * 60
    place = tempfile.mkdtemp(prefix="breyta-torture-")
    spool = os.path.abspath(options.spool) if options.spool else f"{place}/spool"
    os.mkdir(f"{place}/ledgers")
    mounts = [os.path.abspath(mount) for mount in options.mount]
    plan = Plan([spool, *mounts], f"{place}/ledgers", seconds, seed, options.durability, not options.no_locks)
    began = time.monotonic()
    try:
        report = run(plan)
    except Exception as error:
        report = Report(wrong=[f"the run itself failed: {error!r}"])
    say("")
    _print(plan, report, time.monotonic() - began)
    if report.wrong:
        print(f"kept: the spool {spool}, the ledgers {place}/ledgers")
        return 1
    for path in (place, *([spool] if options.spool else [])):
        shutil.rmtree(path)
    return 0


def _print(plan: Plan, report: Report, seconds: float) -> None:
    locks = "with locks" if plan.locks else "without locks"
    print(f"seed {plan.seed}, {plan.seconds:g} s of chaos, {plan.durability}, {locks}; {seconds:.0f} s in all")
    for what, count in report.did.items():
        print(f"{count:8} {what}")
    for wrong in report.wrong[:SHOWN]:
        print(f"WRONG: {wrong}")
    print(f"verdict: {f'{len(report.wrong)} wrongs' if report.wrong else 'everybody was told the truth'}", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="how long the chaos lasts (default: 1)")
    parser.add_argument("--seconds", type=float, help="the same in seconds")
    parser.add_argument(
        "--seed", type=int, help="what the kills and stops are chosen by; the processes race all the same"
    )
    parser.add_argument("--spool", metavar="DIR", help="make the spool there, for instance on a shared file system")
    parser.add_argument(
        "--mount", metavar="DIR", action="append", default=[], help="another path of that spool; repeatable"
    )
    parser.add_argument("--durability", choices=("durable", "none"), default="durable")
    parser.add_argument("--no-locks", action="store_true", help="let claimers race for every job")
    return parser


if __name__ == "__main__":
    leave_with(main)
