"""A spool with something in every place, and every question that a caller can ask of it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from breyta_spool import Spool
from breyta_spool.errors import doing
from breyta_spool.logs import HandlerLog
from breyta_spool.overview import overview
from breyta_spool.rows import Query

TYPE = "work"
WORKSPACE = "ws-acme"


@dataclass(frozen=True)
class Full:
    """The spool and what is in it."""

    root: Path
    queued: str
    leased: str
    token: str
    ended: str
    failed: str
    batch: str
    account: str
    key: str
    api_key: str
    kv: str
    table: str
    file: str

    def copied(self, to: Path) -> Full:
        """The same spool in another place."""
        shutil.copytree(self.root, to, symlinks=True)
        return replace(self, root=to)

    def job(self, job_id: str) -> Path:
        """A job's directory."""
        return Path(Spool.open(self.root).tree.job(job_id))

    @property
    def ended_dir(self) -> Path:
        """The directory of the job that ended well, with something of every kind attached."""
        return self.job(self.ended)

    @property
    def leased_dir(self) -> Path:
        """The directory of the job that somebody works on."""
        return self.job(self.leased)


@contextmanager
def scratch() -> Iterator[Path]:
    """A directory in memory where there is one: it holds any time stamp, and what is tried is no disk's speed."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="hostile-", dir=memory) as place:
        yield Path(place)


def make(place: Path) -> Full:
    """Make the spool in a directory."""
    spool = Spool.init(place / "spool", workspace=WORKSPACE, durability="none")
    account = spool.accounts.create("a worker", ["jobs.worker", "jobs.read"], metadata={"team": "a"})
    key, api_key = spool.accounts.create_key(account.service_account_id, "its key")
    batch = spool.submit_batch(TYPE, [{"payload": {"n": n}} for n in range(3)])
    for how in ("complete", "fail"):
        lease = spool.claim(TYPE, "worker-1", batch_id=batch.batch_id)
        assert lease is not None
        lease.complete(outputs={"n": 1}) if how == "complete" else lease.fail("no such surface")
    ended = _ended(spool, place)
    failed = _claimed(spool, spool.submit(TYPE, {"n": 2}).job_id)
    failed.fail("no such surface", details={"n": 1})
    leased = spool.submit(TYPE, {"n": 3}, idempotency_key="again").job_id
    held = _claimed(spool, leased)
    _attach(held.dir, place)
    held.progress("half", details={"done": 1}, metrics={"n": 1})
    queued = spool.submit(TYPE, ["any", {"n": 4}], metadata={"who": "me"}).job_id
    _worker(spool)
    uris = {str(a["kind"]): str(a["resourceUri"]) for a in spool.get(ended).artifacts}
    return Full(
        root=Path(spool.root), queued=queued, leased=leased, token=held.token, ended=ended, failed=failed.job_id,
        batch=batch.batch_id, account=account.service_account_id, key=key.key_id, api_key=api_key,
        kv=uris["kv"], table=uris["table"], file=uris["file"],
    )  # fmt: skip


def _claimed(spool: Spool, job_id: str) -> Any:
    while lease := spool.claim(TYPE, "worker-1", labels={"gpu": True}, lease="1h"):
        if lease.job_id == job_id:
            return lease
        lease.give_back()
    raise AssertionError("it was not claimed")


def _ended(spool: Spool, place: Path) -> str:
    lease = _claimed(spool, spool.submit(TYPE, {"n": 1}).job_id)
    _attach(lease.dir, place)
    lease.progress("nearly", status="started")
    Path(lease.dir.path, "handler.log").write_text("it went well\n")
    lease.complete(outputs={"n": 1}, metrics={"ms": 1.5}, summary="done")
    return str(lease.job_id)


def _attach(attempt: Any, place: Path) -> None:
    report = place / "report.md"
    report.write_text("# Report\n")
    attempt.attach_file(str(report))
    attempt.attach_kv("summary", {"findings": 1}, ttl_seconds=3600)
    attempt.attach_table("findings", [{"id": 1, "title": "a"}, {"id": 2, "title": "b"}], key_fields=["id"])
    attempt.attach_table("findings", [{"id": 2, "title": "c"}], write_mode="upsert")


def _worker(spool: Spool) -> None:
    from breyta_spool import files, jsonio
    from breyta_spool.records import Worker

    worker = Worker(
        worker_id="worker-1", job_type=TYPE, host="host-a", pid=1, started_at="2026-11-22T15:30:00.000Z", beat_ms=1000
    )
    files.write_new(spool.tree.worker("worker-1"), jsonio.record(worker.to_map()))


def questions(world: Full) -> Iterator[tuple[str, Callable[[], object]]]:
    """What a caller can ask of a spool and do to it, reads before writes, each by its name."""
    spool = Spool.open(world.root)
    yield from _reads(spool, world)
    yield "with a key", lambda: Spool.open(world.root, world.api_key).list()
    yield "with a key, claim", lambda: Spool.open(world.root, world.api_key).claim(TYPE, "worker-2")
    yield from _writes(spool, world)


def _reads(spool: Spool, world: Full) -> Iterator[tuple[str, Callable[[], object]]]:
    jobs = (world.queued, world.leased, world.ended, world.failed)
    resources = spool.resources
    for job_id in jobs:
        yield f"get {job_id}", lambda job_id=job_id: spool.get(job_id).to_map()
    yield "list", lambda: [job.summary_map() for job in spool.list(limit=100)]
    yield "list of a status", lambda: spool.list(TYPE, "succeeded")
    yield "list batches", spool.list_batches
    yield "get batch", lambda: spool.get_batch(world.batch, include_jobs=True)
    yield "workers", spool.workers
    yield "overview", lambda: overview(spool)
    yield "list resources", lambda: resources.list(limit=100)
    for uri in (world.file, world.kv, world.table):
        yield f"get {uri}", lambda uri=uri: resources.get(uri)
        yield f"read {uri}", lambda uri=uri: resources.read(uri)
        yield f"raw {uri}", lambda uri=uri: _raw(spool, uri)
    yield "query", lambda: resources.query(world.table, Query(where=[["id", ">", 0]], sort=[["title", "desc"]]))
    yield "row", lambda: resources.get_row(world.table, {"id": 2})
    yield "export", lambda: resources.export(world.table, f"{world.root}-{os.urandom(4).hex()}.csv")
    yield "logs", lambda: b"".join(HandlerLog(spool, world.ended, None).new())
    yield "accounts", spool.accounts.list
    yield "keys", lambda: spool.accounts.keys(world.account)


def _looked_after(spool: Spool) -> None:
    with doing("look after the spool"):
        try:
            spool.claims.expire(TYPE)
        finally:
            spool.claims.sweep()


def _raw(spool: Spool, uri: str) -> bytes:
    with spool.resources.open(uri) as pieces:
        return b"".join(pieces)


def _writes(spool: Spool, world: Full) -> Iterator[tuple[str, Callable[[], object]]]:
    yield "await", lambda: spool.await_job(world.ended, timeout="5ms", interval="1ms")
    yield "await leased", lambda: spool.await_job(world.leased, timeout="5ms", interval="1ms")
    yield "await batch", lambda: spool.await_batch(world.batch, timeout="5ms", interval="1ms")
    yield "retry", lambda: spool.retry(world.failed)
    yield "heartbeat", lambda: spool.lease(world.leased, world.token).heartbeat("2h")
    yield "progress", lambda: spool.lease(world.leased, world.token).progress("more")
    yield "attach", lambda: _attach(spool.lease(world.leased, world.token).dir, world.root.parent)
    yield "cancel leased", lambda: spool.cancel(world.leased)
    yield "finish", lambda: spool.lease(world.leased, world.token).complete(outputs={"n": 2})
    yield "expire", lambda: _looked_after(spool)
    yield "claim", lambda: spool.claim(TYPE, "worker-2")
    yield "submit", lambda: spool.submit(TYPE, idempotency_key="again")
    yield "cancel", lambda: spool.cancel(world.queued)
    yield "cancel batch", lambda: spool.cancel_batch(world.batch)
    yield "update account", lambda: spool.accounts.update(world.account, status="disabled")
    yield "revoke", lambda: spool.accounts.revoke_key(world.account, world.key)
