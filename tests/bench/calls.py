"""System calls for each job, counted by strace where that is installed and may trace.

``python -m tests.bench.calls DIR SAMPLE JOBS`` is what is traced: it does the work and marks, by asking for names
that do not exist, what it is about to do.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable

from breyta_spool import Spool
from tests.bench import bare, product
from tests.bench.bare import Bare
from tests.bench.report import BARE, PRODUCT, Goal, Row
from tests.bench.setting import Setting

_MARK = "/no-such-place/"
_CALL = re.compile(r"\d+ +([a-z0-9_]+)\((.*)")
SUBMIT, WORK = "submit", "claim and finish"


def measure(setting: Setting) -> list[Row]:
    """A row each for submit and for claim and finish; without numbers when nothing can be traced."""
    jobs = setting.sizes.traced_jobs
    names = {what: f"system calls of {what}" for what in (SUBMIT, WORK)}
    assert setting.sample
    try:
        counted = _per_job(_traced(setting.place, setting.sampled, jobs), jobs)
    except (OSError, subprocess.SubprocessError, RuntimeError) as error:
        why = str(getattr(error, "stderr", "") or error).strip().splitlines()
        return [Row(name, "a job", skipped=why[-1] if why else repr(error)) for name in names.values()]
    return [_row(name, counted["product", what], counted["bare", what]) for what, name in names.items()]


def _row(name: str, ours: dict[str, float], by_hand: dict[str, float]) -> Row:
    sides = {PRODUCT: [sum(ours.values())], BARE: [sum(by_hand.values())]}
    return Row(name, "a job", sides, [Goal(BARE)], detail={"productCalls": ours, "bareCalls": by_hand})


def _traced(place: str, sampled: str, jobs: int) -> list[str]:
    """What strace wrote about the work."""
    strace = shutil.which("strace")
    if strace is None:
        raise RuntimeError("strace is not installed")
    log = f"{place}/strace.log"
    work = [sys.executable, "-m", "tests.bench.calls", place, sampled, str(jobs)]
    subprocess.run([strace, "-f", "-qq", "-o", log, *work], check=True, capture_output=True, text=True, timeout=120)
    with open(log, errors="replace") as file:
        return file.readlines()


def _per_job(lines: Iterable[str], jobs: int) -> dict[tuple[str, str], dict[str, float]]:
    """The calls between the first and the last mark of each kind of work, for one job, the most frequent first."""
    counts: dict[str, Counter[str]] = {}
    pending: Counter[str] = Counter()
    now = ""
    for line in lines:
        match = _CALL.match(line)
        if match is None:
            continue
        if (at := match[2].find(_MARK)) < 0:
            pending[match[1]] += 1
            continue
        mark = match[2][at + len(_MARK) :].partition('"')[0]
        counts.setdefault(mark, Counter())
        if mark == now:
            counts[mark] += pending
        now, pending = mark, Counter()
    found = {}
    for mark, calls in counts.items():
        side, _, what = mark.partition("/")
        cycles = jobs if what == SUBMIT else jobs - 1
        found[side, what] = {name: round(count / cycles, 2) for name, count in calls.most_common()}
    return found


def _work(place: str, sampled: str, jobs: int) -> None:
    spool = Spool.init(f"{place}/calls-product", durability="none")
    by_hand = Bare(f"{place}/calls-bare___", product.read_sample(sampled))
    product.submit(spool, jobs, _marker(f"product/{SUBMIT}"))
    bare.submit(by_hand, jobs, _marker(f"bare/{SUBMIT}"))
    product.drain(spool, jobs, _marker(f"product/{WORK}"))
    bare.drain(by_hand, jobs, _marker(f"bare/{WORK}"))


def _marker(mark: str) -> Callable[[], float]:
    """A clock that leaves a mark in the trace instead of telling the time."""

    def clock() -> float:
        os.access(_MARK + mark, os.F_OK)
        return 0.0

    return clock


if __name__ == "__main__":
    _work(sys.argv[1], sys.argv[2], int(sys.argv[3]))
