"""Submit, drain and durable submit: a slice of jobs by the product, one bare, and so on in turn."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from breyta_spool import Spool
from tests.bench import bare, product
from tests.bench.bare import Bare, Sample
from tests.bench.linux import settle
from tests.bench.report import Pairs, Row


def throughput(place: str, sample: Sample, rounds: int, slices: int, jobs: int) -> list[Row]:
    """Submit and drain without durability; every round has a directory of its own and ``slices`` slices of jobs."""
    submitted: Pairs = []
    drained: Pairs = []
    for number in range(rounds):
        spool = Spool.init(f"{place}/{number:02}-product", durability="none")
        by_hand = Bare(f"{place}/{number:02}-bare___", sample)  # as long a path as the other
        for _ in range(slices):
            work = partial(product.submit, spool, jobs), partial(bare.submit, by_hand, jobs)
            submitted.append(_rates(place, jobs, *work))
        for _ in range(slices):
            work = partial(product.drain, spool, jobs), partial(bare.drain, by_hand, jobs)
            drained.append(_rates(place, jobs - 1, *work))
    left = _compared(product.shape(spool.root), product.shape(by_hand.root))
    return [
        Row("submit", "jobs/s", submitted, least=0.6, detail=left),
        Row("claim and finish", "jobs/s", drained, least=0.6, detail=left),
    ]


def durable(place: str, sample: Sample, slices: int, jobs: int) -> Row:
    """Submit one job at a time, each on the disk before the next."""
    pairs: Pairs = []
    spool = Spool.init(f"{place}/durable-product", durability="durable")
    by_hand = Bare(f"{place}/durable-bare___", sample)
    for _ in range(slices):
        work = partial(product.submit, spool, jobs), partial(bare.submit_durably, by_hand, jobs)
        pairs.append(_rates(place, jobs, *work))
    left = _compared(product.shape(spool.root), product.shape(by_hand.root))
    return Row("durable submit, one at a time", "jobs/s", pairs, detail=left)


def _rates(place: str, jobs: int, ours: Callable[[], float], by_hand: Callable[[], float]) -> tuple[float, float]:
    rates = []
    for work in (ours, by_hand):
        settle(place)
        gc.collect()
        rates.append(jobs / work())
    return rates[0], rates[1]


def _compared(ours: Counter[str], by_hand: Counter[str]) -> dict[str, Any]:
    """How many job directories each side has left, and which names of their trees differ in number."""
    jobs = [tree["/jobs/MINUTE/JOB"] for tree in (ours, by_hand)]
    return {"jobs": jobs, "differs": sorted((ours - by_hand) + (by_hand - ours))}
