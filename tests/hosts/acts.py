"""What hosts do in the scenarios: ``python -m tests.hosts.acts ACT SPOOL ARGUMENT..``.

A line for each thing that was acknowledged, at once, so that the lab knows of it even if the host dies; the last line
is the answer, as JSON.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Callable
from typing import Any

from breyta_spool import Lease, NotFound, Spool, SpoolError, files, looking
from breyta_spool.handler import ActiveJob

TYPE = "work"
LET_GO_ON = os.environ.get("GO_ON", "/tmp/go-on")
"""Who waits goes on when there is such a file on its host."""


def say(line: str) -> None:
    """Print a line now."""
    print(line, flush=True)


def _pause() -> None:
    while not os.path.exists(LET_GO_ON):
        time.sleep(0.05)


# -- the work ---------------------------------------------------------------------------------------


def init(root: str, locks: str, durability: str) -> None:
    """Make the spool, and say whether its workers take turns."""
    from tests.crash.worlds import without_locks

    Spool.init(root, durability=durability)
    if locks != "locks":
        without_locks(root)


def submit(root: str, count: str) -> dict[str, float]:
    """Submit jobs one after the other."""
    spool, began = Spool.open(root), time.perf_counter()
    for number in range(int(count)):
        say(f"submitted {spool.submit(TYPE, {'n': number}).job_id}")
    return {"seconds": time.perf_counter() - began}


def drain(root: str, me: str, idle_seconds: str = "0", lease: str = "2m") -> dict[str, float]:
    """Claim and complete, until nothing has waited for a while, or, when that is "told", when nothing waits any more
    after that; ``seconds`` is from the first claim to the last end.
    """
    spool = Spool.open(root)
    began = ended = time.perf_counter()
    while True:
        if held := spool.claim(TYPE, me, lease=lease):
            held.complete(outputs={"by": me})
            say(f"done {held.job_id}")
            ended = time.perf_counter()
        elif os.path.exists(LET_GO_ON) if idle_seconds == "told" else time.perf_counter() > ended + float(idle_seconds):
            return {"seconds": ended - began}
        else:
            time.sleep(0.1)


def handle(job: ActiveJob) -> dict[str, Any]:
    """A handler for workers that are started by the command line: it says on which host it ran."""
    return {"outputs": {"by": os.environ["LAB_HOST"]}}


def look(root: str) -> dict[str, Any]:
    """What is wrong with the spool now that all has come to rest; of each job its status, attempt and who ended it."""
    from tests.crash.invariants import job_ids, violations

    spool = Spool.open(root)
    jobs = {job_id: spool.get(job_id) for job_id in job_ids(spool)}
    told = {job_id: [job.status, job.attempt, job.outputs.get("by")] for job_id, job in jobs.items()}
    return {"wrong": violations(spool, settled=True), "jobs": told}


def submit_slowly(root: str, key: str = "") -> None:
    """Submit a job, and wait in the midst of it: the entry in the queue is there, and the job is not.

    With a key it is built in tmp/, else in its place.
    """

    def hook(operation: str, path: str) -> None:
        last = operation == "rename" if key else path.endswith("/status.queued.0")
        if last and "/jobs/" in path and not os.path.exists(LET_GO_ON):
            say("midway")
            _pause()

    spool = Spool.open(root)
    files.hook = hook
    say(f"submitted {spool.submit(TYPE, {}, idempotency_key=key or None).job_id}")


# -- awaits -----------------------------------------------------------------------------------------


def ask(root: str, interval: str, count: str, jobs: str = "1") -> None:
    """Submit and await, again and again; a batch if it is more than one job. Says when each has been seen to end."""
    spool = Spool.open(root)
    for number in range(int(count)):
        if jobs == "1":
            asked = spool.submit(TYPE, {"n": number}).job_id
            spool.get(asked)  # whatever a cache can remember of it by name, it does by now
            say(f"asked {asked}")
            assert spool.await_job(asked, interval=interval, timeout="90s").status == "succeeded"
        else:
            asked = spool.submit_batch(TYPE, [{"payload": {"n": n}} for n in range(int(jobs))]).batch_id
            spool.get_batch(asked, include_jobs=True)
            say(f"asked {asked}")
            assert spool.await_batch(asked, interval=interval, timeout="90s").status == "completed"
        say(f"seen {asked}")


def reply(root: str, me: str, count: str, pause: str) -> None:
    """Wait for jobs and end each some time after it was claimed. Says when it is about to."""
    spool = Spool.open(root)
    for _ in range(int(count)):
        lease = _next(spool, me)
        time.sleep(float(pause))
        say(f"ending {lease.job_id}")
        lease.complete(outputs={"by": me})


def _next(spool: Spool, me: str, lease: str = "2m") -> Lease:
    while not (held := spool.claim(TYPE, me, lease=lease)):
        time.sleep(0.05)
    return held


# -- leases -----------------------------------------------------------------------------------------


def hold(root: str, me: str, first: str, lease_duration: str = "2s") -> dict[str, str]:
    """Claim a job, wait until told to go on, and use the lease in every way, in one of them first.

    Gives for each how it was refused, or "done".
    """
    lease = _next(Spool.open(root), me, lease_duration)
    lease.progress("begun")
    say(f"holds {lease.job_id}")
    _pause()
    ways: dict[str, Callable[[], Any]] = {
        "heartbeat": lease.heartbeat,
        "progress": lambda: lease.progress("too late"),
        "attach": lambda: lease.dir.attach_kv("late", 1),
        "finish": lambda: lease.complete(outputs={"by": "too late"}),
    }
    told = {}
    for way in sorted(ways, key=lambda way: way != first):
        try:
            ways[way]()
            told[way] = "done"
        except SpoolError as error:
            told[way] = type(error).__name__
    return told


def keep(root: str, me: str, seconds: str) -> None:
    """Claim a job with a lease of two seconds and renew it for some time; then end it."""
    lease = _next(Spool.open(root), me, "2s")
    say(f"holds {lease.job_id}")
    end = time.monotonic() + float(seconds)
    while time.monotonic() < end:
        time.sleep(0.3)
        lease.heartbeat()
    lease.complete(outputs={"by": me})
    say(f"done {lease.job_id}")


def reap(root: str, seconds: str) -> int:
    """Look for leases that ran out, again and again; gives how many there were."""
    spool, end, found = Spool.open(root), time.monotonic() + float(seconds), 0
    while time.monotonic() < end:
        found += spool.claims.expire(TYPE)
        time.sleep(0.1)
    return found


# -- clocks and caches ------------------------------------------------------------------------------


def sweep(root: str) -> None:
    """Sweep as a worker does when it starts and once an hour."""
    Spool.open(root).claims.sweep()


def submit_once(root: str, key: str) -> str:
    """Submit with an idempotency key; gives the id."""
    return Spool.open(root).submit(TYPE, {}, idempotency_key=key).job_id


def store(root: str, ttl_seconds: str) -> str:
    """Complete a job with a value that expires; gives its address."""
    lease = _next(Spool.open(root), "storing")
    kept = lease.dir.attach_kv("value", {"kept": True}, ttl_seconds=int(ttl_seconds))
    lease.complete(outputs={"by": "storing"})
    return str(kept["resourceUri"])


def fetch(root: str, uri: str) -> bool:
    """Whether a value is there."""
    try:
        Spool.open(root).resources.read(uri)
    except NotFound:
        return False
    return True


def fill(root: str, count: str) -> None:
    """Make a directory with many names below tmp/."""
    os.mkdir(f"{root}/tmp/many")
    for number in range(int(count)):
        os.symlink("nowhere", f"{root}/tmp/many/{number:05}")


def clear(root: str) -> None:
    """Remove that directory as a worker does."""
    files.remove_tree(f"{root}/tmp/many", f"{root}/tmp/trash-many")


def scan(root: str) -> int:
    """Read that directory, and wait after the first names; gives how many names it had."""
    found = 0
    with looking.scanning(f"{root}/tmp/many") as names:
        for found, _ in enumerate(names, 1):
            if found == 1:
                say("reading")
                _pause()
    return found


def change_twice(root: str, count: str) -> None:
    """Rename a file twice within moments, again and again."""
    place = f"{root}/tmp/changing"
    os.mkdir(place)
    with open(f"{place}/0", "wb"):
        pass
    say("changing")
    _pause()
    for number in range(0, 2 * int(count), 2):
        os.rename(f"{place}/{number}", f"{place}/{number + 1}")
        time.sleep(random.uniform(0, 0.004))
        os.rename(f"{place}/{number + 1}", f"{place}/{number + 2}")
        say(f"now {number + 2}")
        time.sleep(1)


def watch(root: str, seconds: str) -> None:
    """List that directory as fast as it goes; says what it sees when that has changed."""
    end, seen = time.monotonic() + float(seconds), [""]
    while time.monotonic() < end:
        if seen != (seen := looking.names(f"{root}/tmp/changing")):
            say(f"sees {seen[0]}")


ACTS: dict[str, Callable[..., Any]] = {
    act.__name__: act
    for act in (
        init,
        submit,
        submit_slowly,
        submit_once,
        drain,
        look,
        ask,
        reply,
        hold,
        keep,
        reap,
        sweep,
        store,
        fetch,
        fill,
        clear,
        scan,
        change_twice,
        watch,
    )
}

if __name__ == "__main__":
    say(json.dumps(ACTS[sys.argv[1]](*sys.argv[2:])))
