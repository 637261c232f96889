"""Every way of going wrong that ``spool check`` knows: how it is done by hand to a spool that is well."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from breyta_spool import Spool, ids, owners, paths
from tests.crash import worlds
from tests.crash.worlds import TYPE

LONG_AGO = 2 * 86_400


@dataclass
class Well:
    """A spool with a job in each state that matters here, and nothing wrong."""

    spool: Spool
    queued: str
    leased: str
    ended: str
    batch: str

    def dir(self, job_id: str) -> Path:
        return Path(self.spool.tree.job(job_id))

    def entry(self, job_id: str) -> Path:
        (entry,) = (path for path in Path(self.spool.root).glob(f"*/*/*/{job_id}") if path.is_symlink())
        return entry

    def root(self, place: str) -> Path:
        return Path(self.spool.root, place)


def well(place: Path) -> Well:
    spool = Spool.init(place, durability="none")
    ended = spool.submit(TYPE, {"n": 1}).job_id
    lease = spool.claim(TYPE, "holder")
    assert lease is not None
    lease.dir.attach_kv("summary", {"findings": 1})
    lease.dir.attach_table("rows", [{"a": 1}, {"a": 2}])
    lease.complete(outputs={"by": "holder"})
    leased = spool.submit(TYPE, {"n": 2}).job_id
    assert spool.claim(TYPE, "holder", lease="1h") is not None
    batch = spool.submit_batch(TYPE, [{"payload": {"n": n}} for n in range(3)]).batch_id
    done = spool.claim(TYPE, "holder", batch_id=batch)
    assert done is not None
    done.fail("it broke")
    return Well(spool, spool.submit(TYPE, {"n": 3}).job_id, leased, ended, batch)


def _age(path: Path) -> None:
    then = time.time() - LONG_AGO
    os.utime(path, (then, then), follow_symlinks=False)


def _move_entry(at: Well, job_id: str, index_list: str) -> None:
    entry = at.entry(job_id)
    target = at.root(index_list) / entry.parent.name / entry.name
    target.parent.mkdir(parents=True, exist_ok=True)
    entry.rename(target)


def _copy_entry(at: Well, job_id: str, index_list: str) -> None:
    entry = at.entry(job_id)
    target = at.root(index_list) / entry.parent.name / entry.name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(entry.readlink())


def _no_status(at: Well, job_id: str) -> None:
    (status,) = at.dir(job_id).glob("status.*")
    status.unlink()


def _submitter_died(at: Well) -> None:
    job_id = ids.new_job_id()
    _age(Path(at.spool.index.add(job_id, TYPE)))


def _batch_submitter_died(at: Well) -> None:
    batch = ids.new_batch_id()
    at.spool.index.add(ids.job_in_batch(batch, 1), TYPE)
    _age(at.root(f"queued/{TYPE}/{batch}"))


def _misplace(at: Well, job_id: str) -> None:
    elsewhere = at.root("jobs/20010101/0000")
    elsewhere.mkdir(parents=True)
    at.dir(job_id).rename(elsewhere / job_id)


def _dead_worker(at: Well) -> None:
    record = {
        "workerId": "gone", "jobType": TYPE, "host": "h", "pid": 1, "labels": {}, "handler": "h", "concurrency": 1,
        "startedAt": "2026-11-22T15:30:05.100Z", "beatMs": 15000,
    }  # fmt: skip
    at.root("workers/gone.json").write_text(json.dumps(record))
    _age(at.root("workers/gone.json"))


def _left_in_tmp(at: Well) -> None:
    at.root("tmp/" + owners.marked("job-x").replace(f"-{os.getpid()}-", "-4194305-")).mkdir()


def _account(at: Well) -> None:
    at.spool.accounts.create("somebody", ["jobs.read"])
    (record,) = at.root("accounts").glob("sa-*/account.1.json")
    record.write_text("{")


def _replace_entry(at: Well, job_id: str) -> None:
    at.entry(job_id).unlink()
    bucket = at.root(f"queued/{TYPE}/{paths.bucket_of(job_id)}")
    (bucket / job_id).symlink_to("/etc")


def _relink(at: Well, name: str) -> None:
    (at.dir(at.ended) / name).unlink()
    (at.dir(at.ended) / name).symlink_to("/etc")


def _idempotency(at: Well) -> None:
    at.spool.submit(TYPE, idempotency_key="k")
    (link,) = at.root("idempotency").glob("*/*")
    link.unlink()
    link.symlink_to("/etc")


Damage = Callable[[Well], object]

MENDED: dict[str, tuple[str, Damage]] = {
    "a waiting job lost its status": ("status-unclear", lambda at: _no_status(at, at.queued)),
    "a leased job lost its status": ("status-unclear", lambda at: _no_status(at, at.leased)),
    "an ended job lost its status": ("status-unclear", lambda at: _no_status(at, at.ended)),
    "a second status appeared": ("status-unclear", lambda at: (at.dir(at.ended) / "status.queued.0").touch()),
    "a status of no known form": ("status-unclear", lambda at: (at.dir(at.queued) / "status.dreaming").touch()),
    "a request is torn": ("request-damaged", lambda at: (at.dir(at.queued) / "payload.json").write_bytes(b"")),
    "a request is gone": ("request-damaged", lambda at: (at.dir(at.queued) / "job.json").unlink()),
    "a result is torn": ("result-damaged", lambda at: (at.dir(at.ended) / "result.1.json").write_bytes(b"")),
    "a result is gone": ("result-damaged", lambda at: (at.dir(at.ended) / "result.1.json").unlink()),
    "a job was moved": ("misplaced", lambda at: _misplace(at, at.queued)),
    "an ended job was moved": ("misplaced", lambda at: _misplace(at, at.ended)),
    "a batch was moved": ("misplaced", lambda at: _misplace_batch(at)),
    "a waiting job has no entry": ("entry-missing", lambda at: at.entry(at.queued).unlink()),
    "an ended job has no entry": ("entry-missing", lambda at: at.entry(at.ended).unlink()),
    "a job of a batch has no entry": ("entry-missing", lambda at: at.entry(ids.job_in_batch(at.batch, 3)).unlink()),
    "an entry in the wrong list": ("entry-elsewhere", lambda at: _move_entry(at, at.ended, f"leased/{TYPE}")),
    "an entry of another type": ("entry-elsewhere", lambda at: _move_entry(at, at.queued, "queued/other")),
    "an entry of another status": ("entry-elsewhere", lambda at: _move_entry(at, at.ended, f"finished/failed.{TYPE}")),
    "an entry too many": ("entry-twice", lambda at: _copy_entry(at, at.ended, f"leased/{TYPE}")),
    "an entry that leads elsewhere": ("entry-wrong", lambda at: _replace_entry(at, at.queued)),
    "a submitter that died": ("entry-dangling", _submitter_died),
    "a submitter of a batch that died": ("bucket-dangling", _batch_submitter_died),
    "a worker that died": ("lease-forgotten", lambda at: worlds.make_leases_old(at.spool)),
    "a job without links": ("links-missing", lambda at: (at.dir(at.ended) / "result.json").unlink()),
    "a link of a job that leads elsewhere": ("link-wrong", lambda at: _relink(at, "result.json")),
    "a file among the jobs": ("foreign", lambda at: at.root("jobs/notes.txt").write_text("mine")),
    "a directory among the minutes": ("foreign", lambda at: (at.dir(at.queued).parents[1] / "old").mkdir()),
    "a directory in a minute": ("foreign", lambda at: (at.dir(at.queued).parent / "old").mkdir()),
    "a link in a minute": ("foreign", lambda at: (at.dir(at.queued).parent / ids.new_job_id()).symlink_to("/etc")),
    "a file in a bucket": ("foreign", lambda at: (at.entry(at.queued).parent / "notes.txt").write_text("mine")),
    "a file in a batch": ("foreign", lambda at: Path(at.spool.tree.batch(at.batch), "notes.txt").write_text("mine")),
    "a submitter killed in tmp": ("left-in-tmp", _left_in_tmp),
    "a key that leads elsewhere": ("key-wrong", _idempotency),
    "a directory that was not copied": ("top-missing", lambda at: at.root("tmp").rmdir()),
    "a worker's record": ("worker-dead", _dead_worker),
}  # fmt: skip
"""What a repair mends: the finding, and how it comes about."""

LEFT: dict[str, tuple[str, Damage]] = {
    "the payload of an ended job": ("request-damaged", lambda at: (at.dir(at.ended) / "payload.json").write_bytes(b"")),
    "too many attempts": ("attempts-exceeded", lambda at: (at.dir(at.queued) / "status.queued.0").rename(at.dir(at.queued) / "status.queued.9")),
    "a table": ("artifact-damaged", lambda at: (at.dir(at.ended) / "artifacts/tables/rows.jsonl").write_text("{}\n")),
    "a value": ("artifact-damaged", lambda at: (at.dir(at.ended) / "artifacts/kv/summary.json").unlink()),
    "the record of a batch": ("batch-damaged", lambda at: Path(at.spool.tree.batch(at.batch), "batch.json").write_text("{")),
    "a job of a batch": ("batch-incomplete", lambda at: _take_away(at, ids.job_in_batch(at.batch, 3))),
    "an account": ("account-damaged", _account),
    "a job that was set aside": ("set-aside", lambda at: at.spool.claims.set_aside(at.queued, "a test")),
}  # fmt: skip
"""What a repair leaves to a person."""


def _misplace_batch(at: Well) -> None:
    elsewhere = at.root("jobs/20010101/0000")
    elsewhere.mkdir(parents=True)
    Path(at.spool.tree.batch(at.batch)).rename(elsewhere / at.batch)


def _take_away(at: Well, job_id: str) -> None:
    at.entry(job_id).unlink()
    at.dir(job_id).rename(at.root("..") / job_id)
