"""Spools with one job in the state that a test begins with, and how everything comes to rest again."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from breyta_spool import Lease, Spool, states
from tests.crash.invariants import job_ids, status_of, violations

TYPE = "work"
LONG_AGO = 86_400.0


@dataclass
class World:
    """A spool, the ids it has acknowledged, and the lease that a live worker holds, if any."""

    spool: Spool
    acknowledged: list[str] = field(default_factory=list)
    held: Lease | None = None
    batch_id: str = ""

    @property
    def job_id(self) -> str:
        """The only job, or the first."""
        return self.acknowledged[0]

    @property
    def lease(self) -> Lease:
        """The lease; only for worlds that have one."""
        assert self.held is not None
        return self.held

    def another(self) -> Spool:
        """The same spool as another host sees it."""
        return Spool.open(self.spool.root)


def without_locks(root: str) -> Spool:
    """Say in spool.json that locks are not to be used; gives the spool as it is opened from now on."""
    path = Path(root, "spool.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "locks": False}))
    return Spool.open(root)


# -- begin ------------------------------------------------------------------------------------------


def empty(place: Path) -> World:
    return World(Spool.init(place, durability="none"))


def queued(place: Path, max_attempts: int = 3) -> World:
    world = empty(place)
    world.acknowledged.append(world.spool.submit(TYPE, {"n": 1}, max_attempts=max_attempts).job_id)
    return world


def leased(place: Path, max_attempts: int = 3) -> World:
    world = queued(place, max_attempts)
    world.held = world.spool.claim(TYPE, "holder")
    return world


def last_attempt(place: Path) -> World:
    return leased(place, max_attempts=1)


def expired(place: Path, max_attempts: int = 3) -> World:
    world = leased(place, max_attempts)
    make_leases_old(world.spool)
    return world


def expired_for_good(place: Path) -> World:
    return expired(place, max_attempts=1)


def leased_and_cancelled(place: Path) -> World:
    world = leased(place)
    world.spool.cancel(world.job_id, reason="no longer needed", requested_by="test")
    return world


def expired_and_cancelled(place: Path) -> World:
    world = leased_and_cancelled(place)
    make_leases_old(world.spool)
    return world


def ended(place: Path, max_attempts: int = 3) -> World:
    world = leased(place, max_attempts)
    world.lease.complete(outputs={"by": "holder"})
    return world


def torn_result(place: Path, max_attempts: int = 3) -> World:
    """A job that succeeded and whose result a power cut has torn before anybody was told of it."""
    world = ended(place, max_attempts)
    os.truncate(f"{world.spool.tree.job(world.job_id)}/result.1.json", 10)
    return world


def batch(place: Path, count: int = 3, max_attempts: int = 3) -> World:
    """A batch that nobody has begun."""
    world = empty(place)
    submitted = world.spool.submit_batch(TYPE, ({"payload": {"n": n}} for n in range(count)), max_attempts=max_attempts)
    world.batch_id = submitted.batch_id
    world.acknowledged += [job.job_id for job in submitted.jobs or []]
    return world


def mixed_batch(place: Path) -> World:
    """A batch with a job that has ended, one that waits again after a lost lease, one that is leased, one that waits."""
    world = batch(place, 4)
    claimed = [world.spool.claim(TYPE, "holder") for _ in range(3)]
    assert claimed[0] is not None
    assert claimed[1] is not None
    claimed[0].complete(outputs={"by": "holder"})
    claimed[1].give_back()
    world.held = claimed[2]
    return world


def ended_batch(place: Path, max_attempts: int = 3) -> World:
    world = batch(place, 3, max_attempts)
    while lease := world.spool.claim(TYPE, "holder"):
        lease.complete(outputs={"by": "holder"})
    return world


# -- go on ------------------------------------------------------------------------------------------


def make_leases_old(spool: Spool) -> None:
    """Let every lease run out now."""
    then = time.time() - LONG_AGO
    for job_id in job_ids(spool):
        status = status_of(spool, job_id)
        if status.state == states.LEASED:
            os.utime(f"{spool.tree.job(job_id)}/{status.name}", (then, then))


def settle(world: World) -> dict[str, str]:
    """Everybody who held a lease is dead: another host takes the leases back and does what waits.

    Gives the status that each job has in the end. What the next claimer or reaper mends may need a second look.
    """
    spool = world.another()
    for _ in range(3):
        make_leases_old(spool)
        while lease := spool.claim(TYPE, "settler"):
            lease.complete(outputs={"by": "settler"})
        spool.claims.expire(TYPE)
    spool.claims.sweep()  # as a worker does when it starts
    for job_id in job_ids(spool):
        spool.get(job_id)
    wrong = violations(spool, world.acknowledged, settled=True)
    assert not wrong, "; ".join(wrong)
    return {job_id: status_of(spool, job_id).state for job_id in job_ids(spool)}


def settled(world: World) -> Any:
    """Settle a world whose only job must end; gives that job."""
    states_now = settle(world)
    assert list(states_now) == [world.job_id], states_now
    job = world.spool.get(world.job_id)
    assert job.is_terminal, job.status
    return job
