"""``python -m tests.powercut.replay``: every state a disk was ever in, taken for that of a power cut. Needs root and UML.

One history of a durable spool is recorded, write by write; then each write in turn is the last one. What had been told
by then must be there, whatever is torn must be recognised, and all must come to rest.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from breyta_spool import Spool
from tests.crash.invariants import job_ids, status_of
from tests.crash.processes import in_child
from tests.crash.worlds import TYPE, make_leases_old
from tests.powercut import torn, writes
from tests.powercut.disk import leave_the_others, unmount, why_not
from tests.powercut.history import MARKED
from tests.torture.actors import end_of


def look(root: str, told: list[dict[str, Any]]) -> dict[str, Any]:
    """What is wrong in a spool after a cut, and how much of it was torn."""
    counts: Counter[str] = Counter()
    spool = Spool.open(root)
    damaged = torn.count_torn(spool, counts)
    wrong = [*_promised(spool, told), *torn.structure(spool, damaged, settled=False)]
    _settle(spool)
    wrong += torn.put_away(spool, damaged)
    wrong += [*_promised(spool, told), *torn.structure(spool, damaged, settled=True)]
    wrong += [f"{job_id} has not ended" for job_id in job_ids(spool) if not status_of(spool, job_id).is_terminal]
    return {"wrong": wrong, "torn": counts}


def _settle(spool: Spool) -> None:
    for _ in range(3):
        make_leases_old(spool)
        while lease := spool.claim(TYPE, "settler"):
            lease.complete(outputs={"by": "settler"})
        spool.claims.expire(TYPE)


def _promised(spool: Spool, told: list[dict[str, Any]]) -> list[str]:
    wrong = []
    there = {job_id: spool.get(job_id) for job_id in _said(told) if job_id in {*job_ids(spool)}}
    for line in told:
        for job_id in line.get("jobs", ()):
            if job_id not in there:
                wrong.append(f"{job_id} was {line['what']} and is lost")
            elif line["what"] == "cancelled" and not there[job_id].cancel_requested and not there[job_id].is_terminal:
                wrong.append(f"{job_id} was cancelled and is {there[job_id].status}")
        for end in line.get("ends", ()):
            job = there.get(end["jobId"])
            if job is None or end_of(job) != end:
                wrong.append(f"{end['jobId']} was handed out as {end['status']} and is {job and job.status}")
        if "key" in line and spool.submit(TYPE, {}, idempotency_key=line["key"]).job_id != line["jobs"][0]:
            wrong.append(f"the key {line['key']} leads to another job")
    return wrong


def _said(told: list[dict[str, Any]]) -> set[str]:
    return {
        job_id for line in told for job_id in [*line.get("jobs", ()), *(end["jobId"] for end in line.get("ends", ()))]
    }


def run(place: str, kind: str, old_kernel: bool) -> tuple[Counter[str], list[str]]:
    """Record a history and look at every moment of it; gives what was met and what is wrong."""
    writes.record(place, kind, old_kernel)
    told = [json.loads(line) for line in Path(place, "told").read_text().splitlines()]
    Path(place, "mounted").mkdir()
    shutil.copyfile(f"{place}/base", f"{place}/image")
    met: Counter[str] = Counter()
    wrong: list[str] = []
    for point in writes.replay(f"{place}/log", f"{place}/image", MARKED):
        if not point.told:
            continue  # nobody has been told that there is a spool
        found = _at(place, kind, told[: point.told])
        met["cuts"] += 1
        met[f"cuts after a {point.kind}"] += 1
        met["cuts that had torn something"] += any(found["torn"].values())
        met.update(found["torn"])
        wrong += [f"write {point.number} ({point.kind}), {point.told} told: {what}" for what in found["wrong"]]
    met["lines told"] = len(told)
    return met, wrong


def _at(place: str, kind: str, told: list[dict[str, Any]]) -> dict[str, Any]:
    """Mount a copy of the image as it is now, and look, in a process that holds nothing of it when it has ended."""
    shutil.copyfile(f"{place}/image", f"{place}/copy")
    options = "loop,nouuid" if kind == "xfs" else "loop"
    subprocess.run(["mount", "-o", options, f"{place}/copy", f"{place}/mounted"], check=True, capture_output=True)
    try:
        found: dict[str, Any] = in_child(lambda: look(f"{place}/mounted/spool", told)).answer
    finally:
        unmount(f"{place}/mounted")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; 0 when nothing was wrong, 77 when it cannot be run here."""
    parser = argparse.ArgumentParser(prog="python -m tests.powercut.replay", description=__doc__)
    parser.add_argument("--kind", choices=("ext4", "xfs"), default="ext4")
    parser.add_argument("--old-kernel", action="store_true", help="sync file by file, as where syncfs is missing")
    options = parser.parse_args(arguments)
    if missing := why_not(options.kind) or writes.why_not():
        print(f"skipped: {missing}")
        return 77
    leave_the_others()
    with tempfile.TemporaryDirectory(prefix="breyta-replay-", dir="/dev/shm") as place:
        met, wrong = run(place, options.kind, options.old_kernel)
    for what, count in met.items():
        print(f"{count:8} {what}")
    for what in wrong[:20]:
        print(f"WRONG: {what}")
    print(f"verdict: {f'{len(wrong)} wrongs' if wrong else 'nothing wrong'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    sys.exit(main())
