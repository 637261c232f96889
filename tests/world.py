"""The small helpers that tests build their world with. Real directories, real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from breyta_spool import Job, Spool
from breyta_spool.handler import ActiveJob, PythonHandler
from breyta_spool.worker import Settings, Tally, Worker

BREYTA = [sys.executable, "-m", "breyta_cli"]


class Answer:
    """What one run of the command line printed, and how it ended."""

    def __init__(self, done: subprocess.CompletedProcess[bytes]) -> None:
        self.code = done.returncode
        self.stdout = done.stdout.decode()
        self.stderr = done.stderr.decode()

    @property
    def document(self) -> dict[str, Any]:
        assert self.stdout, self.stderr
        document: dict[str, Any] = json.loads(self.stdout)
        return document

    @property
    def data(self) -> dict[str, Any]:
        assert self.code == 0, self.stdout + self.stderr
        assert self.document["ok"] is True
        data: dict[str, Any] = self.document["data"]
        return data

    @property
    def job(self) -> dict[str, Any]:
        job: dict[str, Any] = self.data["job"]
        return job

    @property
    def error(self) -> dict[str, Any]:
        assert self.code != 0
        assert self.document["ok"] is False
        error: dict[str, Any] = self.document["error"]
        return error


class Cli:
    """Runs the command line on one spool, each call a process of its own."""

    def __init__(self, spool: str, place: Path) -> None:
        self.spool = spool
        self.place = place
        self.environment = {**os.environ, "BREYTA_SPOOL": spool}
        self.environment.pop("PYTHONDONTWRITEBYTECODE", None)  # or each start compiles everything again

    def __call__(self, *args: str, stdin: bytes = b"", **environment: str) -> Answer:
        done = subprocess.run(
            [*BREYTA, *args],
            input=stdin,
            capture_output=True,
            env=self.environment | environment,
            cwd=self.place,
            timeout=60,
            check=False,
        )
        return Answer(done)

    def start(self, *args: str, **environment: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*BREYTA, *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environment | environment,
            cwd=self.place,
        )


def script(place: Path, text: str, name: str = "handler.sh") -> str:
    """A handler program in bash."""
    path = place / name
    path.write_text("#!/usr/bin/env bash\nset -euo pipefail\n" + text)
    path.chmod(0o755)
    return str(path)


def work_off(
    spool: Spool, function: Callable[[ActiveJob], Any] = lambda job: None, job_type: str = "t", **settings: Any
) -> Tally:
    """Let a worker in this process handle what waits, one job after the other, until nothing is left."""
    total = Tally()
    while True:
        worker = Worker(
            spool, PythonHandler(function, "test", spool.root), Settings(job_type, once=True, poll=0.05, **settings)
        )
        done = worker.run()
        if not (done.handled or done.lost or done.given_back):
            return total
        total.handled += done.handled
        total.failed += done.failed
        total.lost += done.lost


def until(what: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Wait until something is true; gives it."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)
    return found


def job_dir(spool: Spool, job: Job | str) -> Path:
    return Path(spool.tree.job(job if isinstance(job, str) else job.job_id))


def age_lease(spool: Spool, job: Job | str, seconds: float = 3600) -> None:
    """Make a lease look as if it had not been renewed for long."""
    (status,) = job_dir(spool, job).glob("status.leased.*")
    then = time.time() - seconds
    os.utime(status, (then, then))


def everything_in(directory: str | Path) -> set[str]:
    """Every path below a directory."""
    return {str(path.relative_to(directory)) for path in Path(directory).rglob("*")}


def end_process(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        process.kill()
    process.communicate()
