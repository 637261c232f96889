"""The round trip: from just before submit until the awaiter holds the result, with an idle worker in another process.

``python -m tests.bench.roundtrip product|bare DIR [SAMPLE]`` is that worker; it ends when its standard input does.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from glob import glob

from breyta_spool import Spool
from tests.bench import product
from tests.bench.bare import JOB_TYPE, Bare, Sample, read
from tests.bench.linux import IN_MOVED_TO, IN_OPEN, Inotify, settle
from tests.bench.peers import Rq
from tests.bench.report import BARE, PRODUCT, Goal, Row, p99
from tests.bench.setting import Setting

WARM_UP = 10
IDLE_SECONDS = 0.005
"""How long the worker has between two rounds to fall asleep again."""
LONGEST_SECONDS = 30.0


def measure(setting: Setting) -> list[Row]:
    """Rounds of the product, bare and rq in turn, their workers asleep meanwhile."""
    place = setting.place
    spool = Spool.init(f"{place}/trip-product", durability="none")
    by_hand = Bare(f"{place}/trip-bare___", setting.sample)
    turns: dict[str, list[float]] = {}
    with ExitStack() as stack:
        stack.enter_context(_worker("product", spool.root))
        stack.enter_context(_worker("bare", by_hand.root, setting.sampled))
        events = stack.enter_context(_awaiter())
        sides = {PRODUCT: lambda: _product_trip(spool), BARE: lambda: _bare_trip(by_hand, events)}
        others, missing = _peer(setting, stack)
        settle(place)
        for number in range(setting.sizes.trips + WARM_UP):
            for name, trip in {**sides, **others}.items():
                time.sleep(IDLE_SECONDS)
                spent = trip() * 1000
                if number >= WARM_UP:
                    turns.setdefault(name, []).append(spent)
    goals = [Goal(BARE, most=1.2), Goal("rq", most=0.5)]
    return [
        Row("round trip, median", "ms", turns, goals, missing=missing),
        Row("round trip, 99th percentile", "ms", turns, goals, summary=p99, missing=missing),
    ]


def _peer(setting: Setting, stack: ExitStack) -> tuple[dict[str, Callable[[], float]], dict[str, str]]:
    try:
        rq = Rq(f"{setting.place}/trip-rq", setting.servers)
        stack.enter_context(rq.serving(setting.servers))
    except Exception as error:
        return {}, {"rq": str(error)}
    return {"rq": rq.trip}, {}


def _product_trip(spool: Spool) -> float:
    began = time.perf_counter()
    job = spool.submit(JOB_TYPE, product.PAYLOAD)
    job = spool.await_job(job.job_id, timeout="30s")
    spent = time.perf_counter() - began
    if job.status != "succeeded":
        raise RuntimeError(f"{job.job_id} is {job.status}")
    return spent


def _bare_trip(spool: Bare, events: Inotify) -> float:
    job_id = spool.new_id()
    began = time.perf_counter()
    spool.submit(job_id)
    job_dir = spool.job_dir(job_id)
    watch = events.add(job_dir, IN_MOVED_TO)
    ended = "status.succeeded.1" in os.listdir(job_dir)
    while not ended:
        ended = (watch, "status.succeeded.1") in events.read(LONGEST_SECONDS)
    read(f"{job_dir}/result.1.json")
    events.remove(watch)
    return time.perf_counter() - began


@contextmanager
def _awaiter() -> Iterator[Inotify]:
    events = Inotify()
    try:
        yield events
    finally:
        events.close()


@contextmanager
def _worker(side: str, *arguments: str) -> Iterator[None]:
    command = [sys.executable, "-m", "tests.bench.roundtrip", side, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            if process.stdout.readline() != b"ready\n":
                raise RuntimeError(f"the {side} worker did not start")
            yield
        finally:
            process.stdin.close()


def work_for_product(root: str) -> None:
    """Handle jobs until standard input ends."""
    worker = product.worker(Spool.open(root), lambda job: None)

    def stop_at_the_end() -> None:
        sys.stdin.read()
        worker.stop()

    def say_when_ready() -> None:
        while not glob(f"{root}/workers/*"):
            time.sleep(0.01)
        print("ready", flush=True)

    for target in (stop_at_the_end, say_when_ready):
        threading.Thread(target=target, daemon=True).start()
    worker.run()


def work_by_hand(root: str, sample: Sample) -> None:
    """Handle jobs until standard input ends: wait for the bell, read the queue, claim and finish what is there."""
    spool = Bare(root, sample)
    events = Inotify()
    events.add(spool.bell, IN_OPEN)
    print("ready", flush=True)
    while True:
        readable, _, _ = select.select([events.fd, sys.stdin], [], [])
        if sys.stdin in readable:
            return
        list(events.read(0))
        for job_id in sorted(os.listdir(spool.queue)):
            spool.finish(job_id, spool.claim(job_id))


if __name__ == "__main__":
    side, root, *sample = sys.argv[1:]
    if side == "product":
        work_for_product(root)
    else:
        work_by_hand(root, product.read_sample(*sample))
