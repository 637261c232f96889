"""What a worker attaches that has lost its lease without knowing does not change a job that was handed out as ended."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from breyta_spool import Job, files, states
from tests.crash import worlds
from tests.crash.worlds import TYPE, World, make_leases_old


def _attach_too_late(world: World) -> Job:
    """Attach a value, and lose the lease between the look at it and the write; gives the job as it was handed out."""
    reaper, handed_out = world.another(), []

    def hook(operation: str, path: str) -> None:
        if operation == "append" and path.endswith("artifacts.jsonl"):
            files.hook = None
            make_leases_old(reaper)
            assert reaper.claims.expire(TYPE) == 1
            handed_out.append(reaper.await_job(world.job_id, timeout="5s"))

    files.hook = hook
    world.lease.dir.attach_kv("summary", {"n": 1})
    (job,) = handed_out
    return job


@pytest.mark.parametrize(
    ("prepare", "status"), [(worlds.leased_and_cancelled, states.CANCELLED), (worlds.last_attempt, states.TIMED_OUT)]
)
def test_an_artifact_that_comes_too_late_is_not_shown(
    tmp_path: Path, prepare: Callable[[Path], World], status: str
) -> None:
    world = prepare(tmp_path / "spool")
    handed_out = _attach_too_late(world)
    assert handed_out.status == status
    assert world.spool.get(world.job_id) == handed_out
