"""Writes spool/example, a small spool with a job in every status: ``python -m tests.example``; ``--check`` compares.

The library itself writes it, with a clock, a random source, a host and a pid that are the same in every run. What git
does not keep (times of files, empty directories) is not part of it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import patch

from breyta_spool import Job, Lease, Spool, files, jsonio, outputs, paths, states
from breyta_spool.handler import ProcessHandler, Run, worker_info, write_job_dir
from breyta_spool.records import Worker

DIRECTORY = Path(__file__).resolve().parents[1] / "spool" / "example"
SHOWN_ROOT = "/srv/spool"
"""Where the example pretends to lie: worker-context.json holds absolute paths."""

WORKSPACE, HOST, PID = "ws-acme", "host-a", 4711
REVIEW, SCAN, BATCHED = "agent-review", "dependency-scan", "surface-review"
BEGIN_NS = 1_795_361_400_000_000_000  # 2026-11-22T15:30:00Z
TICK_NS = 1_700_000_000

STORIES = {
    "queued": states.QUEUED,
    "queued again after its first lease was lost": states.QUEUED,
    "leased": states.LEASED,
    "started": states.STARTED,
    "running": states.RUNNING,
    "succeeded": states.SUCCEEDED,
    "no changes": states.NO_CHANGES,
    "failed": states.FAILED,
    "failed, retried": states.SUCCEEDED,
    "cancelled while it waited": states.CANCELLED,
    "cancelled while it ran": states.CANCELLED,
    "timed out": states.TIMED_OUT,
    "done, in a batch": states.SUCCEEDED,
    "failed, in a batch": states.FAILED,
    "queued, in a batch": states.QUEUED,
}
"""What the jobs of the example show, and the status that a reader sees."""


IN_BATCH = [shows for shows in STORIES if shows.endswith(", in a batch")]


def shown_by(job: Job) -> str:
    """Which of the stories a job of the example tells."""
    return f"{job.metadata['shows']}{', retried' if job.retry_of else ''}"


# -- the jobs ---------------------------------------------------------------------------------------


def _write_jobs(spool: Spool) -> None:
    # Claims take the oldest job that waits, so what is to stay in the queue comes last.
    _succeeded(spool)
    _no_changes(spool)
    _failed_and_retried(spool)
    _cancelled_while_it_ran(spool)
    _timed_out(spool)
    _claimed(spool, "leased")
    _claimed(spool, "started").progress("started handler review.sh", status=states.STARTED)
    _running(spool)
    spool.cancel(_submit(spool, "cancelled while it waited").job_id, requested_by="ana", reason="wrong surface")
    _lose_lease(spool, _claimed(spool, "queued again after its first lease was lost"))
    _submit(spool, "queued", job_type=SCAN)
    _batch(spool)


def _submit(spool: Spool, shows: str, job_type: str = REVIEW, max_attempts: int | None = None) -> Job:
    payload = {"surface": "flows-api"} if job_type == REVIEW else {"lockfile": "uv.lock"}
    return spool.submit(job_type, payload, metadata={"shows": shows}, max_attempts=max_attempts)


def _claimed(spool: Spool, shows: str, job_type: str = REVIEW, max_attempts: int | None = None) -> Lease:
    _submit(spool, shows, job_type, max_attempts)
    return _claim(spool, job_type)


def _claim(spool: Spool, job_type: str = REVIEW) -> Lease:
    lease = spool.claim(job_type, f"{HOST}-{PID}", labels={"region": "eu"})
    assert lease is not None, "nothing to claim"
    return lease


def _succeeded(spool: Spool) -> None:
    lease = _claimed(spool, "succeeded")
    handler = ProcessHandler(["sh", "-c", "echo reviewed flows-api"], {}, spool.root, keep_dirs=False)
    handler.name = "review.sh"
    outcome = handler(Run(lease.held))
    lease.progress("reviewing flows-api", details={"surface": "flows-api"}, metrics={"done": 1})
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "review-report.md"
        report.write_text("# Review of flows-api\n\nTwo findings, one of them serious.\n")
        uri = lease.dir.attach_file(str(report), label="review-report", kind="report")["resourceUri"]
    lease.dir.attach_kv("review-summary", {"findings": 2, "severity": "high"})
    _attach_findings(lease)
    lease.finish(
        replace(
            outcome,
            summary="2 findings in flows-api",
            outputs={"finding-count": 2, "report": uri},
            metrics={"seconds": 3.5},
            worker_info=worker_info(lease.held, handler.name, HOST),
        )
    )


def _attach_findings(lease: Lease) -> None:
    rows: list[dict[str, Any]] = [
        {"finding_id": "F-1", "severity": "low", "title": "Token is logged"},
        {"finding_id": "F-2", "severity": "low", "title": "Typo in an error"},
    ]
    again = [{"finding_id": "F-1", "severity": "high", "title": "Token is logged"}]
    for part in (rows, again):
        lease.dir.attach_table(
            "findings", part, write_mode="upsert", key_fields=["finding_id"], index_fields=["severity"]
        )


def _no_changes(spool: Spool) -> None:
    lease = _claimed(spool, "no changes", SCAN)
    lease.complete(status=states.NO_CHANGES, summary="nothing new since the last scan")


def _failed_and_retried(spool: Spool) -> None:
    lease = _claimed(spool, "failed")
    failed = lease.fail("handler exited with status 3", code="handler_failed", details={"exitCode": 3})
    spool.retry(failed.job_id)
    _claim(spool).complete(summary="no findings in flows-api", outputs={"finding-count": 0})


def _cancelled_while_it_ran(spool: Spool) -> None:
    lease = _claimed(spool, "cancelled while it ran")
    lease.progress("reviewing flows-api")
    spool.cancel(lease.job_id, requested_by="ana", reason="not needed any more")
    assert lease.heartbeat(), "the heartbeat tells the worker of the cancel"
    lease.complete(status=states.CANCELLED, summary="cancelled while it ran")


def _timed_out(spool: Spool) -> None:
    _lose_lease(spool, _claimed(spool, "timed out", max_attempts=1))


def _running(spool: Spool) -> None:
    lease = _claimed(spool, "running")
    write_job_dir(lease.held, spool.root)
    lease.progress("started handler review.sh", status=states.STARTED)
    lease.progress("reviewing flows-api", metrics={"done": 0.4})


def _batch(spool: Spool) -> None:
    """Last, and by its own id: nobody else's claim takes from it."""
    specs = [{"payload": {"surface": shows}, "metadata": {"shows": shows}} for shows in IN_BATCH]
    batch = spool.submit_batch(BATCHED, specs, metadata={"shows": "a batch"}, root_workflow_id="wf-nightly")
    first, second = (spool.claim(BATCHED, f"{HOST}-{PID}", batch_id=batch.batch_id) for _ in range(2))
    assert first is not None
    assert second is not None
    first.complete(summary="no findings", outputs={"finding-count": 0})
    second.fail("handler exited with status 3", code="handler_failed", details={"exitCode": 3})


