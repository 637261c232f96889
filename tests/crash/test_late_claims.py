"""A claim whose lease ran out before it was written down does not change the outcome that was handed out."""

from __future__ import annotations

from pathlib import Path

import pytest

from breyta_spool import LeaseLost, Spool, files, states
from tests.crash.worlds import TYPE, make_leases_old


def test_a_claim_that_is_written_too_late_changes_no_outcome(tmp_path: Path) -> None:
    spool = Spool.init(tmp_path / "spool", durability="none")
    job = spool.submit(TYPE, {}, max_attempts=1)
    handed_out = []

    def hook(operation: str, path: str) -> None:
        if operation == "create" and path.endswith("claim.1.json"):
            files.hook = None
            make_leases_old(spool)
            assert Spool.open(spool.root).claims.expire(TYPE) == 1
            handed_out.append(spool.await_job(job.job_id, timeout="5s"))

    files.hook = hook
    lease = spool.claim(TYPE, "frozen")
    assert lease is not None
    with pytest.raises(LeaseLost):
        lease.complete()
    (ended,) = handed_out
    assert ended.status == states.TIMED_OUT
    now = spool.get(job.job_id)
    assert (now.status, now.error, now.result, now.outputs) == (ended.status, ended.error, ended.result, ended.outputs)
    assert now.worker_id == "frozen"
