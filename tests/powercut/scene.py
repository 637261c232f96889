"""One power cut: a crowd at work, the cut, the power on again, what is there compared with what anybody was told."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field

from breyta_spool import Spool, durations
from tests.powercut import torn as torn_files
from tests.powercut.disk import Disk, why_not
from tests.torture import handlers, verdict
from tests.torture.crowd import Crowd
from tests.torture.ledger import lines
from tests.torture.run import drain, make_spool, settle
from tests.world import until

CAST = {
    "submitter": 2,
    "worker": 2,
    "function-worker": 1,
    "program-worker": 1,
    "holder": 1,
    "awaiter": 2,
    "canceller": 2,
}
SYNCERS = 2
START_SECONDS = 60.0
"""How long the first submit may take on a slow machine."""


@dataclass(frozen=True)
class Variant:
    """What is cut. ``syncers``: others sync single files at random moments, so that the cut finds halves on the disk.

    ``fsync``: the processes see an old kernel, whose syncfs cannot report errors, and sync file by file.
    """

    durability: str = "durable"
    kind: str = "ext4"
    options: str = ""
    syncers: bool = True
    fsync: bool = False

    def __str__(self) -> str:
        words = [
            self.durability,
            self.kind,
            self.options,
            "fsync" if self.fsync else "",
            "syncers" if self.syncers else "",
        ]
        return " ".join(filter(None, words))


@dataclass
class Seen:
    """What a cut has left, and what of it is wrong."""

    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def cut_once(variant: Variant, seconds: float) -> Seen:
    """Let a crowd work for some seconds, cut the power, and look."""
    ledgers = tempfile.mkdtemp(prefix="breyta-powercut-ledgers-")
    try:
        with Disk(variant.kind, variant.options) as disk:
            seen = _cut_once(variant, seconds, disk, ledgers)
    except BaseException:
        shutil.rmtree(ledgers)
        raise
    if seen.wrong:
        seen.wrong.append(f"({variant}; the ledgers are kept in {ledgers})")
    else:
        shutil.rmtree(ledgers)
    return seen


def _cut_once(variant: Variant, seconds: float, disk: Disk, ledgers: str) -> Seen:
    root = f"{disk.top}/spool"
    make_spool(root, variant.durability, True)
    _sync(root)
    crowd = Crowd([root], ledgers, handlers.write_program(ledgers), old_kernel=variant.fsync, dawdling=True)
    try:
        for role, count in CAST.items():
            crowd.add(role, count)
        if variant.syncers:
            crowd.add("syncer", SYNCERS)
        until(lambda: next(lines(ledgers, "submitted", "submitted-batch"), None), START_SECONDS)
        time.sleep(seconds)
        cut_at, clock = time.monotonic(), time.time()
        disk.cut()
        crowd.kill()
        disk.power_on()
        return _look(variant, crowd, Spool.open(root), ledgers, verdict.Until(cut_at, durations.rfc3339(clock * 1000)))
    finally:
        crowd.kill()


def _sync(root: str) -> None:
    fd = os.open(root, os.O_RDONLY)
    try:
        os.fsync(fd)
        os.sync()
    finally:
        os.close(fd)


def _look(variant: Variant, crowd: Crowd, spool: Spool, ledgers: str, end: verdict.Until) -> Seen:
    seen = Seen()
    torn = torn_files.count_torn(spool, seen.counts)
    found = verdict.gather(spool, ledgers, end)
    seen.counts += found.counts
    told = list(verdict.promises(found))
    if variant.durability == "none":
        _count_lost(found, end.at, seen.counts)
        torn_files.put_away_torn_artifacts(found, seen.counts)
    _judge(variant, seen, told, "right after the cut")
    seen.wrong += [f"right after the cut: {wrong}" for wrong in torn_files.structure(spool, torn, settled=False)]
    seen.wrong += [f"before the cut: {line['who']}: {line['told']}" for line in found.said["error"]]
    drain(crowd, spool)
    settle(spool)
    seen.wrong += torn_files.put_away(spool, torn)
    rest = verdict.gather(spool, ledgers, end)
    _judge(variant, seen, [wrong for wrong in verdict.promises(rest) if wrong not in told], "at rest")
    seen.wrong += [f"at rest: {wrong}" for wrong in torn_files.structure(spool, torn, settled=True)]
    seen.wrong += [f"{job_id} has not ended" for job_id, job in rest.jobs.items() if not job.is_terminal]
    return seen


def _judge(variant: Variant, seen: Seen, broken: list[str], when: str) -> None:
    """A promise that is broken is wrong where the spool is durable, else it is counted."""
    if variant.durability == "durable":
        seen.wrong += [f"{when}: {promise}" for promise in broken]
    else:
        seen.counts["promises broken"] += len(broken)


def _count_lost(found: verdict.Found, cut_at: float, counts: Counter[str]) -> None:
    """Count what was acknowledged and is not there any more, and how long before the cut the oldest of it was."""
    for line in found.said["submitted"] + found.said["submitted-batch"]:
        for job_id in line.get("jobs") or [line["job"]]:
            lost = job_id not in found.jobs
            _count(counts, "acknowledged jobs", lost, cut_at - line["at"])
    for line in found.said["accepted"] + found.said["awaited"]:
        what = "acknowledged results" if line["what"] == "accepted" else "results handed out"
        job = found.jobs.get(line["job"])
        _count(counts, what, job is None or not job.is_terminal, cut_at - line["at"])
    for line in found.said["cancelled"]:
        job = found.jobs.get(line["job"])
        heard = job is not None and (job.cancel_requested or job.is_terminal)
        _count(counts, "acknowledged cancels", not heard, cut_at - line["at"])


def _count(counts: Counter[str], what: str, lost: bool, age: float) -> None:
    counts[what] += 1
    if lost:
        counts[f"{what} lost"] += 1
        oldest = f"age in s of the oldest of the {what} lost"
        counts[oldest] = max(counts[oldest], round(age))


DURABLE = [
    Variant(),
    Variant(fsync=True),
    Variant(options="data=writeback"),
    Variant(kind="xfs"),
    Variant(options="commit=1", syncers=False),
    Variant(kind="xfs", fsync=True),
    Variant(options="data=writeback,commit=1", fsync=True),
    Variant(options="nodelalloc"),
]
SCRATCH = [
    Variant("none"),
    Variant("none", kind="xfs"),
    Variant("none", options="data=writeback,commit=1"),
    Variant("none", options="nodelalloc"),
]


def variants(durability: str) -> list[Variant]:
    """What can be cut here."""
    return [each for each in (DURABLE if durability == "durable" else SCRATCH) if not why_not(each.kind)]