def _lose_lease(spool: Spool, lease: Lease) -> None:
    """The worker dies: nobody touches the status file any more, and a reaper comes by."""
    os.utime(Path(lease.dir.job_dir) / lease.dir.status_name, (0, 0))
    assert spool.claims.expire(lease.held.request.job_type) == 1


def _write_worker(spool: Spool) -> None:
    """The record of a worker that runs, or was killed: one that stops takes it away."""
    record = Worker(
        worker_id=f"{HOST}-{PID}",
        job_type=REVIEW,
        host=HOST,
        pid=PID,
        labels={"region": "eu"},
        handler="review.sh",
        started_at=outputs.now(),
        beat_ms=15_000,
    )
    fields = record.model_dump(by_alias=True, mode="json", exclude={"last_seen_at", "alive"})
    files.write_new(spool.tree.worker(record.worker_id), jsonio.record(fields))


# -- the same in every run --------------------------------------------------------------------------


@contextmanager
def _the_same_world() -> Iterator[None]:
    ticks, drops = count(BEGIN_NS, TICK_NS), count()
    now = BEGIN_NS

    def time_ns() -> int:
        nonlocal now
        now = next(ticks)
        return now

    def urandom(size: int) -> bytes:
        return hashlib.sha256(b"%d" % next(drops)).digest()[:size]

    same: dict[str, Callable[..., Any]] = {
        "time.time_ns": time_ns,
        "time.time": lambda: now / 1e9,
        "os.urandom": urandom,
        "breyta_spool.ids._last": 0,  # whatever ids this process has made before
        "os.getpid": lambda: PID,
        "socket.gethostname": lambda: HOST,
    }
    patches = [patch(name, value) for name, value in same.items()]
    for each in patches:
        each.start()
    try:
        yield
    finally:
        for each in patches:
            each.stop()


def build(root: Path) -> None:
    """Write the example to a directory that is not there yet."""
    with _the_same_world():
        made = Spool.init(root, workspace=WORKSPACE, durability="none")
        # Whether a lock file stays behind depends on the version of filelock: the example has none.
        spool = Spool(made.root, made.settings.model_copy(update={"locks": False}))
        _write_worker(spool)
        _write_jobs(spool)
    for context in root.rglob(paths.CONTEXT):
        context.write_text(context.read_text().replace(str(root), SHOWN_ROOT))
    _drop_empty_directories(root)


def _drop_empty_directories(root: Path) -> None:
    for at, _, _ in os.walk(root, topdown=False):
        if not os.listdir(at):
            os.rmdir(at)


def copy_to(directory: Path) -> None:
    """Copy the example as it is in git, to a directory that is not there yet: it must not be worked in."""
    shutil.copytree(DIRECTORY, directory, symlinks=True)


def contents(root: Path) -> dict[str, bytes]:
    """What git keeps of a directory: the files with their bytes, the links with their targets."""
    found = {}
    for path in root.rglob("*"):
        if path.is_symlink():
            found[str(path.relative_to(root))] = b"-> " + os.readlink(path).encode()
        elif path.is_file():
            found[str(path.relative_to(root))] = path.read_bytes()
    return found


def drifted(directory: Path = DIRECTORY, *, mend: bool = False) -> list[str]:
    """The files of a directory that are not what the library writes; ``mend`` writes the example there anew."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch).resolve() / "spool"
        build(root)
        expected, there = contents(root), contents(directory)
        wrong = sorted(name for name in expected.keys() | there.keys() if expected.get(name) != there.get(name))
        if wrong and mend:
            shutil.rmtree(directory, ignore_errors=True)
            shutil.copytree(root, directory, symlinks=True)
    return wrong


def main(arguments: list[str], directory: Path = DIRECTORY) -> int:
    if arguments not in ([], ["--check"]):
        print("usage: python -m tests.example [--check]", file=sys.stderr)
        return 2
    wrong = drifted(directory, mend=not arguments)
    if not arguments:
        return 0
    for name in wrong:
        print(f"error: {directory / name} is not what the library writes", file=sys.stderr)
    if wrong:
        print("hint: 'python -m tests.example' writes it", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
