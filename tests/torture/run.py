"""One run: a spool, a crowd in chaos on it for a while, then rest, and the verdict."""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from breyta_spool import Spool, states
from tests.crash.invariants import job_ids, status_of
from tests.torture import handlers, verdict
from tests.torture.crowd import Crowd

CAST = {
    "submitter": 3,
    "program-worker": 2,
    "function-worker": 3,
    "worker": 1,
    "holder": 2,
    "awaiter": 2,
    "canceller": 1,
}
"""Eight workers, of four kinds."""
DRAIN_SECONDS = 120.0


@dataclass
class Plan:
    """What is asked for. ``roots`` are paths of the one spool, for instance two mounts of it."""

    roots: list[str]
    ledgers: str
    seconds: float
    seed: int
    durability: str = "durable"
    locks: bool = True


@dataclass
class Report:
    """What happened, and what is wrong."""

    did: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def make_spool(root: str, durability: str, locks: bool) -> Spool:
    """A fresh spool whose leases, also those that no claim.N.json tells of, last for a second."""
    Spool.init(root, workspace="ws-torture", durability=durability)
    path = Path(root, "spool.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "locks": locks, "defaultLeaseMs": 1000}))
    return Spool.open(root)


def run(plan: Plan) -> Report:
    """Let the crowd work and die, drain what is left, and compare."""
    random.seed(plan.seed)
    spool = make_spool(plan.roots[0], plan.durability, plan.locks)
    crowd = Crowd(plan.roots, plan.ledgers, handlers.write_program(plan.ledgers))
    report = Report(crowd.did)
    try:
        _chaos(crowd, plan.seconds)
        crowd.kill()
        drain(crowd, spool)
    finally:
        crowd.kill()
    settle(spool)
    found = verdict.gather(spool, plan.ledgers)
    report.did += found.counts
    report.wrong += verdict.wrongs(found)
    return report


def _chaos(crowd: Crowd, seconds: float) -> None:
    began, crowd.dawdling = time.monotonic(), True
    for role, count in CAST.items():
        crowd.add(role, count)
    while (passed := time.monotonic() - began) < seconds:
        time.sleep(random.uniform(0.02, 0.25))
        crowd.disturb()
        say(f"{passed:.0f} of {seconds:.0f} s, {crowd.did['kills']} kills")


def drain(crowd: Crowd, spool: Spool, seconds: float = DRAIN_SECONDS) -> None:
    """Let fresh workers that nobody disturbs do all that is left. Raises TimeoutError."""
    crowd.dawdling = False
    crowd.add("worker", 3)
    crowd.add("function-worker")
    end = time.monotonic() + seconds
    while left := open_jobs(spool):
        say(f"draining, {len(left)} jobs left")
        if time.monotonic() > end:
            raise TimeoutError(f"{len(left)} jobs have not ended after {seconds:.0f} s, for example {left[0]}")
        crowd.replace()
        time.sleep(0.3)
    crowd.terminate()


def open_jobs(spool: Spool) -> list[str]:
    """The jobs that have not ended; those whose directory is on its way to lost+found are left out."""
    found = []
    for job_id in job_ids(spool):
        try:
            if status_of(spool, job_id).state in (states.QUEUED, states.LEASED):
                found.append(job_id)
        except (FileNotFoundError, ValueError):
            continue
    return found


def settle(spool: Spool) -> None:
    """Mend what the dead left, as the next claimers and reapers would."""
    for _ in range(2):
        spool.claims.expire(handlers.TYPE)
        lease = spool.claim(handlers.TYPE, "settler")
        assert lease is None, f"{lease.job_id if lease else ''} could still be claimed"


def say(line: str) -> None:
    """Progress, for those who watch."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{line}")
        sys.stderr.flush()
