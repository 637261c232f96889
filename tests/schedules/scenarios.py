"""Who meets whom, in which world: the scenarios that are explored."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from breyta_spool import paths, states
from tests.crash import worlds
from tests.crash.worlds import TYPE, World, without_locks
from tests.schedules.part import Part

Act = Callable[[Part], None]


@dataclass(frozen=True)
class Scenario:
    """A world, and the actors that meet in it, each a letter.

    ``looks``: they may also be stopped before each look at the disk. ``bound``: how many preemptions and crashes are
    tried in a whole run. ``hours_later``: how old the world is when they meet. ``torn``: its job's result cannot be read.
    """

    name: str
    prepare: Callable[[Path], World]
    actors: Mapping[str, Act]
    looks: bool = False
    bound: int = 3
    hours_later: float = 0.0
    torn: bool = False


# -- actors -----------------------------------------------------------------------------------------


def work_once(part: Part) -> None:
    if lease := part.claim():
        part.complete(lease)


def work_off(part: Part) -> None:
    while lease := part.claim():
        part.complete(lease)


def work_quickly(part: Part) -> None:
    if lease := part.claim_quickly():
        part.complete(lease)


def run_on(part: Part) -> None:
    if lease := part.claim_quickly():
        part.look_after(lease)
        part.complete(lease)


def finish(part: Part) -> None:
    """The holder of the lease that the world begins with."""
    if lease := part.lease():
        part.complete(lease)


def fail(part: Part) -> None:
    if lease := part.lease():
        part.fail(lease)


def give_back(part: Part) -> None:
    if lease := part.lease():
        part.give_back(lease)


def report_and_finish(part: Part) -> None:
    if lease := part.lease():
        part.heartbeat(lease)
        part.progress(lease)
        part.complete(lease)


def outlast_and_reap(part: Part) -> None:
    part.outlast()
    part.expire()


def reap(part: Part) -> None:
    part.expire()


def cancel(part: Part) -> None:
    part.cancel()


def read(part: Part) -> None:
    part.get()


def submit(part: Part) -> None:
    part.submit("one key")


def submit_batch(part: Part) -> None:
    part.submit_batch(2)


def cancel_batches(part: Part) -> None:
    part.cancel_batches()


def mend(part: Part) -> None:
    part.mend()


# -- worlds -----------------------------------------------------------------------------------------


def warm(world: World) -> World:
    """With every bucket made that the job's entry can come to, and no locks."""
    lists = [paths.leased(TYPE), *(paths.finished(state, TYPE) for state in states.TERMINAL)]
    for job_id in world.acknowledged:
        for index_list in lists:
            world.spool.index.make_dirs(world.spool.tree.bucket(index_list, job_id))
    world.spool.index.now()
    world.spool = without_locks(world.spool.root)
    return world


def queued(place: Path) -> World:
    return warm(worlds.queued(place))


def long_queued(place: Path) -> World:
    """A job that has waited for longer than any lease lasts."""
    world = queued(place)
    then = time.time() - worlds.LONG_AGO
    os.utime(f"{world.spool.tree.job(world.job_id)}/status.queued.0", (then, then))
    return world


def two_queued(place: Path) -> World:
    world = worlds.queued(place)
    world.acknowledged.append(world.spool.submit(TYPE, {"n": 2}).job_id)
    return warm(world)


def cold(place: Path) -> World:
    world = worlds.queued(place)
    world.spool = without_locks(world.spool.root)
    return world


def leased(place: Path) -> World:
    return warm(worlds.leased(place))


def last_attempt(place: Path) -> World:
    return warm(worlds.last_attempt(place))


def last_chance(place: Path) -> World:
    return warm(worlds.queued(place, max_attempts=1))


def expired(place: Path) -> World:
    return warm(worlds.expired(place))


def torn(place: Path) -> World:
    return warm(worlds.torn_result(place))


def torn_in_queue(place: Path) -> World:
    """A worker that ended the job at once was cut off before it moved the entry."""
    world = torn(place)
    world.spool.index.move(world.job_id, paths.finished(states.SUCCEEDED, TYPE), paths.queued(TYPE))
    return world


def torn_last(place: Path) -> World:
    return warm(worlds.torn_result(place, max_attempts=1))


def cancelled_and_expired(place: Path) -> World:
    return warm(worlds.expired_and_cancelled(place))


