"""Those who use the spool: submitters, awaiters, cancellers, workers, and holders, who claim through the library.

Each is a process of its own that goes on until it is killed. It writes down what it is about to ask for where a killed
call may have had an effect, and what it was told once the call has returned.
"""

from __future__ import annotations

import glob
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from breyta_spool import AwaitBound, Job, LeaseLost, Spool, files, outputs
from breyta_spool.handler import PythonHandler
from breyta_spool.worker import Settings, Worker
from tests.torture import handlers
from tests.torture.handlers import TYPE
from tests.torture.ledger import Ledger, Tail, lines

RECENT = 60
"""How many of the newest jobs awaiters and cancellers choose from."""
BACKLOG = 80
"""Submitters pause while so many jobs wait: what waits is not tested."""


@dataclass(frozen=True)
class Part:
    """What an actor is given: the path by which it sees the spool, the ledgers' directory and its name."""

    root: str
    ledgers: str
    name: str

    def open(self) -> tuple[Spool, Ledger]:
        if handlers.DAWDLE in os.environ:
            files.hook = handlers.dawdle
        return Spool.open(self.root), Ledger(self.ledgers, self.name)


Actor = Callable[[Part], None]

# -- submit -----------------------------------------------------------------------------------------


def submitter(part: Part) -> None:
    """Submit single jobs, with keys and without, and batches."""
    spool, ledger = part.open()
    tried_before = _unanswered_keys(part)
    while True:
        _wait_for_room(spool)
        chosen = random.random()
        if tried_before:
            _with_key(spool, ledger, tried_before.pop())
        elif chosen < 0.5:
            _single(spool, ledger)
        elif chosen < 0.75:
            _with_key(spool, ledger, _key())
        else:
            _batch(spool, ledger)
        time.sleep(random.uniform(0, 0.05))


def _unanswered_keys(part: Part) -> list[str]:
    """The keys of those who were killed at it: who is in doubt submits with the same key again."""
    answered = {line["key"] for line in lines(part.ledgers, "submitted") if "key" in line}
    tried = {line["key"] for line in lines(part.ledgers, "submitting") if "key" in line}
    return sorted(tried - answered)


def _key() -> str:
    """Sometimes a key that another submitter has at the same time."""
    return (
        f"key-{int(time.time() / 2)}-{random.randrange(6)}" if random.random() < 0.5 else f"key-{os.urandom(6).hex()}"
    )


def _wait_for_room(spool: Spool) -> None:
    end = time.monotonic() + 5
    queued = spool.tree.top(f"queued/{TYPE}")
    while time.monotonic() < end and _waiting(queued) > BACKLOG:
        time.sleep(0.1)


def _waiting(queued: str) -> int:
    count = 0
    for bucket in os.listdir(queued) if os.path.isdir(queued) else ():
        try:
            count += len(os.listdir(f"{queued}/{bucket}"))
        except FileNotFoundError:
            pass  # it was emptied and removed
    return count


def _request() -> dict[str, Any]:
    return {"nonce": os.urandom(8).hex(), "text": "p" * random.choice((0, 300, 20_000))}


def _attempts() -> int:
    return random.choice((1, 2, 1000, 1000, 1000, 1000))


def _single(spool: Spool, ledger: Ledger) -> None:
    payload = _request()
    ledger.say("submitting", nonce=payload["nonce"])
    job = spool.submit(TYPE, payload, max_attempts=_attempts())
    ledger.say("submitted", nonce=payload["nonce"], job=job.job_id)


def _with_key(spool: Spool, ledger: Ledger, key: str) -> None:
    ledger.say("submitting", nonce=key, key=key)
    job = spool.submit(TYPE, {"nonce": key}, max_attempts=1000, idempotency_key=key)
    ledger.say("submitted", nonce=key, key=key, job=job.job_id)


def _batch(spool: Spool, ledger: Ledger) -> None:
    nonce, count = os.urandom(8).hex(), random.randint(1, 8)
    ledger.say("submitting", nonce=nonce, count=count)
    jobs = [{"payload": {"nonce": nonce, "text": "p" * random.choice((0, 300))}} for _ in range(count)]
    batch = spool.submit_batch(TYPE, jobs, max_attempts=_attempts(), metadata={"nonce": nonce})
    ledger.say("submitted-batch", nonce=nonce, batch=batch.batch_id, jobs=[job.job_id for job in batch.jobs or []])


# -- await ------------------------------------------------------------------------------------------


def awaiter(part: Part) -> None:
    """Await jobs and batches, and write down what was handed out."""
    spool, ledger = part.open()
    singles, batches = Tail(part.ledgers, "submitted", RECENT), Tail(part.ledgers, "submitted-batch", RECENT)
    while True:
        tail = batches if random.random() < 0.4 else singles
        if not tail.look():
            time.sleep(0.05)
            continue
        try:
            _await(spool, ledger, random.choice(tail.newest))
        except AwaitBound:
            ledger.say("await-bound")


