"""The layout by hand: the bare system calls of submit, claim and finish, and nothing else.

This is the floor: the kernel's work for the same files, links and renames, called from Python without a library.
What is written are the bytes of a real job (``Sample``), and every path is as long as the product's.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from time import perf_counter

from tests.bench.linux import syncfs

JOB_TYPE = "t"
DAY, MINUTE = "20261122", "1530"
BUCKET = f"{DAY}-{MINUTE}"
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL


@dataclass(frozen=True)
class Sample:
    """The bytes of each file of one job that the product submitted and finished."""

    job: bytes
    payload: bytes
    result: bytes


class Bare:
    """A tree like a spool's, below ``root``, which is made."""

    def __init__(self, root: str, sample: Sample) -> None:
        self.root = root
        self._sample = sample
        self._numbers = count()
        self._minute = f"{root}/jobs/{DAY}/{MINUTE}"
        self.bell = f"{root}/locks/bell.{JOB_TYPE}"
        self.queue = f"{root}/queued/{JOB_TYPE}/{BUCKET}"
        self._finished = f"{root}/finished/succeeded.{JOB_TYPE}/{BUCKET}"
        for directory in (self.bell, self._minute, self.queue, self._finished):
            os.makedirs(directory, exist_ok=True)

    def new_id(self) -> str:
        """An id as long as the product's; the next one sorts after it."""
        return f"job-{next(self._numbers):026d}"

    def job_dir(self, job_id: str) -> str:
        """Where a job is."""
        return f"{self._minute}/{job_id}"

    def submit(self, job_id: str) -> None:
        """Write the request, queue it, make its status, ring."""
        job = f"{self._minute}/{job_id}"
        os.mkdir(job)
        _write(f"{job}/job.json", self._sample.job)
        _write(f"{job}/payload.json", self._sample.payload)
        os.symlink(f"../../../jobs/{DAY}/{MINUTE}/{job_id}", f"{self.queue}/{job_id}")
        os.mknod(f"{job}/status.queued.0", 0o666)
        os.close(os.open(self.bell, os.O_RDONLY))

    def claim(self, job_id: str) -> str:
        """Take the job; gives the path of its status file."""
        job = f"{self._minute}/{job_id}"
        queued, leased = f"{job}/status.queued.0", f"{job}/status.leased.1.{job_id[-16:].lower()}"
        os.utime(queued)
        os.rename(queued, leased)
        read(f"{job}/job.json")
        read(f"{job}/payload.json")
        return leased

    def finish(self, job_id: str, leased: str) -> None:
        """Write the result and end the job."""
        job = f"{self._minute}/{job_id}"
        _write(f"{job}/result.1.json", self._sample.result)
        os.rename(leased, f"{job}/status.succeeded.1")
        os.symlink("result.1.json", f"{job}/result.json")
        os.rename(f"{self.queue}/{job_id}", f"{self._finished}/{job_id}")


def submit(spool: Bare, jobs: int, clock: Callable[[], float] = perf_counter) -> float:
    """Submit jobs one after the other; gives the seconds it took."""
    ids = [spool.new_id() for _ in range(jobs)]
    began = clock()
    for job_id in ids:
        spool.submit(job_id)
    return clock() - began


def submit_durably(spool: Bare, jobs: int) -> float:
    """The same, with each job on the disk before the next begins."""
    ids = [spool.new_id() for _ in range(jobs)]
    fd = os.open(spool.root, os.O_RDONLY)
    try:
        began = perf_counter()
        for job_id in ids:
            spool.submit(job_id)
            syncfs(fd)
        return perf_counter() - began
    finally:
        os.close(fd)


def drain(spool: Bare, jobs: int, clock: Callable[[], float] = perf_counter) -> float:
    """Claim and finish jobs; gives the seconds from the first job in hand to the last: ``jobs - 1`` cycles."""
    marks = []
    for job_id in sorted(os.listdir(spool.queue))[:jobs]:
        leased = spool.claim(job_id)
        marks.append(clock())
        spool.finish(job_id, leased)
    if len(marks) != jobs:
        raise RuntimeError(f"{len(marks)} jobs were drained, not {jobs}")
    return marks[-1] - marks[0]


def _write(path: str, data: bytes) -> None:
    fd = os.open(path, _NEW, 0o666)
    os.write(fd, data)
    os.close(fd)


def read(path: str) -> bytes:
    """The bytes of a small file."""
    fd = os.open(path, os.O_RDONLY)
    data = os.read(fd, 1 << 16)
    os.close(fd)
    return data