def nothing(place: Path) -> World:
    """A spool that has been used, so that the top of each list is there."""
    world = warm(worlds.empty(place))
    for index_list in (paths.queued(TYPE), paths.leased(TYPE), "finished", "idempotency"):
        world.spool.index.make_dirs(world.spool.tree.top(index_list))
    return world


def expired_batch(place: Path) -> World:
    world = worlds.batch(place, 1)
    world.held = world.spool.claim(TYPE, "holder")
    worlds.make_leases_old(world.spool)
    return warm(world)


SCENARIOS = [
    Scenario("one job", queued, {"a": work_once, "b": work_once, "r": outlast_and_reap, "c": cancel}),
    Scenario("two jobs", two_queued, {"a": work_off, "b": work_off}),
    Scenario("two jobs and a reaper", two_queued, {"a": work_once, "b": work_once, "r": outlast_and_reap}, bound=2),
    Scenario("last attempt", last_chance, {"a": work_once, "b": work_once, "r": outlast_and_reap}),
    Scenario("quick", queued, {"a": work_quickly, "b": work_once, "r": outlast_and_reap}),
    Scenario("quick, last attempt", last_chance, {"a": work_quickly, "b": work_quickly, "r": outlast_and_reap}),
    Scenario("quick, runs on", queued, {"a": run_on, "b": work_once, "c": cancel}, bound=2),
    Scenario("frozen holder", leased, {"h": finish, "r": outlast_and_reap, "a": work_once}),
    Scenario("frozen holder of the last attempt", last_attempt, {"h": finish, "r": outlast_and_reap, "c": cancel}),
    Scenario("same token", leased, {"h": finish, "i": finish, "r": outlast_and_reap}),
    Scenario("same token, another end", leased, {"h": finish, "i": fail, "c": cancel}),
    Scenario("reports", leased, {"h": report_and_finish, "r": outlast_and_reap, "c": cancel}),
    Scenario("give back", leased, {"h": give_back, "c": cancel, "a": work_once}),
    Scenario("cancel and reap", expired, {"r": reap, "c": cancel, "a": work_once}),
    Scenario("two reapers", expired, {"r": reap, "s": reap, "a": work_once}),
    Scenario("cancelled and expired", cancelled_and_expired, {"h": finish, "r": reap, "a": work_once}),
    Scenario("long wait", long_queued, {"a": work_once, "r": reap, "s": reap}),
    Scenario("old buckets", cold, {"a": work_once, "b": work_once, "r": outlast_and_reap}, hours_later=1, bound=2),
    Scenario("one key", nothing, {"p": submit, "q": submit, "a": work_once}, bound=2),
    Scenario("batch", nothing, {"p": submit_batch, "a": work_off, "c": cancel_batches}),
    Scenario("mended batch", expired_batch, {"m": mend, "h": finish, "a": work_once}),
    Scenario("torn result", torn, {"x": read, "y": read, "r": reap, "a": work_once}, torn=True, bound=2),
    Scenario("torn result in the queue", torn_in_queue, {"x": read, "r": reap, "a": work_once}, torn=True, bound=2),
    Scenario("torn result of the last attempt", torn_last, {"x": read, "y": read, "r": reap}, torn=True),
    Scenario("looks: holder, reaper", leased, {"h": finish, "r": outlast_and_reap}, looks=True),
    Scenario("looks: worker, canceller", queued, {"a": work_once, "c": cancel}, looks=True),
    Scenario("looks: two workers", queued, {"a": work_once, "b": work_once}, looks=True, bound=2),
    Scenario("looks: quick, worker", queued, {"a": work_quickly, "b": work_once}, looks=True, bound=2),
    Scenario("looks: reaper, canceller", expired, {"r": reap, "c": cancel}, looks=True),
    Scenario("looks: two holders", leased, {"h": finish, "i": finish}, looks=True),
    Scenario("looks: two submitters", nothing, {"p": submit, "q": submit}, looks=True, bound=2),
    Scenario("looks: two readers", torn, {"x": read, "y": read}, looks=True, torn=True, bound=2),
    Scenario("looks: reader, reaper, worker", torn, {"x": read, "r": reap, "a": work_once}, True, 1, torn=True),
    Scenario("looks: reaper, canceller, worker", expired, {"r": reap, "c": cancel, "a": work_once}, True, 1),
]


def named(name: str) -> Scenario:
    """A scenario by its name. Raises KeyError."""
    return {scenario.name: scenario for scenario in SCENARIOS}[name]
