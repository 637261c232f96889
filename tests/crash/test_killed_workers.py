"""The worker program for real: killed, stopped in its tracks, woken too late, and asked to end."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from breyta_spool import Spool, states
from breyta_spool.handler import ActiveJob, PythonHandler
from breyta_spool.worker import Settings, Worker
from tests.crash import worlds
from tests.crash.invariants import status_of, violations
from tests.crash.processes import Child
from tests.crash.worlds import TYPE, World, settle
from tests.world import until

BREYTA = str(Path(sys.executable).with_name("breyta"))

HANDLER = """#!/usr/bin/env bash
# Says that it began, then waits for the file that lets it go on; from the second attempt on it does not wait.
echo "$BREYTA_JOB_ATTEMPT $$" >>"$PLACE/began"
if [ "$BREYTA_JOB_ATTEMPT" = 1 ]; then
  until [ -e "$PLACE/go" ]; do sleep 0.02; done
fi
"$BREYTA_CLI_BIN" jobs worker finish --output "by=attempt-$BREYTA_JOB_ATTEMPT" >>"$PLACE/said" 2>&1
echo "$BREYTA_JOB_ATTEMPT ended with $?" >>"$PLACE/ended"
"""

STUBBORN = """#!/usr/bin/env bash
# Neither it nor what it started listens to SIGTERM.
trap '' TERM
bash -c 'trap "" TERM; echo "child $$" >>"$PLACE/began"; while :; do sleep 0.05; done' &
echo "$BREYTA_JOB_ATTEMPT $$" >>"$PLACE/began"
wait
"""


class Site:
    """A spool with one job, and the place where handlers leave their notes."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.world = worlds.queued(place / "spool")
        self.job_id = self.world.job_id
        self.workers: list[subprocess.Popen[bytes]] = []
        self.handler(HANDLER)

    @property
    def spool(self) -> Spool:
        return self.world.spool

    def handler(self, text: str) -> None:
        program = self.place / "handler.sh"
        program.write_text(text)
        program.chmod(0o755)

    def start(self, name: str, *options: str) -> subprocess.Popen[bytes]:
        """Start a worker with leases of one second."""
        words = ["--type", TYPE, "--worker-id", name, "--handler", str(self.place / "handler.sh")]
        words += ["--lease-duration", "1s", "--poll-interval", "50ms", "--grace", "200ms", *options]
        with open(self.place / f"{name}.log", "ab") as log:
            worker = subprocess.Popen(
                [BREYTA, "jobs", "worker", "run", *words],
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "BREYTA_SPOOL": self.spool.root, "PLACE": str(self.place)},
            )
        self.workers.append(worker)
        return worker

    def answer(self, worker: subprocess.Popen[bytes]) -> dict[str, Any]:
        """Wait for a worker to end well; gives what it tells."""
        out, _ = worker.communicate(timeout=20)
        assert worker.returncode == 0, out
        data: dict[str, Any] = json.loads(out)["data"]
        return data

    def log(self, name: str) -> str:
        return (self.place / f"{name}.log").read_text()

    def notes(self, name: str) -> list[str]:
        with suppress(FileNotFoundError):
            return (self.place / name).read_text().splitlines()
        return []

    def began(self, attempt: int) -> int:
        """Wait until the handler of an attempt has begun; gives its process id."""
        return int(until(lambda: [n.split()[1] for n in self.notes("began") if n.split()[0] == str(attempt)])[0])

    def let_go(self) -> None:
        (self.place / "go").touch()

    def state(self) -> states.Status:
        return status_of(self.spool, self.job_id)

    def end(self) -> None:
        """Leave no process behind: the workers, and the groups of handlers that outlived theirs."""
        for worker in self.workers:
            with suppress(ProcessLookupError):
                worker.kill()
            worker.communicate()
        for note in self.notes("began"):
            if note.split()[0].isdigit():
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(int(note.split()[1]), signal.SIGKILL)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.end()


