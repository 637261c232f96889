"""What a cut has torn: counted before anybody mends it, recognised by whoever reads it, and put away in the end."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from breyta_spool import Damaged, Spool, SpoolError, jobs, paths, states
from tests.crash.invariants import job_ids, status_of, violations
from tests.torture import verdict

RECOGNISED = ("request-damaged", "batch-damaged", "result-damaged", "cannot be read")
"""What is said of a job or batch whose request is torn."""


def structure(spool: Spool, torn: set[str], *, settled: bool) -> Iterator[str]:
    """What is wrong with the spool itself. That something torn is recognised as such is as it should be."""
    for wrong in violations(spool, settled=settled):
        is_torn = any(f"{job_id}:" in wrong for job_id in torn)
        if not is_torn or not any(what in wrong for what in RECOGNISED):
            yield wrong


def count_torn(spool: Spool, counts: Counter[str]) -> set[str]:
    """Count what a cut has torn, before anybody mends it; gives the jobs and batches whose request is torn."""
    torn = set()
    for job_id in job_ids(spool):
        job_dir = spool.tree.job(job_id)
        if _is_torn_request(job_dir, spool):
            counts["torn requests"] += 1
            torn.add(job_id)
        (name,) = [name for name in os.listdir(job_dir) if name.startswith(states.PREFIX)]
        status = states.parse(name)
        assert status is not None
        counts["torn results"] += _is_torn_result(job_dir, status)
        claim = Path(job_dir, paths.claim_name(status.attempt))
        counts["torn claims"] += claim.exists() and claim.stat().st_size == 0
        counts["requests of cancel torn"] += _is_empty(Path(job_dir, paths.CANCEL))
        counts["empty files of artifacts"] += sum(map(_is_empty, Path(job_dir).glob("attempt-*/artifacts/**/*.*")))
    for batch in Path(spool.root, "jobs").glob("*/*/batch-*"):
        if _is_empty(batch / paths.BATCH):
            counts["torn batches"] += 1
            torn.add(batch.name)
    return torn


def put_away_torn_artifacts(found: verdict.Found, counts: Counter[str]) -> None:
    """Set aside the jobs with a result that counts, one of whose artifacts is torn: who reads the artifact is told so.

    Those that nobody would be told of are left to the invariants, which know the bytes.
    """
    spool = found.spool
    for job_id, job in [*found.jobs.items()]:
        if job.is_terminal and any(_cannot_be_read(spool, str(artifact["resourceUri"])) for artifact in job.artifacts):
            counts["results with torn artifacts"] += 1
            _set_aside(spool, job_id, "a torn artifact")
            del found.jobs[job_id]


def _cannot_be_read(spool: Spool, uri: str) -> bool:
    try:
        with spool.resources.open(uri) as pieces:
            b"".join(pieces)
    except SpoolError:
        return True
    return False


def _set_aside(spool: Spool, job_id: str, why: str) -> None:
    spool.claims.set_aside(job_id, why)
    for entry in Path(spool.root).glob(f"*/*/*/{job_id}"):
        if entry.is_symlink():
            entry.unlink()


def put_away(spool: Spool, torn: set[str]) -> Iterator[str]:
    """Set aside the jobs that had ended before the cut tore their request: every reader says so, and nobody mends it."""
    for job_id in torn & {*job_ids(spool)}:
        status = status_of(spool, job_id)
        try:
            yield f"{job_id}, whose request is torn, shows as {spool.get(job_id).status}"
        except Damaged as error:
            if not status.is_terminal:
                yield f"{job_id}, whose request is torn, is still {status.name}"
            _set_aside(spool, job_id, str(error))


def _is_empty(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(".") and path.stat().st_size == 0


def _is_torn_request(job_dir: str, spool: Spool) -> bool:
    try:
        jobs.load_request(job_dir, spool.settings.payload_limit_bytes)
    except SpoolError:
        return True
    return False


def _is_torn_result(job_dir: str, status: states.Status) -> bool:
    try:
        jobs.check_result(job_dir, status)
    except Damaged:
        return True
    return False
