"""Several workers, each a process, take from one queue: the product's, and as many that make the bare calls."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from itertools import islice
from random import randrange
from time import perf_counter
from typing import Any

from breyta_spool import Spool
from breyta_spool.handler import ActiveJob
from tests.bench import bare, crew, product
from tests.bench.bare import Bare
from tests.bench.report import BARE, PRODUCT, Goal, Row
from tests.bench.setting import Setting
from tests.bench.turns import Turns

WINDOW = 4096
"""How many names of the queue a bare worker reads at once, as the product does."""


def measure(setting: Setting) -> list[Row]:
    """Their rates, and what the product lost or did twice."""
    jobs, workers = setting.sizes.crowd_jobs, setting.sizes.processes
    turns = Turns(setting.place)
    lost: list[float] = []
    double: list[float] = []
    for number in range(setting.sizes.rounds):
        spool = Spool.init(f"{setting.place}/crowd-{number}-product", durability="none")
        by_hand = Bare(f"{setting.place}/crowd-{number}-bare___", setting.sample)
        submitted = {spool.submit(bare.JOB_TYPE, product.PAYLOAD).job_id for _ in range(jobs)}
        bare.submit(by_hand, jobs)

        def ours(spool: Spool = spool, submitted: set[str] = submitted) -> float:
            rate, done = _drained(workers, "product_worker", spool.root)
            lost.append(len(submitted - done.keys()))
            double.append(sum(done.values()) - len(done))
            return rate

        turns.go(
            {PRODUCT: ours, BARE: lambda at=by_hand.root: _drained(workers, "bare_worker", at, setting.sampled)[0]}
        )
    return [
        Row(f"{workers} workers", "jobs/s", turns.numbers, [Goal(BARE, least=0.9)]),
        Row(f"{workers} workers: jobs lost", "jobs", {PRODUCT: lost}, [Goal("", most=0)], summary=sum),
        Row(f"{workers} workers: jobs done twice", "jobs", {PRODUCT: double}, [Goal("", most=0)], summary=sum),
    ]


def _drained(count: int, worker: str, *arguments: Any) -> tuple[float, Counter[str]]:
    """Jobs a second from the first in any hand to the last, and how often each was done."""
    told = crew.run(count, f"tests.bench.crowd:{worker}", *arguments)
    marks = [mark for marks, _ in told for mark in marks]
    done = Counter(job_id for _, ids in told for job_id in ids)
    return (len(done) - 1) / (max(marks) - min(marks)), done


def product_worker(root: str) -> Callable[[], Any]:
    """A worker that ends when it finds nothing: its first and last time, and the ids of the jobs it had."""
    spool = Spool.open(root)
    ids: list[str] = []
    marks: list[float] = []

    def handle(job: ActiveJob) -> None:
        marks.append(perf_counter())
        ids.append(job.job_id)

    def begin() -> Any:
        worker = product.worker(spool, handle)

        def stop_when_idle() -> None:
            while not worker.tally.idle_polls:
                time.sleep(0.01)
            worker.stop()

        threading.Thread(target=stop_when_idle, daemon=True).start()
        worker.run()
        return _span(marks), ids

    return begin


def bare_worker(root: str, sampled: str) -> Callable[[], Any]:
    """The same by bare calls: what another took is passed over, and then it goes on at a random place of its window."""
    spool = Bare(root, product.read_sample(sampled))
    ids: list[str] = []
    marks: list[float] = []

    def take(window: deque[str]) -> None:
        while window:
            job_id = window.popleft()
            try:
                leased = spool.claim(job_id)
            except FileNotFoundError:
                if window:
                    window.rotate(-randrange(len(window)))
                continue
            marks.append(perf_counter())
            ids.append(job_id)
            spool.finish(job_id, leased)

    def begin() -> Any:
        while True:
            with os.scandir(spool.queue) as entries:
                window = deque(sorted(entry.name for entry in islice(entries, WINDOW)))
            if not window:
                return _span(marks), ids
            take(window)

    return begin


def _span(marks: list[float]) -> list[float]:
    return [marks[0], marks[-1]] if marks else []
