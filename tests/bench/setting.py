"""What every kind of row is given: where to measure, how much, a job to copy, and servers to measure beside."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from tests.bench import product
from tests.bench.bare import Sample
from tests.bench.servers import Servers


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    rounds: int
    slices: int
    jobs: int
    durable_jobs: int
    processes: int
    crowd_jobs: int
    many_jobs: int
    batch_jobs: int
    trips: int
    deep: int
    shallow: int
    deep_drain: int
    starts: int
    warm_ups: int
    program_jobs: int
    memory_jobs: int
    idle_seconds: float
    traced_jobs: int
    table_rows: int
    upserts: int
    nfs_slices: int
    nfs_jobs: int


FULL = Sizes(
    rounds=5, slices=3, jobs=500, durable_jobs=60, processes=4, crowd_jobs=2000, many_jobs=400, batch_jobs=1000, trips=300,
    deep=100_000, shallow=1000, deep_drain=5000, starts=15, warm_ups=2, program_jobs=100, memory_jobs=100_000, idle_seconds=30,
    traced_jobs=200, table_rows=100_000, upserts=9, nfs_slices=5, nfs_jobs=200,
)  # fmt: skip
QUICK = Sizes(
    rounds=1, slices=1, jobs=20, durable_jobs=4, processes=2, crowd_jobs=20, many_jobs=8, batch_jobs=10, trips=3,
    deep=50, shallow=10, deep_drain=20, starts=1, warm_ups=0, program_jobs=4, memory_jobs=20, idle_seconds=0.5,
    traced_jobs=5, table_rows=1000, upserts=1, nfs_slices=0, nfs_jobs=0,
)  # fmt: skip


class Setting:
    """One run of the benchmark. ``place`` is an empty directory; nothing in it is deleted while it is measured."""

    def __init__(self, place: str, sizes: Sizes) -> None:
        self.place = place
        self.sizes = sizes
        self.servers = Servers(place)

    @property
    def sampled(self) -> str:
        """A spool with one job that succeeded."""
        return f"{self.place}/sample"

    @cached_property
    def sample(self) -> Sample:
        """The bytes of that job's files; the spool is made when first asked for."""
        return product.make_sample(self.sampled)

    def close(self) -> None:
        """End the servers."""
        self.servers.close()
