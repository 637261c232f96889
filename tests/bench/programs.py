"""A program for each job, two at once, beside threads that do nothing but start it."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from time import perf_counter

from breyta_spool import Spool
from breyta_spool.handler import ProcessHandler, Run
from breyta_spool.results import Outcome
from breyta_spool.worker import Settings, Worker
from tests.bench import product
from tests.bench.bare import JOB_TYPE
from tests.bench.report import PRODUCT, Goal, Row
from tests.bench.setting import Setting
from tests.bench.turns import Turns, by_threads

SLOTS = 2
POPEN = "subprocess.Popen"


def measure(setting: Setting) -> list[Row]:
    """``true`` for every job, in slices."""
    jobs = setting.sizes.program_jobs
    program = shutil.which("true")
    if program is None:
        return [Row("a program for each job", "jobs/s", skipped="there is no program 'true'")]
    turns = Turns(setting.place)
    spool = Spool.init(f"{setting.place}/programs", durability="none")
    for _ in range(setting.sizes.rounds * setting.sizes.slices):
        product.submit(spool, jobs)
        turns.go({PRODUCT: lambda: _drain(spool, program, jobs), POPEN: lambda: _start(program, jobs)})
    name = f"a program for each job, {SLOTS} at once"
    return [Row(name, "jobs/s", turns.numbers, [Goal(POPEN, least=0.85)])]


class _Until(ProcessHandler):
    """Stops its worker with the last job."""

    worker: Worker
    left: int
    began = 0.0
    guard = threading.Lock()

    def __call__(self, run: Run) -> Outcome:
        with self.guard:
            self.began = self.began or perf_counter()
            self.left -= 1
            if self.left == 0:
                self.worker.stop()
        return super().__call__(run)


def _drain(spool: Spool, program: str, jobs: int) -> float:
    """Jobs a second, from the first in hand until all have ended and the worker too."""
    handler = _Until([program], os.environ, spool.root, False)
    handler.worker = Worker(spool, handler, Settings(JOB_TYPE, concurrency=SLOTS))
    handler.left = jobs
    tally = handler.worker.run()
    spent = perf_counter() - handler.began
    if (tally.handled, tally.failed) != (jobs, 0):
        raise RuntimeError(f"{tally.handled} jobs were handled, {tally.failed} failed, not {jobs} and none")
    return jobs / spent


def _start(program: str, jobs: int) -> float:
    def start(_: int) -> None:
        for _ in range(jobs // SLOTS):
            subprocess.Popen([program]).wait()

    return jobs // SLOTS * SLOTS / by_threads(SLOTS, start)
