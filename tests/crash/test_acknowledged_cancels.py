"""A cancel that was acknowledged is heard, whoever died in between."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from breyta_spool import Spool, files, states
from tests.crash import worlds
from tests.crash.invariants import status_of
from tests.crash.processes import in_child
from tests.crash.worlds import TYPE, World, settle
from tests.world import work_off


def _cancelled_in_the_midst(world: World, act: Callable[[Spool], Any], renamed_to: str) -> None:
    """Let somebody else cancel the job just before it is put back into the queue by one who dies right after that."""
    spool, other = world.another(), world.another()
    told: list[bool] = []

    def hook(operation: str, path: str) -> None:
        if told and not path.endswith(renamed_to):
            raise SystemExit
        if path.endswith(renamed_to) and not told:
            files.hook = None
            told.append(other.cancel(world.job_id).cancel_requested)
            files.hook = hook

    def child() -> None:
        files.hook = hook
        try:
            act(spool)
        except SystemExit:
            files.hook = None

    in_child(child)
    assert world.spool.get(world.job_id).cancel_requested


def _reap(spool: Spool) -> None:
    spool.claims.expire(TYPE)


def _give_back(spool: Spool) -> None:
    (lease,) = [spool.lease(job.job_id, status_of(spool, job.job_id).token) for job in spool.list()]
    lease.give_back()


@pytest.mark.parametrize(("prepare", "act"), [(worlds.expired, _reap), (worlds.leased, _give_back)])
def test_a_job_that_went_back_to_the_queue_as_it_was_cancelled_is_not_begun_again(
    tmp_path: Path, prepare: Callable[[Path], World], act: Callable[[Spool], None]
) -> None:
    world = prepare(tmp_path / "spool")
    begun: list[int] = []
    _cancelled_in_the_midst(world, act, "status.queued.1")
    assert world.spool.get(world.job_id).status == states.QUEUED
    work_off(world.spool, lambda job: begun.append(job.attempt), TYPE)
    assert (begun, settle(world)) == ([], {world.job_id: states.CANCELLED})


def test_a_cancel_that_comes_as_a_claim_is_undone_is_heard(tmp_path: Path) -> None:
    """The claim of a job of another type, for instance, or one that met a full disk."""
    world = worlds.leased(tmp_path / "spool")
    world.spool.cancel(world.job_id)
    world.spool.claims._unclaim(world.lease.dir, TYPE)
    assert settle(world) == {world.job_id: states.CANCELLED}
