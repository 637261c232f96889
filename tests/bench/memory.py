"""The most memory that a worker ever had while it drained a large batch, and whoever awaited it."""

from __future__ import annotations

from collections.abc import Callable

from breyta_spool import Spool
from tests.bench import crew, product
from tests.bench.bare import JOB_TYPE
from tests.bench.report import PRODUCT, Goal, Row
from tests.bench.setting import Setting


def measure(setting: Setting) -> list[Row]:
    """Each in a process of its own, which tells its peak itself."""
    jobs = setting.sizes.memory_jobs
    spool = Spool.init(f"{setting.place}/memory", durability="none")
    batch = spool.submit_batch(JOB_TYPE, ({"payload": product.PAYLOAD} for _ in range(jobs)), limit=1)
    (worker,) = crew.run(1, "tests.bench.memory:drain", spool.root, jobs)
    (waiter,) = crew.run(1, "tests.bench.memory:await_batch", spool.root, batch.batch_id)
    return [
        Row(f"peak memory of a worker, {jobs:,} jobs", "MB", {PRODUCT: [worker]}, [Goal("", most=60)]),
        Row(f"peak memory of await-batch, {jobs:,} jobs", "MB", {PRODUCT: [waiter]}, [Goal("", most=100)]),
    ]


def drain(root: str, jobs: int) -> Callable[[], float]:
    """Drain a spool in this process; gives its peak in MB."""
    spool = Spool.open(root)

    def begin() -> float:
        product.drain(spool, jobs)
        return peak()

    return begin


def await_batch(root: str, batch_id: str) -> Callable[[], float]:
    """Await a batch as the command line does, with the first ten of its jobs; gives the peak in MB."""
    spool = Spool.open(root)

    def begin() -> float:
        batch = spool.await_batch(batch_id, timeout="10m", limit=10)
        if batch.status != "completed":
            raise RuntimeError(f"the batch is {batch.status}")
        return peak()

    return begin


def peak() -> float:
    """The most memory that this process ever had, in MB (VmHWM)."""
    with open("/proc/self/status") as file:
        (line,) = [line for line in file if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1000
