"""What a worker costs that has nothing to do: processor time and system calls, told for an hour."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from glob import glob

from breyta_spool import Spool
from tests.bench.bare import JOB_TYPE
from tests.bench.report import PRODUCT, Goal, Row
from tests.bench.setting import Setting
from tests.bench.startup import breyta, warm_environment

CPU_SECONDS = 3.6
"""A thousandth of one processor: less is not measurable beside all else that runs."""
CALLS = 36_000
"""Ten a second, which is no storm."""
_TOTAL = re.compile(r"^ *100\.00 +\S+ +(?:\S+ +)?(\d+) +(?:\d+ +)?total$", re.MULTILINE)


def measure(setting: Setting) -> list[Row]:
    """Two workers on empty spools at the same time, for some seconds: of one the time is taken, the other is traced."""
    seconds = setting.sizes.idle_seconds
    with _worker(f"{setting.place}/idle-watched") as watched, _worker(f"{setting.place}/idle-traced_") as traced:
        time.sleep(min(2.0, seconds))  # until they have done what is done once
        before, began = _cpu(watched), time.monotonic()
        calls, why = _traced(traced, f"{setting.place}/idle.strace", seconds)
        time.sleep(max(0.0, began + seconds - time.monotonic()))
        hours = (time.monotonic() - began) / 3600
        cpu = (_cpu(watched) - before) / hours
    detail = {"seconds": seconds}
    time_row = Row(
        "idle worker, processor time", "s/hour", {PRODUCT: [cpu]}, [Goal("", most=CPU_SECONDS)], detail=detail
    )
    calls_row = Row("idle worker, system calls", "calls/hour", goals=[Goal("", most=CALLS)], skipped=why, detail=detail)
    if not why:
        calls_row.sides[PRODUCT] = [calls / seconds * 3600]
    return [time_row, calls_row]


@contextmanager
def _worker(root: str) -> Iterator[int]:
    Spool.init(root, durability="none")
    words = [*breyta(), "jobs", "worker", "run", "--type", JOB_TYPE, "--handler", shutil.which("true") or "true"]
    environment = warm_environment() | {"BREYTA_SPOOL": root}
    with subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            until = time.monotonic() + 30
            while not glob(f"{root}/workers/*"):
                if process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError("the worker did not start")
                time.sleep(0.02)
            yield process.pid
        finally:
            process.terminate()
            process.wait(30)


def _cpu(pid: int) -> float:
    """The processor time of all threads of a process so far, in seconds."""
    total = 0
    for path in glob(f"/proc/{pid}/task/*/schedstat"):
        with open(path) as file:
            total += int(file.read().split()[0])
    return total / 1e9


def _traced(pid: int, log: str, seconds: float) -> tuple[int, str]:
    """How many system calls a process made in some seconds; or why that cannot be counted."""
    strace = shutil.which("strace")
    if strace is None:
        return 0, "strace is not installed"
    words = [strace, "-f", "-c", "-p", str(pid), "-o", log]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    if not os.path.exists(log):
        return 0, "strace wrote nothing"
    with open(log) as file:
        text = file.read()
    if total := _TOTAL.search(text):
        return int(total[1]), ""
    return 0, "" if not text.strip() and "attached" in said else said.strip() or "strace counted nothing"
