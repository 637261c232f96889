"""``python -m tests.bench.nfs``: submit and drain between NFS hosts, beside the protocol in bare system calls.

The hosts are kernels of their own (tests/hosts): an NFS 4.2 server with a ``sync`` export and two clients with default
mount options. The sides take turns on them, and every figure is the median of slices. The bare side syncs nothing by
itself, as the protocol it stands for: a ``close`` sends what was written and the server has all on its disk before it
answers. Beside it the product runs in a spool of each durability.

Host A submits. Then it drains alone, or A and B drain together. A drain is timed from the first job in hand to the last.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from tests.bench import report
from tests.bench.nfs_host import BARE, GO
from tests.bench.report import PRODUCT, Goal, Row, paired
from tests.bench.setting import Setting
from tests.command import leave_with
from tests.hosts import lab as labs
from tests.hosts.guest import Guest
from tests.hosts.lab import Lab

SIDES = ("none", "durable", BARE)
SUBMIT, ALONE, TOGETHER = "submit", "drained by one host", "drained by two hosts"
SECONDS = 300.0
LEAST_JOBS = 30


@dataclass
class Slice:
    """One slice of jobs on one side: jobs a second, requests a job, and milliseconds that one request took."""

    rate: float
    requests: Counter[str]
    waited: Counter[str]
    counted: int
    clients_ms: float = 0.0
    """What the clients used of the processors, in milliseconds a job, from the first job to when they saw that no more came."""
    server_ms: float = 0.0

    @property
    def a_job(self) -> float:
        """Requests of all kinds a job."""
        return sum(self.requests.values()) / self.counted


@dataclass
class Found:
    """All slices, by what was done and by side."""

    slices: dict[tuple[str, str], list[Slice]] = field(default_factory=lambda: defaultdict(list))

    def pairs(self, what: str, side: str, name: str) -> report.Pairs:
        """A figure of one side beside that of the bare side, slice by slice."""
        both = zip(self.slices[what, side], self.slices[what, BARE], strict=True)
        return [(getattr(ours, name), getattr(bare, name)) for ours, bare in both]

    def rates(self, what: str, side: str) -> list[float]:
        """Jobs a second, slice by slice."""
        return [found.rate for found in self.slices[what, side]]

    def operations(self, what: str, side: str) -> dict[str, tuple[float, float]]:
        """Requests a job by operation, the most frequent first, with the milliseconds that one took."""
        counts: Counter[str] = Counter()
        waited: Counter[str] = Counter()
        for found in self.slices[what, side]:
            counts += found.requests
            waited += found.waited
        jobs = sum(found.counted for found in self.slices[what, side])
        return {name: (count / jobs, waited[name] / count) for name, count in counts.most_common()}


class Bench:
    """Does slices in a lab."""

    def __init__(self, lab: Lab, jobs: int) -> None:
        self._lab = lab
        self._jobs = jobs
        self.found = Found()

    def slice(self, number: int) -> None:
        """Submit and drain on every side; who is first changes from slice to slice."""
        sides = SIDES[number % len(SIDES) :] + SIDES[: number % len(SIDES)]
        for what, hosts in ((ALONE, [self._lab.a]), (TOGETHER, [self._lab.a, self._lab.b])):
            roots = [f"{self._lab.a.share}/{number}-{len(hosts)}.{side}" for side in sides]
            self._measure(SUBMIT, [self._lab.a], roots, "submit", self._jobs)
            self._measure(what, hosts, roots, "drain")
            self._check(hosts[-1], roots)

    def _measure(self, what: str, hosts: list[Guest], roots: list[str], work: str, *words: object) -> None:
        argv = ("-m", "tests.bench.nfs_host", work, self._lab.a.share)
        programs = [
            host.start(host.python, *argv, *(str(word) for word in words or (host.name,)), *roots) for host in hosts
        ]
        used = {}
        for number, root in enumerate(roots):
            for program in programs:
                program.look("ready", number + 1, SECONDS)
            for going in [host.start("touch", f"{GO}{number}") for host in hosts]:
                going.output()
            programs[0].look("begun", number + 1, SECONDS)
            before = self._used()
            for program in programs:
                program.look("{", number + 1, SECONDS)
            used[root] = [1000 * (after - then) / self._jobs for after, then in zip(self._used(), before, strict=True)]
        for program in programs:
            program.output(SECONDS)
        for host in hosts:
            host.run(f"rm {GO}*")
        told: dict[str, list[tuple[float, dict[str, Any]]]] = defaultdict(list)
        for program in programs:
            for when, line in program.look("{", len(roots)):
                told[json.loads(line)["root"]].append((when, json.loads(line)))
        for root, parts in told.items():
            assert sum(part["jobs"] for _, part in parts) == self._jobs, f"{what} on {root}: {parts}"
            cycles = self._jobs if work == "submit" else self._jobs - 1
            measured = _slice(cycles, parts)
            measured.clients_ms, measured.server_ms = used[root]
            self.found.slices[what, root.rpartition(".")[2]].append(measured)

    def _used(self) -> tuple[float, float]:
        """What the clients and the server have used of the processors, in seconds."""
        clients = self._lab.a.processor_seconds() + self._lab.b.processor_seconds()
        return clients, self._lab.server.processor_seconds()

    def _check(self, host: Guest, roots: list[str]) -> None:
        """Fail unless every job of every side has ended well."""
        lines = host.start(host.python, "-m", "tests.bench.nfs_host", "ended", *roots).output(SECONDS).splitlines()
        assert all(json.loads(line)["ended"] == self._jobs for line in lines), lines


def _slice(cycles: int, parts: list[tuple[float, dict[str, Any]]]) -> Slice:
    """A slice from what its hosts have told, each with the moment it came."""
    parts = [part for part in parts if "first" in part[1]]
    seconds = max(when - told["last"] for when, told in parts) - min(when - told["first"] for when, told in parts)
    requests: Counter[str] = Counter()
    waited: Counter[str] = Counter()
    for _, told in parts:
        requests += Counter(told["requests"])
        waited += Counter(told["waited"])
    return Slice(cycles / seconds, requests, waited, sum(told["counted"] for _, told in parts))


def rows(found: Found) -> list[Row]:
    """Rates and requests of the product beside bare, for each durability."""
    told = []
    for side in SIDES[:-1]:
        for what in (SUBMIT, ALONE, TOGETHER):
            told.append(paired(f"NFS: {what}, {side}", "jobs/s", found.pairs(what, side, "rate"), least=1.3))
    for side in SIDES[:-1]:
        ours = {PRODUCT: found.rates(TOGETHER, side), ALONE: found.rates(ALONE, side)}
        told.append(Row(f"NFS: {TOGETHER}, {side}", "jobs/s", ours, [Goal(ALONE, least=1)]))
    for side in SIDES[:-1]:
        for what in (SUBMIT, ALONE, TOGETHER):
            told.append(paired(f"NFS: round trips, {what}, {side}", "a job", found.pairs(what, side, "a_job")))
    for side in SIDES[:-1]:
        for what in (SUBMIT, ALONE, TOGETHER):
            for whose, name in (("clients", "clients_ms"), ("server", "server_ms")):
                pairs = found.pairs(what, side, name)
                told.append(paired(f"NFS: processor time of {whose}, {what}, {side}", "ms a job", pairs))
    return told


def two_by_one(found: Found) -> dict[str, float]:
    """How much faster two hosts are together than one alone, by side."""
    return {side: median(found.rates(TOGETHER, side)) / median(found.rates(ALONE, side)) for side in SIDES}


def measure(setting: Setting) -> list[Row]:
    """The rates and round trips between hosts; the processor times are only for a run of this module alone."""
    slices, jobs = setting.sizes.nfs_slices, setting.sizes.nfs_jobs
    if why := labs.lacking() if slices else "not in a quick run":
        return [Row("NFS between hosts", "jobs/s", skipped=why)]
    return [row for row in rows(_found(slices, jobs)) if row.unit != "ms a job"]


def operations(found: Found) -> str:
    """Requests a job by operation on each side, and milliseconds for one, as text."""
    lines = []
    for what in (SUBMIT, ALONE, TOGETHER):
        tables = {side: found.operations(what, side) for side in SIDES}
        lines += ["", f"{what}: requests a job, and milliseconds for one", "".join(f"{side:>16}" for side in SIDES)]
        for name in _names(tables.values()):
            cells = [tables[side].get(name, (0.0, 0.0)) for side in SIDES]
            lines.append("".join(f"{count:>8.2f} {ms:>5.2f}ms" for count, ms in cells) + f"  {name}")
        lines.append("".join(f"{sum(n for n, _ in tables[side].values()):>8.2f} {'':>7}" for side in SIDES) + "  all")
    return "\n".join(lines)


def _names(tables: Iterable[dict[str, tuple[float, float]]]) -> list[str]:
    most: dict[str, float] = {}
    for table in tables:
        for name, (count, _) in table.items():
            most[name] = max(most.get(name, 0.0), count)
    return sorted((name for name in most if most[name] >= 0.005), key=lambda name: -most[name])


def told(found: Found, jobs: int, seconds: float) -> str:
    """The report as text."""
    ratios = ", ".join(f"{side} {ratio:.2f}" for side, ratio in two_by_one(found).items())
    return "\n".join(
        [
            f"NFS 4.2, sync export, default mount options; {jobs} jobs a slice, {seconds:.0f} s.",
            "",
            report.table(rows(found)),
            "",
            f"two hosts by one alone: {ratios}",
            operations(found),
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0 whatever the ratios are, 1 where the lab cannot be built."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.nfs", description="Measure between NFS hosts.")
    parser.add_argument("--slices", type=int, default=5, help="how many slices; figures are medians of them")
    parser.add_argument("--jobs", type=int, default=200, help=f"how many jobs a slice has, at least {LEAST_JOBS}")
    parser.add_argument("--json", metavar="FILE", help="write the numbers there, too")
    options = parser.parse_args(arguments)
    if options.jobs < LEAST_JOBS:
        parser.error(f"with less than {LEAST_JOBS} jobs a host may have too few to count the requests of")
    if why := labs.lacking():
        print(f"error: {why}", file=sys.stderr)
        return 1
    began = time.monotonic()
    found = _found(options.slices, options.jobs)
    print(told(found, options.jobs, time.monotonic() - began))
    if options.json:
        _write(options.json, found, options)
    return 0


def _found(slices: int, jobs: int) -> Found:
    with labs.running("4.2") as lab:
        bench = Bench(lab, jobs)
        for number in range(slices):
            bench.slice(number)
            print(f"NFS: slice {number + 1} of {slices}", file=sys.stderr, flush=True)
    return bench.found


def _write(path: str, found: Found, options: argparse.Namespace) -> None:
    numbers: dict[str, Any] = {"jobs": options.jobs, "slices": options.slices, "twoByOne": two_by_one(found)}
    numbers["rows"] = [row.to_map() for row in rows(found)]
    numbers["operations"] = {
        what: {side: found.operations(what, side) for side in SIDES} for what in (SUBMIT, ALONE, TOGETHER)
    }
    with open(path, "w") as file:
        json.dump(numbers, file, indent=2)
        file.write("\n")


if __name__ == "__main__":
    leave_with(main)
