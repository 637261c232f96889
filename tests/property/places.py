"""The files of a full spool that a reader parses, by what they are."""

from __future__ import annotations

from pathlib import Path

from tests.property.worlds import Full


def of(world: Full) -> dict[str, Path]:
    """Every place whose bytes are read, by a name for it."""
    root, ended, leased = world.root, world.ended_dir, world.leased_dir
    attempt, running = ended / "attempt-1", leased / "attempt-1"
    found = {
        "spool.json": root / "spool.json",
        "batch.json": world.job(f"job-{world.batch[6:]}-00001").parent / "batch.json",
        "batch, cancel.json": world.job(f"job-{world.batch[6:]}-00001").parent / "cancel.json",
        "worker": root / "workers/worker-1.json",
        "account": root / f"accounts/{world.account}/account.1.json",
        "key": root / f"accounts/{world.key}/key.json",
        "revoked": root / f"accounts/{world.key}/revoked.json",
        "queued, job.json": world.job(world.queued) / "job.json",
        "queued, payload.json": world.job(world.queued) / "payload.json",
        "queued, cancel.json": world.job(world.queued) / "cancel.json",
    }
    for name in ("job.json", "payload.json", "cancel.json"):
        found |= {f"ended, {name}": ended / name, f"leased, {name}": leased / name}
    for name in ("claim", "result"):
        found |= {f"ended, {name}.json": ended / f"{name}.1.json", f"leased, {name}.json": leased / f"{name}.1.json"}
    for name in ("progress.jsonl", "artifacts.jsonl", "handler.log"):
        found |= {f"ended, {name}": attempt / name, f"leased, {name}": running / name}
    for name in ("kv/summary.json", "tables/findings.jsonl", "tables/findings.table.json"):
        found |= {f"ended, {name}": attempt / "artifacts" / name, f"leased, {name}": running / "artifacts" / name}
    return found


NAMES = [
    "spool.json", "batch.json", "batch, cancel.json", "worker", "account", "key", "revoked",
    *(f"queued, {name}" for name in ("job.json", "payload.json", "cancel.json")),
    *(
        f"{whose}, {name}"
        for whose in ("ended", "leased")
        for name in (
            "job.json", "payload.json", "cancel.json", "claim.json", "progress.jsonl", "artifacts.jsonl", "result.json",
            "handler.log", "kv/summary.json", "tables/findings.jsonl", "tables/findings.table.json",
        )
    ),
]  # fmt: skip


def valid(world: Full, name: str) -> bytes:
    """What stands in a place, or would: the first line of a list."""
    path = of(world)[name]
    if path.exists() and path.suffix == ".jsonl":
        return path.read_bytes().split(b"\n")[0] + b"\n"
    if path.exists():
        return path.read_bytes()
    if name == "revoked":
        return f'{{"keyId": "{world.key}", "revokedAt": "2026-11-22T15:30:00.000Z", "revokedBy": "a"}}\n'.encode()
    return b'{"requestedAt": "2026-11-22T15:30:00.000Z", "requestedBy": "me", "reason": "wrong"}\n'
