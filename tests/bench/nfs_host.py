"""What a host does in the benchmark between hosts: ``python -m tests.bench.nfs_host WORK ARGUMENT..``.

A line of JSON for each thing that was measured. Before each a line ``ready``; it begins when there is a file
``/tmp/go-NUMBER``, so that two hosts begin at once; and a line ``begun`` as the first job is in hand.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from breyta_spool import Spool
from breyta_spool.handler import ActiveJob
from tests.bench import bare_nfs, product

GO = "/tmp/go-"
BARE = "bare"
IDLE_SECONDS = 1.5
"""When no job has come for so long, all are done."""
_SNAP = 10


class Requests:
    """Counts what the NFS client of this kernel has sent for a mount: by operation how many, and milliseconds waited."""

    def __init__(self, share: str) -> None:
        self._share = f" mounted on {share} "

    def __call__(self) -> tuple[Counter[str], Counter[str]]:
        """Both since the mount."""
        with open("/proc/self/mountstats") as file:
            table = file.read().partition(self._share)[2].partition("per-op statistics")[2].partition("\ndevice ")[0]
        fields = [line.split() for line in table.splitlines() if ":" in line]
        counts = Counter({words[0].rstrip(":"): int(words[1]) for words in fields})
        waits = Counter({words[0].rstrip(":"): int(words[7]) for words in fields})
        return counts, waits


class Meter:
    """Is called with each job, and knows between the first and the last call the time and the requests."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        self._snaps: list[tuple[int, tuple[Counter[str], Counter[str]]]] = []
        self.marks: list[float] = []

    def __call__(self) -> None:
        """A job is in hand."""
        if not self.marks:
            print("begun", flush=True)
        if len(self.marks) % _SNAP == 0:
            self._snaps.append((len(self.marks), self._requests()))
        self.marks.append(time.monotonic())

    def told(self) -> dict[str, Any]:
        """What was measured, with the moments as seconds before now."""
        if not self.marks:
            return {"jobs": 0}
        now, (first, before), (last, after) = time.monotonic(), self._snaps[0], self._snaps[-1]
        return {
            "jobs": len(self.marks),
            "first": now - self.marks[0],
            "last": now - self.marks[-1],
            "counted": last - first,
            "requests": dict(after[0] - before[0]),
            "waited": dict(after[1] - before[1]),
        }


def submit(share: str, jobs: str, *roots: str) -> None:
    """Submit jobs to each of some trees in turn."""
    requests = Requests(share)
    for number, root in enumerate(roots):
        act = _submitter(root, int(jobs))
        _wait_for_go(number)
        print("begun", flush=True)
        before, began = requests(), time.monotonic()
        act()
        seconds, after = time.monotonic() - began, requests()
        _say(
            {
                "root": root,
                "jobs": int(jobs),
                "counted": int(jobs),
                "first": seconds,
                "last": 0.0,
                "requests": dict(after[0] - before[0]),
                "waited": dict(after[1] - before[1]),
            }
        )


def _submitter(root: str, jobs: int) -> Callable[[], object]:
    if _is_bare(root):
        bare_nfs.make(root)
        return lambda: bare_nfs.submit(root, jobs)
    durability = root.rpartition(".")[2]
    spool = Spool.open(root) if os.path.exists(root) else Spool.init(root, durability=durability)
    return lambda: product.submit(spool, jobs)


def drain(share: str, me: str, *roots: str) -> None:
    """Claim and finish what waits in each of some trees in turn."""
    for number, root in enumerate(roots):
        meter = Meter(Requests(share))
        act = _drainer(root, me, meter)
        _wait_for_go(number)
        act()
        _say({"root": root, **meter.told()})


def _drainer(root: str, me: str, meter: Meter) -> Callable[[], object]:
    began = time.monotonic()

    def goes_on() -> bool:
        return time.monotonic() < (meter.marks[-1] if meter.marks else began + 5) + IDLE_SECONDS

    if _is_bare(root):
        return lambda: bare_nfs.work(root, me, meter, goes_on)

    def handle(job: ActiveJob) -> None:
        meter()

    def stop_when_idle() -> None:
        while goes_on():
            time.sleep(0.1)
        working.stop()

    working = product.worker(Spool.open(root), handle)
    watching = threading.Thread(target=stop_when_idle, daemon=True)

    def work() -> None:
        watching.start()
        working.run()

    return work


def ended(*roots: str) -> None:
    """Tell how many jobs of each tree have succeeded."""
    for root in roots:
        if _is_bare(root):
            _say({"root": root, "ended": bare_nfs.ended(root)})
        else:
            found = [files for _, _, files in os.walk(f"{root}/jobs")]
            _say({"root": root, "ended": sum("status.succeeded.1" in files for files in found)})


def _is_bare(root: str) -> bool:
    return root.endswith(f".{BARE}")


def _wait_for_go(number: int) -> None:
    print("ready", flush=True)
    while not os.path.exists(f"{GO}{number}"):
        time.sleep(0.02)


def _say(told: dict[str, Any]) -> None:
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    acts: dict[str, Callable[..., None]] = {"submit": submit, "drain": drain, "ended": ended}
    acts[sys.argv[1]](*sys.argv[2:])
