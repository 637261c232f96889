"""What is done to a spool while every write of its disk is logged: ``python -m tests.powercut.history SPOOL LEDGER``.

One of each thing that is acknowledged, one after the other; after each the log gets a mark, so that the replay knows
what somebody had been told by then. Where the next one is another process in real life, it has a spool of its own.
"""

from __future__ import annotations

import glob
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from breyta_spool import Job, Lease, Spool
from tests.crash.processes import Child
from tests.crash.worlds import TYPE
from tests.torture.actors import end_of, sync

MARKED = "told"


class Told:
    """The ledger: line N was said before the mark ``told-N``. Without a device, nothing is marked."""

    def __init__(self, path: str, device: str | None) -> None:
        self._path, self._device, self._count = path, device, 0

    def say(self, what: str, **fields: Any) -> None:
        with open(self._path, "a") as file:
            file.write(json.dumps({"what": what, **fields}) + "\n")
        self._count += 1
        if self._device:
            words = ["dmsetup", "message", self._device, "0", "mark", f"{MARKED}-{self._count}"]
            subprocess.run(words, check=True, capture_output=True)

    def submitted(self, *job_ids: str) -> None:
        self.say("submitted", jobs=[*job_ids])

    def ended(self, *jobs: Job) -> None:
        self.say("ended", ends=[end_of(job) for job in jobs])

    def cancelled(self, *jobs: Job) -> None:
        self.say("cancelled", jobs={job.job_id: job.status for job in jobs})


def attach_each(lease: Lease, place: Path, number: int) -> None:
    """One artifact of each kind, the file larger than a page."""
    report = place / f"report-{number}.txt"
    report.write_text("report\n" * 3000)
    lease.dir.attach_file(str(report), label="report")
    lease.dir.attach_kv("summary", {"n": number})
    lease.dir.attach_table("findings", [{"n": n} for n in range(50)])


def act(root: str, told: Told, place: Path) -> None:
    """The history. Meanwhile somebody else syncs single files, so that halves reach the disk, too."""
    Spool.init(root, durability="durable")
    told.say("made")
    syncer = Child(lambda: sync_often(root))
    try:
        _everything(root, told, place)
    finally:
        syncer.kill()


def sync_often(root: str) -> None:
    """Sync one of the newest files or directories, again and again."""
    while True:
        written = glob.glob(f"{root}/jobs/*/*/**", recursive=True)
        for path in random.sample(written, min(2, len(written))):
            sync(path)
        time.sleep(0.002)


def _everything(root: str, told: Told, place: Path) -> None:
    submitter, worker, author = (Spool.open(root) for _ in range(3))
    for number in range(2):
        _single(submitter, worker, author, told, place, number)
    _with_key(submitter, told)
    _cancels(submitter, worker, told)
    _batches(submitter, worker, author, told, place)


def _claimed(spool: Spool) -> Lease:
    lease = spool.claim(TYPE, "worker")
    assert lease is not None
    return lease


def _single(submitter: Spool, worker: Spool, author: Spool, told: Told, place: Path, number: int) -> None:
    told.submitted(submitter.submit(TYPE, {"n": number, "text": "p" * 5000}).job_id)
    lease = _claimed(worker)
    lease.progress("half")
    attach_each(lease, place, number)
    told.ended(lease.complete(outputs={"n": number}))
    told.ended(author.await_job(lease.job_id, timeout="5s"))
    told.submitted(submitter.submit(TYPE, {"n": number}).job_id)
    told.ended(_claimed(worker).fail("it could not be done"))


def _with_key(submitter: Spool, told: Told) -> None:
    job_id = submitter.submit(TYPE, {"n": 10}, idempotency_key="key").job_id
    told.say("submitted", jobs=[job_id], key="key")
    submitter.submit(TYPE, {"n": 10}, idempotency_key="key")
    told.say("submitted", jobs=[job_id], key="key")


def _cancels(submitter: Spool, worker: Spool, told: Told) -> None:
    lease = _claimed(worker)
    told.cancelled(submitter.cancel(lease.job_id))
    told.ended(lease.complete(status="cancelled"))
    waiting = submitter.submit(TYPE, {"n": 11}).job_id
    told.submitted(waiting)
    told.cancelled(submitter.cancel(waiting))


def _batches(submitter: Spool, worker: Spool, author: Spool, told: Told, place: Path) -> None:
    batch = submitter.submit_batch(TYPE, [{"payload": {"n": n}} for n in range(4)])
    told.say("submitted", jobs=[job.job_id for job in batch.jobs or []], batch=batch.batch_id)
    for number in range(4):
        lease = _claimed(worker)
        if number == 0:
            attach_each(lease, place, 100)
        told.ended(lease.complete(outputs={"n": number}))
    told.ended(*author.await_batch(batch.batch_id, timeout="5s").jobs or [])
    batch = submitter.submit_batch(TYPE, [{"payload": {"n": n}} for n in range(3)])
    told.say("submitted", jobs=[job.job_id for job in batch.jobs or []], batch=batch.batch_id)
    _claimed(worker)
    submitter.cancel_batch(batch.batch_id)
    told.cancelled(*(submitter.get(job.job_id) for job in batch.jobs or []))


if __name__ == "__main__":
    root, ledger, *device = sys.argv[1:]
    act(root, Told(ledger, device[0] if device else None), Path(os.environ.get("TMPDIR", "/tmp")))