def _await(spool: Spool, ledger: Ledger, line: dict[str, Any]) -> None:
    if "batch" in line:
        batch = spool.await_batch(line["batch"], interval="30ms", timeout="3s")
        for job in batch.jobs or []:
            ledger.say("awaited", job=job.job_id, batch=batch.batch_id, end=end_of(job))
        ledger.say("awaited-batch", batch=batch.batch_id, status=batch.status, jobs=len(batch.jobs or []))
    else:
        ledger.say("awaited", job=line["job"], end=end_of(spool.await_job(line["job"], interval="30ms", timeout="3s")))


def end_of(job: Job) -> dict[str, Any]:
    """What an author sees of a job that has ended, and what may not change any more."""
    told = job.to_map()
    return {
        name: told[name]
        for name in ("jobId", "status", "attempt", "outputs", "artifacts", "error", "result", "payload")
    }


# -- cancel -----------------------------------------------------------------------------------------


def canceller(part: Part) -> None:
    """Cancel jobs and batches, and write down how each job stood when the cancel was acknowledged."""
    spool, ledger = part.open()
    singles, batches = Tail(part.ledgers, "submitted", RECENT), Tail(part.ledgers, "submitted-batch", RECENT)
    while True:
        time.sleep(random.uniform(0.02, 0.3))
        tail = batches if random.random() < 0.3 else singles
        if not tail.look():
            continue
        line = random.choice(tail.newest)
        if "batch" in line:
            ledger.say("cancelling", batch=line["batch"])
            spool.cancel_batch(line["batch"], reason=part.name)
            found = [spool.get(job_id) for job_id in line["jobs"]]
        else:
            ledger.say("cancelling", job=line["job"])
            found = [spool.cancel(line["job"], reason=part.name)]
        for job in found:
            ledger.say("cancelled", job=job.job_id, status=job.status, attempt=job.attempt, asked=job.cancel_requested)


# -- work -------------------------------------------------------------------------------------------


def worker(part: Part) -> None:
    """The product's worker with a function, in a process of its own."""
    spool, _ = part.open()
    log = os.open(f"{part.ledgers}/{part.name}.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    settings = Settings(TYPE, worker_id=part.name, lease="1s", poll=0.1, grace=0.2, concurrency=random.choice((1, 3)))
    handler = PythonHandler(handlers.handle, "torture", spool.root)
    Worker(spool, handler, settings, lambda line: _log(log, f"{outputs.now()} {line}")).run()


def _log(fd: int, line: str) -> None:
    os.write(fd, line.encode() + b"\n")


def holder(part: Part) -> None:
    """Claim through the library, hold on or let go, and finish."""
    spool, ledger = part.open()
    while True:
        lease = spool.claim(TYPE, part.name, lease="1s")
        if lease is None:
            time.sleep(random.uniform(0.02, 0.2))
            continue
        try:
            _hold(lease, ledger)
        except LeaseLost:
            ledger.say("fenced", job=lease.job_id)


def _hold(lease: Any, ledger: Ledger) -> None:
    by = handlers.begun(lease.job_id, lease.held.dir.attempt)
    if random.random() < 0.3:
        lease.progress(f"begun by={by}")
    handlers.attach_some(lease.dir, by)
    time.sleep(random.uniform(0, float(os.environ.get(handlers.PACE, "0.2"))))
    if random.random() < 0.3 and lease.heartbeat():
        done = lease.complete(status="cancelled", summary=f"stopped by={by}")
    elif random.random() < 0.05:
        lease.give_back()
        ledger.say("given-back", job=lease.job_id)
        return
    elif random.random() < 0.1:
        done = lease.fail(f"failed by={by}")
    else:
        done = lease.complete(summary=f"done by={by}", outputs={"by": by})
    ledger.say("accepted", job=lease.job_id, by=by, shown=[done.status, done.attempt, done.result_summary])


# -- sync -------------------------------------------------------------------------------------------


def syncer(part: Part) -> None:
    """Sync single files and directories of the spool, or all of it, as any other process on the host might."""
    while True:
        time.sleep(random.uniform(0, 0.1))
        if random.random() < 0.05:
            os.sync()
        places = glob.glob(f"{part.root}/jobs/*/*/**/job-*", recursive=True)
        written = glob.glob(f"{random.choice(places)}/**", recursive=True) if places else []
        # Of some jobs all but a few files, so that what is missing is met alone.
        for path in random.sample(written, max(0, len(written) - random.choice((0, 1, 1, 2, 20)))):
            sync(path)


def sync(path: str) -> None:
    """Sync one file or directory, if it is still there."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return  # a link, or gone
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


ROLES: dict[str, Actor] = {
    "submitter": submitter,
    "awaiter": awaiter,
    "canceller": canceller,
    "worker": worker,
    "holder": holder,
    "syncer": syncer,
}
