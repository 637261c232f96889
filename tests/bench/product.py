"""The same work by the product: ``Spool.submit``, and a worker with a handler that does nothing."""

from __future__ import annotations

import os
import re
import threading
from collections import Counter
from collections.abc import Callable
from glob import glob
from time import perf_counter
from typing import Any

from breyta_spool import Spool
from breyta_spool.handler import ActiveJob, PythonHandler
from breyta_spool.worker import Settings, Worker
from tests.bench.bare import JOB_TYPE, Sample, read

PAYLOAD = {"surface": "flows-api", "text": "y" * 260}
PATIENCE_SECONDS = 120.0
"""When a worker that has not seen all its jobs is stopped, so that a fault ends the run instead of hanging it."""


def submit(spool: Spool, jobs: int, clock: Callable[[], float] = perf_counter) -> float:
    """Submit jobs one after the other; gives the seconds it took."""
    began = clock()
    for _ in range(jobs):
        spool.submit(JOB_TYPE, PAYLOAD)
    return clock() - began


def drain(spool: Spool, jobs: int, clock: Callable[[], float] = perf_counter) -> float:
    """Claim and finish jobs; gives the seconds from the first job in hand to the last: ``jobs - 1`` cycles."""
    first = last = 0.0
    count = 0

    def handle(job: ActiveJob) -> None:
        nonlocal first, last, count
        last = clock()
        first = first if count else last
        count += 1
        if count == jobs:
            working.stop()

    working = worker(spool, handle)
    patience = threading.Timer(PATIENCE_SECONDS + jobs / 100, working.stop)
    patience.start()
    try:
        working.run()
    finally:
        patience.cancel()
    if count != jobs:
        raise RuntimeError(f"{count} jobs were drained, not {jobs}")
    return last - first


def worker(spool: Spool, function: Callable[[ActiveJob], Any], *, once: bool = False) -> Worker:
    """A worker with one slot and a handler in its own process."""
    return Worker(spool, PythonHandler(function, "bench", spool.root), Settings(JOB_TYPE, once=once))


def make_sample(directory: str) -> Sample:
    """The bytes of a job's files, from a job that is submitted and finished in a new spool."""
    spool = Spool.init(directory, durability="none")
    submit(spool, 1)
    drain(spool, 1)
    return read_sample(directory)


def read_sample(directory: str) -> Sample:
    """The bytes of the files of the one job in a spool."""
    (job,) = glob(f"{directory}/jobs/*/*/job-*")
    names = ("job.json", "payload.json", "result.1.json")
    return Sample(*[read(f"{job}/{name}") for name in names])


_VARIES = (
    (r"job-[0-9A-Z]{26}", "JOB"),
    (r"/[0-9]{8}[-/][0-9]{4}/", "/MINUTE/"),
    (r"leased\.1\.[0-9a-z]+", "leased.1.TOKEN"),
)


def shape(root: str) -> Counter[str]:
    """What a tree holds of each job and how often, without what differs from job to job."""
    found: Counter[str] = Counter()
    for at, directories, files in os.walk(root):
        for name in directories + files:
            place = f"{at}/{name}".removeprefix(root)
            for pattern, word in _VARIES:
                place = re.sub(pattern, word, place)
            if "JOB" in place:
                found[place + (" ->" if os.path.islink(f"{at}/{name}") else "")] += 1
    return found