def _is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def test_the_job_of_a_killed_worker_is_done_by_the_next(site: Site) -> None:
    first = site.start("first")
    site.began(1)
    first.kill()
    second = site.start("second")
    done = site.spool.await_job(site.job_id, timeout="20s")
    assert (done.status, done.outputs, done.worker_id) == (states.SUCCEEDED, {"by": "attempt-2"}, "second")
    assert [(a.attempt, a.status, a.worker_id) for a in done.attempts] == [
        (1, "lost", "first"),
        (2, states.SUCCEEDED, "second"),
    ]
    second.terminate()
    assert site.answer(second)["handledCount"] == 1
    assert violations(site.spool, [site.job_id], settled=True) == []


def test_a_stopped_worker_that_wakes_too_late_is_fenced(site: Site) -> None:
    first = site.start("first", "--once")
    site.began(1)
    first.send_signal(signal.SIGSTOP)
    second = site.start("second")
    done = site.spool.await_job(site.job_id, timeout="20s")
    assert (done.outputs, done.attempt) == ({"by": "attempt-2"}, 2)
    site.let_go()
    until(lambda: "1 ended with 6" in site.notes("ended"))
    first.send_signal(signal.SIGCONT)
    told = site.answer(first)
    assert (told["handledCount"], told["lostCount"]) == (0, 1)
    assert "its result is discarded" in site.log("first")
    assert site.spool.get(site.job_id) == done
    second.terminate()
    site.answer(second)
    assert violations(site.spool, [site.job_id], settled=True) == []


def test_a_worker_that_is_asked_to_end_finishes_what_runs_and_claims_nothing_more(site: Site) -> None:
    worker = site.start("first")
    site.began(1)
    other = site.spool.submit(TYPE).job_id
    worker.terminate()
    until(lambda: "stopping when the running jobs have ended" in site.log("first"))
    assert site.state().state == states.LEASED
    site.let_go()
    assert site.answer(worker)["handledCount"] == 1
    assert site.state() == states.Status(states.SUCCEEDED, 1)
    assert status_of(site.spool, other) == states.Status(states.QUEUED, 0)
    assert os.listdir(f"{site.spool.root}/workers") == []


def test_a_worker_that_is_asked_twice_ends_the_whole_handler_and_gives_the_job_back(site: Site) -> None:
    site.handler(STUBBORN)
    worker = site.start("first", "--lease-duration", "60s")
    handler = site.began(1)
    child = int(until(lambda: [n.split()[1] for n in site.notes("began") if n.startswith("child")])[0])
    worker.terminate()
    until(lambda: "a second signal" in site.log("first"))
    assert _is_alive(handler)
    worker.terminate()
    assert site.answer(worker)["givenBackCount"] == 1
    until(lambda: not _is_alive(handler) and not _is_alive(child), 5)
    assert site.state() == states.Status(states.QUEUED, 1)
    assert violations(site.spool, [site.job_id], settled=True) == []


def test_workers_that_are_killed_again_and_again_lose_nothing(tmp_path: Path) -> None:
    """Plain forks that claim, work a moment and finish, one of them killed every few hundredths of a second."""
    world = worlds.empty(tmp_path / "spool")
    choose = random.Random(11)
    workers = [Child(lambda: _work(world)) for _ in range(3)]
    for kill in range(60):
        jobs = [world.spool.submit(TYPE, {"kill": kill}, max_attempts=1000) for _ in range(3)]
        world.acknowledged += [job.job_id for job in jobs]
        time.sleep(choose.uniform(0.01, 0.05))
        number = choose.randrange(3)
        workers[number].kill()
        workers[number] = Child(lambda: _work(world))
    for worker in workers:
        worker.kill()
    assert set(settle(world).values()) == {states.SUCCEEDED}


def _work(world: World) -> None:
    def handle(job: ActiveJob) -> dict[str, Any]:
        job.attach_kv("summary", {"attempt": job.attempt})
        time.sleep(0.003)
        return {"outputs": {"attempt": job.attempt}}

    spool = world.another()
    handler = PythonHandler(handle, "test", spool.root)
    Worker(spool, handler, Settings(TYPE, lease="1s", poll=0.05, concurrency=2)).run()
