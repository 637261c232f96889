"""What the work costs between hosts: jobs a second, the delay of an await, and round trips to the server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from tests.hosts.host import Host
from tests.hosts.lab import Lab
from tests.hosts.moosefs import MooseLab
from tests.hosts.scenarios import told

INTERVAL = 0.1
AWAITS = 10


@dataclass
class Row:
    """One figure."""

    name: str
    unit: str
    value: float

    def to_line(self) -> str:
        """The figure as a line of the table."""
        return f"{self.name:<52}{self.value:>10.3g}  {self.unit}"


def measured(lab: Lab | MooseLab, jobs: int) -> list[Row]:
    """Every figure of a lab, measured one after the other; with ``jobs`` jobs where the number matters."""
    spool = lab.new_spool()
    rows, trips = [], Trips(lab)
    seconds = trips.of(lambda: lab.a.do("submit", spool, jobs, seconds=600)["seconds"])
    rows += [Row("submit, on one host", "jobs/s", jobs / seconds), *trips.row("submit", jobs)]
    seconds = trips.of(lambda: lab.b.do("drain", spool, "b", seconds=600)["seconds"])
    rows += [Row("claim and finish, by one host alone", "jobs/s", jobs / seconds), *trips.row("claim and finish", jobs)]
    lab.a.do("submit", spool, jobs, seconds=600)
    rows += [Row("claim and finish, by two hosts", "jobs/s", _by_two(lab, spool, jobs))]
    return rows + _delays(lab)


def _by_two(lab: Lab | MooseLab, spool: str, jobs: int) -> float:
    drains = [host.act("drain", spool, host.name) for host in (lab.a, lab.b)]
    for drain in drains:
        drain.output(600)
    done = sorted(when for drain in drains for when, line in drain.lines if line.startswith("done "))
    assert len(done) == jobs
    return (jobs - 1) / (done[-1] - done[0])


def _delays(lab: Lab | MooseLab) -> list[Row]:
    spool = lab.new_spool()
    asking = lab.a.act("ask", spool, f"{INTERVAL}s", AWAITS)
    replying = lab.b.act("reply", spool, "b", AWAITS, 0.5)
    seen, ended = asking.look("seen", AWAITS, 300), replying.look("ending", AWAITS)
    delays = [after - before for (after, _), (before, _) in zip(seen, ended, strict=True)]
    assert told(asking, "seen") == told(replying, "ending")
    what = f"await, polls every {INTERVAL:g} s, from finish on B to the answer on A"
    return [Row(f"{what}", "s, median", median(delays)), Row("the same", "s, longest", max(delays))]


class Trips:
    """Counts the requests that the clients of an NFS lab send; for others it counts nothing."""

    def __init__(self, lab: Lab | MooseLab) -> None:
        self._clients = [lab.a, lab.b] if isinstance(lab, Lab) else []
        self._counted = 0

    def of(self, act: Callable[[], float]) -> float:
        """Do something, count its requests, and give its answer."""
        before = self._sum()
        answer = act()
        self._counted = self._sum() - before
        return answer

    def row(self, what: str, jobs: int) -> list[Row]:
        """What was counted last, as a row."""
        return [Row(f"round trips of {what}", "a job", self._counted / jobs)] if self._clients else []

    def _sum(self) -> int:
        return sum(_requests(client) for client in self._clients)


def _requests(client: Host) -> int:
    """How many requests a client has sent so far, by its kernel."""
    share = client.run("cat /proc/self/mountstats").partition(f" mounted on {client.share} ")[2]
    lines = share.partition("per-op statistics")[2].splitlines()[1:]
    counts = [line.split(":")[1].split()[0] for line in lines if ":" in line]
    return sum(int(count) for count in counts)
