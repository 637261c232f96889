"""Whether many waiting jobs make a claim slow: spread over minutes, a thousand in each, and all in one minute."""

from __future__ import annotations

from time import perf_counter

from breyta_spool import Spool
from tests.bench import mould, product
from tests.bench.bare import JOB_TYPE
from tests.bench.report import PRODUCT, Goal, Row
from tests.bench.setting import Setting
from tests.bench.turns import Turns

PER_MINUTE = 1000


def measure(setting: Setting) -> list[Row]:
    """The rate of claim and finish, and the first claim of whoever has just opened the spool."""
    deep, shallow = setting.sizes.deep, setting.sizes.shallow
    place = f"{setting.place}/waiting"
    sample = mould.queued_sample(f"{place}-sample")
    # The few first: what is oldest is the first to leave the page cache, and the many must not be at a disadvantage.
    few = [mould.filled(f"{place}-few-{n:03}", sample, shallow, PER_MINUTE) for n in range(setting.sizes.rounds)]
    spread = mould.filled(f"{place}-spread", sample, deep, PER_MINUTE)
    heap = mould.filled(f"{place}-heap___", sample, deep, deep)
    names = {f"{deep:,} waiting": spread, f"{deep:,} in one minute": heap}
    beside = f"{shallow:,} waiting"
    rates, firsts = Turns(setting.place), Turns(setting.place)
    sides = {**names, beside: few[0]}
    for _ in range(setting.sizes.rounds):
        firsts.go({name: lambda at=spool.root: _first_claim(at) for name, spool in sides.items()})
    for number in range(setting.sizes.rounds):
        # What is left of the few after the first claims is less than shallow by a few.
        rates.go(
            {
                **{name: lambda at=spool: _rate(at, setting.sizes.deep_drain) for name, spool in names.items()},
                beside: lambda at=few[number]: _rate(at, shallow - setting.sizes.rounds),
            }
        )
    rows = []
    for name in names:
        fast = {PRODUCT: rates.numbers[name], beside: rates.numbers[beside]}
        rows.append(Row(f"claim and finish, {name}", "jobs/s", fast, [Goal(beside, least=0.8)]))
    for name in names:
        slow = {PRODUCT: firsts.numbers[name], beside: firsts.numbers[beside]}
        rows.append(Row(f"first claim, {name}", "ms", slow, [Goal(beside, most=3)]))
    return rows


def _rate(spool: Spool, jobs: int) -> float:
    return (jobs - 1) / product.drain(spool, jobs)


def _first_claim(root: str) -> float:
    began = perf_counter()
    lease = Spool.open(root).claim(JOB_TYPE, "bench")
    spent = perf_counter() - began
    if lease is None:
        raise RuntimeError("there was nothing to claim")
    lease.complete()
    return spent * 1000
