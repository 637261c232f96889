"""Durable work: one job at a time, from many threads and processes, by eight slots, and as one batch."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from time import perf_counter

from breyta_spool import Spool
from breyta_spool.handler import ActiveJob, PythonHandler
from breyta_spool.worker import Settings, Worker
from tests.bench import bare, crew, peers, product
from tests.bench.bare import JOB_TYPE, Bare
from tests.bench.peers import SQLITE, Peer
from tests.bench.report import BARE, PRODUCT, Goal, Row
from tests.bench.rounds import compared
from tests.bench.servers import Servers
from tests.bench.setting import Setting
from tests.bench.turns import Turns, by_threads

THREADS, SLOTS = 8, 8
ONE_THREAD, SINGLY = "one thread of it", "one by one"
REDIS = "redis, AOF always"


def measure(setting: Setting) -> list[Row]:
    """Every row about work that is on the disk before it is acknowledged."""
    return [_one_at_a_time(setting), _threads(setting), _processes(setting), _drain(setting), _batch(setting)]


def _one_at_a_time(setting: Setting) -> Row:
    jobs = setting.sizes.durable_jobs
    turns = Turns(setting.place, (REDIS, *SQLITE))
    spool = Spool.init(f"{setting.place}/durable-product", durability="durable")
    by_hand = Bare(f"{setting.place}/durable-bare___", setting.sample)
    others, missing = peers.opened((REDIS, *SQLITE), f"{setting.place}/durable", setting.servers)
    for name, error in missing.items():
        turns.drop(name, error)
    for _ in range(setting.sizes.rounds * setting.sizes.slices):
        turns.go(
            {
                PRODUCT: lambda: jobs / product.submit(spool, jobs),
                BARE: lambda: jobs / bare.submit_durably(by_hand, jobs),
                **{name: partial(peer.submit_many, jobs) for name, peer in others.items()},
            }
        )
    for peer in others.values():
        peer.close()
    goals = [Goal(BARE, least=0.9), Goal(REDIS, least=1), *(Goal(name, least=0.5) for name in SQLITE)]
    left = compared(product.shape(spool.root), product.shape(by_hand.root))
    return Row("durable submit, one at a time", "jobs/s", turns.numbers, goals, detail=left, missing=turns.missing)


def _threads(setting: Setting) -> Row:
    jobs = setting.sizes.many_jobs
    turns = Turns(setting.place, SQLITE)
    spool = Spool.init(f"{setting.place}/threads-product", durability="durable")
    for number in range(setting.sizes.rounds):
        turns.go(
            {
                PRODUCT: lambda: jobs / by_threads(THREADS, lambda _: _submit(spool, jobs // THREADS)),
                ONE_THREAD: lambda: (jobs // 4) / product.submit(spool, jobs // 4),
                **_each(SQLITE, lambda name, at=f"{setting.place}/threads-{number}": _peer_threads(name, at, jobs)),
            }
        )
    goals = [Goal(ONE_THREAD, least=4), *(Goal(name, least=2) for name in SQLITE)]
    return Row(f"durable submit, {THREADS} threads", "jobs/s", turns.numbers, goals, missing=turns.missing)


def _each(names: tuple[str, ...], work: Callable[[str], float]) -> dict[str, Callable[[], float]]:
    return {name: partial(work, name) for name in names}


def _submit(spool: Spool, jobs: int) -> None:
    for _ in range(jobs):
        spool.submit(JOB_TYPE, product.PAYLOAD)


def _shared(name: str, place: str, count: int) -> tuple[list[Peer], Callable[[], None]]:
    """A peer for each of ``count`` threads: one for all where it allows that, else one each on the same files."""
    first = _open(name, place)
    own = [first] if first.threads else [first, *(_open(name, place) for _ in range(count - 1))]

    def close() -> None:
        for peer in own:
            peer.close()

    return own * (count // len(own)), close


def _open(name: str, place: str) -> Peer:
    return peers.PEERS[name](f"{place}-{name.replace(' ', '-')}", Servers(place))  # none of these asks for a server


def _peer_threads(name: str, place: str, jobs: int) -> float:
    each, close = _shared(name, place, THREADS)
    spent = by_threads(THREADS, lambda number: each[number].submit_many(jobs // THREADS))
    close()
    return jobs / spent


def _processes(setting: Setting) -> Row:
    count = setting.sizes.processes
    jobs = setting.sizes.many_jobs // count
    turns = Turns(setting.place, SQLITE)
    spool = Spool.init(f"{setting.place}/processes-product", durability="durable")
    for number in range(setting.sizes.rounds):
        at = f"{setting.place}/processes-{number}"
        sides = {PRODUCT: lambda: _by_processes(count, "", spool.root, jobs)}
        turns.go({**sides, **_each(SQLITE, lambda name, at=at: _by_processes(count, name, at, jobs))})
    goals = [Goal(name, least=2) for name in SQLITE]
    return Row(f"durable submit, {count} processes", "jobs/s", turns.numbers, goals, missing=turns.missing)


def _by_processes(count: int, peer: str, place: str, jobs: int) -> float:
    if peer:
        _open(peer, place).close()  # its tables are there when they begin
    spans = crew.run(count, "tests.bench.durable:submit_here", peer, place, jobs)
    return jobs * count / (max(ended for _, ended in spans) - min(began for began, _ in spans))


def submit_here(peer: str, place: str, jobs: int) -> Callable[[], tuple[float, float]]:
    """Submit jobs in this process, to a spool or a peer; gives when it began and ended."""
    if peer:
        work = _open(peer, place).submit_many
    else:
        work = partial(product.submit, Spool.open(place))
    work(1)  # what is done once

    def begin() -> tuple[float, float]:
        began = perf_counter()
        work(jobs)
        return began, perf_counter()

    return begin


def _drain(setting: Setting) -> Row:
    jobs = setting.sizes.many_jobs
    turns = Turns(setting.place, SQLITE)
    for number in range(setting.sizes.rounds):
        at = f"{setting.place}/slots-{number}"
        sides = {PRODUCT: lambda at=at: _drain_here(f"{at}-product", jobs)}
        turns.go({**sides, **_each(SQLITE, lambda name, at=at: _drain_peer(name, at, jobs))})
    goals = [Goal(name, least=2) for name in SQLITE]
    return Row(f"durable drain, {SLOTS} at once", "jobs/s", turns.numbers, goals, missing=turns.missing)


def _drain_here(root: str, jobs: int) -> float:
    """By a worker with eight slots: from the first job in hand until all are finished and the worker has ended."""
    spool = Spool.init(root, durability="durable")
    by_threads(THREADS, lambda _: _submit(spool, jobs // THREADS))
    marks: list[float] = []
    guard = threading.Lock()

    def handle(job: ActiveJob) -> None:
        with guard:
            marks.append(perf_counter())
            if len(marks) == jobs:
                worker.stop()

    worker = Worker(spool, PythonHandler(handle, "bench", root), Settings(JOB_TYPE, concurrency=SLOTS))
    patience = threading.Timer(product.PATIENCE_SECONDS, worker.stop)
    patience.start()
    worker.run()
    patience.cancel()
    ended = perf_counter()
    if len(marks) != jobs or worker.tally.handled != jobs:
        raise RuntimeError(f"{worker.tally.handled} jobs were drained, not {jobs}")
    return jobs / (ended - marks[0])


def _drain_peer(name: str, place: str, jobs: int) -> float:
    each, close = _shared(name, place, SLOTS)
    for _ in range(jobs):
        each[0].submit()
    done = [0] * SLOTS

    def drain(number: int) -> None:
        while each[number].work():
            done[number] += 1

    spent = by_threads(SLOTS, drain)
    close()
    if sum(done) != jobs:
        raise RuntimeError(f"{sum(done)} jobs were drained, not {jobs}")
    return jobs / spent


def _batch(setting: Setting) -> Row:
    jobs = setting.sizes.batch_jobs
    turns = Turns(setting.place)
    spool = Spool.init(f"{setting.place}/batch", durability="durable")
    for _ in range(setting.sizes.rounds):
        turns.go(
            {PRODUCT: lambda: jobs / _submit_batch(spool, jobs), SINGLY: lambda: jobs / product.submit(spool, jobs)}
        )
    return Row(f"durable batch of {jobs:,}", "jobs/s", turns.numbers, [Goal(SINGLY, least=8)])


def _submit_batch(spool: Spool, jobs: int) -> float:
    began = perf_counter()
    spool.submit_batch(JOB_TYPE, ({"payload": product.PAYLOAD} for _ in range(jobs)), limit=10)
    return perf_counter() - began
