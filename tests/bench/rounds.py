"""Submit, and claim and finish, without durability: a slice of jobs by each side in turn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from breyta_spool import Spool
from tests.bench import bare, peers, product
from tests.bench.bare import Bare
from tests.bench.report import BARE, PRODUCT, Goal, Row
from tests.bench.setting import Setting
from tests.bench.turns import Turns

SUBMITTERS = ("dirq", "kombu files")
WORKERS = ("redis", "huey files", "kombu files", "rq")
SUBMIT_GOALS = [Goal(BARE, least=0.9), Goal("dirq", least=1.3), Goal("kombu files", least=1)]
WORK_GOALS = [
    Goal(BARE, least=0.9),
    Goal("redis", least=1),
    Goal("huey files", least=4),
    Goal("kombu files", least=4),
    Goal("rq", least=20),
]


def measure(setting: Setting) -> list[Row]:
    """Each round has directories of its own; what the slices of the one submitted the slices of the other drain."""
    submitted = Turns(setting.place, SUBMITTERS)
    drained = Turns(setting.place, WORKERS)
    left: dict[str, Any] = {}
    for number in range(setting.sizes.rounds):
        left = _round(setting, f"{setting.place}/{number:02}", submitted, drained)
    return [
        Row("submit", "jobs/s", submitted.numbers, SUBMIT_GOALS, detail=left, missing=submitted.missing),
        Row("claim and finish", "jobs/s", drained.numbers, WORK_GOALS, detail=left, missing=drained.missing),
    ]


def _round(setting: Setting, place: str, submitted: Turns, drained: Turns) -> dict[str, Any]:
    jobs, slices = setting.sizes.jobs, setting.sizes.slices
    spool = Spool.init(f"{place}-product", durability="none")
    by_hand = Bare(f"{place}-bare___", setting.sample)  # as long a path as the other
    others, missing = peers.opened(tuple(dict.fromkeys(SUBMITTERS + WORKERS)), place, setting.servers)
    for turns in (submitted, drained):
        for name, error in missing.items():
            turns.drop(name, error)
    for _ in range(slices):
        submitted.go(
            {
                PRODUCT: lambda: jobs / product.submit(spool, jobs),
                BARE: lambda: jobs / bare.submit(by_hand, jobs),
                **_of(SUBMITTERS, others, lambda peer: peer.submit_many(jobs)),
            }
        )
    _fill(drained, others, slices, jobs)
    for _ in range(slices):
        drained.go(
            {
                PRODUCT: lambda: (jobs - 1) / product.drain(spool, jobs),
                BARE: lambda: (jobs - 1) / bare.drain(by_hand, jobs),
                **_of(WORKERS, others, lambda peer: peer.drain(_share(peer, jobs))),
            }
        )
    for peer in others.values():
        peer.close()
    return compared(product.shape(spool.root), product.shape(by_hand.root))


def _fill(drained: Turns, others: dict[str, peers.Peer], slices: int, jobs: int) -> None:
    """Give the peers whose submits are not measured something to drain."""
    for name in WORKERS:
        if name in others and name not in SUBMITTERS and name not in drained.missing:
            try:
                others[name].submit_many(slices * _share(others[name], jobs))
            except Exception as error:
                drained.drop(name, error)


def _share(peer: peers.Peer, jobs: int) -> int:
    return max(2, round(jobs * peer.share))


def _of(
    names: tuple[str, ...], others: dict[str, peers.Peer], work: Callable[[peers.Peer], float]
) -> dict[str, Callable[[], float]]:
    return {name: partial(work, others[name]) for name in names if name in others}


def compared(ours: Counter[str], by_hand: Counter[str]) -> dict[str, Any]:
    """How many job directories each side has left, and which names of their trees differ in number."""
    jobs = [tree["/jobs/MINUTE/JOB"] for tree in (ours, by_hand)]
    return {"jobs": jobs, "differs": sorted((ours - by_hand) + (by_hand - ours))}
