"""The protocol of the design in bare system calls: the yardstick between hosts. No barrier, no lease, no check.

Submit makes a directory with three files, a link and a rename; work makes four renames, a touch, a directory, two files
and a link, and reads two files. Paths are short: ``jobs/d/m``, ``queued/t/b``, ``leased/t``, ``finished/t``.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import time
from collections.abc import Callable

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL
_REQUEST = json.dumps({"x": "y" * 280}).encode()
_CLAIM = b"x" * 200
_WINDOW = 200
"""How many names of a listing are tried before the queue is read again."""


def make(root: str) -> None:
    """Make the directories."""
    for place in ("tmp", "jobs/d/m", "queued/t/b", "leased/t", "finished/t"):
        os.makedirs(f"{root}/{place}", exist_ok=True)


def submit(root: str, jobs: int) -> None:
    """Submit jobs one after the other."""
    for number in range(jobs):
        job_id = f"job-{number:05d}{secrets.token_hex(8)}"
        staged = f"{root}/tmp/{job_id}"
        os.mkdir(staged)
        _write(f"{staged}/job.json", _REQUEST)
        _write(f"{staged}/payload.json", _REQUEST)
        _write(f"{staged}/status.queued.0", b"")
        os.symlink(f"../../../jobs/d/m/{job_id}", f"{root}/queued/t/b/{job_id}")
        os.rename(staged, f"{root}/jobs/d/m/{job_id}")


def work(root: str, me: str, in_hand: Callable[[], None], goes_on: Callable[[], bool]) -> None:
    """Claim and finish what waits while ``goes_on`` says so; ``in_hand`` is called with each job that was won."""
    queue = f"{root}/queued/t/b"
    while goes_on():
        names = sorted(entry.name for entry in os.scandir(queue))
        if not names:
            time.sleep(0.2)
            continue
        first = random.randrange(len(names)) if len(names) > 50 else 0
        for name in (names[first:] + names[:first])[:_WINDOW]:
            _one(root, queue, name, me, in_hand)
            if not goes_on():
                break


def _one(root: str, queue: str, name: str, me: str, in_hand: Callable[[], None]) -> None:
    job, token = f"{root}/jobs/d/m/{name}", secrets.token_hex(6)
    try:
        os.utime(f"{job}/status.queued.0")
        os.rename(f"{job}/status.queued.0", f"{job}/status.leased.1.{token}")
    except OSError:
        return  # somebody else was faster
    try:
        os.rename(f"{queue}/{name}", f"{root}/leased/t/{name}")
    except FileNotFoundError:
        pass
    os.mkdir(f"{job}/attempt-1")
    _write(f"{job}/attempt-1/claim.json", _CLAIM)
    _read(f"{job}/job.json")
    _read(f"{job}/payload.json")
    in_hand()
    _write(f"{job}/attempt-1/result.json", json.dumps({"by": me, "n": name}).encode())
    os.rename(f"{job}/status.leased.1.{token}", f"{job}/status.succeeded.1")
    os.symlink("attempt-1/result.json", f"{job}/result.json")
    os.rename(f"{root}/leased/t/{name}", f"{root}/finished/t/{name}")


def ended(root: str) -> int:
    """How many jobs have succeeded, by their status files."""
    jobs = f"{root}/jobs/d/m"
    return sum(os.path.exists(f"{jobs}/{name}/status.succeeded.1") for name in os.listdir(jobs))


def _write(path: str, data: bytes) -> None:
    fd = os.open(path, _NEW, 0o644)
    os.write(fd, data)
    os.close(fd)


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
