"""What must hold in every spool, whatever died in it, and whoever raced: the rules of ``spool check``, and a few more.

The rules stand in breyta_spool/invariants.py. Here they meet a ledger of what was acknowledged, and what readers see.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from breyta_spool import Spool, SpoolError, ids, paths, states
from breyta_spool.checkup import Walk
from breyta_spool.invariants import Rules
from breyta_spool.states import Status

MENDED_BY_OTHERS = {
    "entry-elsewhere", "entry-twice", "entry-dangling", "bucket-dangling", "lease-forgotten", "links-missing", "left-in-tmp",
}  # fmt: skip
"""What a process that died may leave until a claimer, a reaper, a reader or a worker that starts comes by."""
LATER = {"set-aside", "worker-dead", "lease-forgotten", "top-missing"}
"""What is no fault of anybody who is still at work."""


def violations(spool: Spool, acknowledged: Iterable[str] = (), *, settled: bool = False) -> list[str]:
    """What is wrong with a spool, in words; empty when nothing is.

    ``acknowledged`` are the jobs whose submit returned. ``settled``: the leases of the dead were taken back and what
    waited was done, so the index must be right, too.
    """
    found = set(job_ids(spool))
    wrong = [f"{job_id} was acknowledged and is not there" for job_id in acknowledged if job_id not in found]
    passed_over = LATER | (set() if settled else MENDED_BY_OTHERS)
    walk = Walk(Rules(spool.index, spool.settings, contents=True), pause=0.0)
    wrong += [f"{p.code} {p.place}: {p.what}" for p in walk.problems() if p.code not in passed_over]
    for job_id in found:
        wrong += [f"{job_id}: {what}" for what in _as_it_shows(spool, job_id)]
    return wrong


def job_ids(spool: Spool) -> list[str]:
    """Every job that is there, by its directory."""
    places = ("*/*/job-*", "*/*/batch-*/job-*")
    found = (directory.name for place in places for directory in Path(spool.root, "jobs").glob(place))
    return sorted(filter(ids.is_job_id, found))


def status_of(spool: Spool, job_id: str) -> Status:
    """The status of a job that has exactly one."""
    (name,) = [name for name in os.listdir(spool.tree.job(job_id)) if name.startswith(states.PREFIX)]
    status = states.parse(name)
    assert status is not None, name
    return status


def dangling_buckets(spool: Spool) -> list[Path]:
    """The buckets of batches that are not there."""
    buckets = Path(spool.root).glob("*/*/batch-*")
    return [
        bucket for bucket in buckets if bucket.parts[-3] != "jobs" and not os.path.exists(spool.tree.batch(bucket.name))
    ]


def _as_it_shows(spool: Spool, job_id: str) -> Iterator[str]:
    """What readers see of a job is what its status file and the attempt that counts say."""
    try:
        job, status = spool.get(job_id), status_of(spool, job_id)
    except (SpoolError, ValueError) as error:
        yield f"it cannot be read: {error}"
        return
    if job.is_terminal != status.is_terminal or (status.is_terminal and job.status != status.state):
        yield f"{status.name} shows as {job.status}"
    if job.result is not None and (job.result["status"], job.result["attempt"]) != (status.state, status.attempt):
        yield f"{status.name} shows the result of an attempt that did not count: {job.result['status']}"
    if status.state == states.TIMED_OUT and (job.error is None or job.outputs):
        yield f"{status.name} shows no error, or outputs {job.outputs}"
    artifacts = f"{paths.attempt_name(status.attempt)}/{paths.ARTIFACTS}"
    for name, right in ((paths.RESULT, paths.result_name(status.attempt)), (paths.ARTIFACTS, artifacts)):
        link = Path(spool.tree.job(job_id), name)
        if link.is_symlink() and str(link.readlink()) != right:
            yield f"{name} is a link to {link.readlink()}"
