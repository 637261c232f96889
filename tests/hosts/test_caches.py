"""What one host has done the others see soon: an NFS client remembers what it has looked at, and what was not there."""

from __future__ import annotations

import time

import pytest

from tests.hosts.lab import Lab
from tests.hosts.program import Program
from tests.hosts.scenarios import SLACK, told, worker, worker_done
from tests.world import until


def test_a_worker_that_looked_before_there_was_a_queue_finds_the_first_job(lab: Lab, locks: str) -> None:
    spool = lab.new_spool(locks)
    replying = lab.b.act("reply", spool, "b", 1, 0)
    time.sleep(4)
    submitting = lab.a.act("submit", spool, 1)
    came, _ = submitting.line("submitted")
    found, _ = replying.line("ending", 90)
    assert found - came < SLACK
    replying.output()


def test_a_worker_that_met_an_entry_before_its_job_finds_the_job(lab: Lab, locks: str) -> None:
    spool = lab.new_spool(locks)
    submitting = lab.a.act("submit_slowly", spool)
    submitting.line("midway")
    replying = lab.b.act("reply", spool, "b", 1, 0)
    time.sleep(4)
    assert not told(replying, "ending")
    lab.a.let_go_on()
    came, _ = submitting.line("submitted")
    found, _ = replying.line("ending", 90)
    assert found - came < SLACK
    replying.output()


def test_a_listing_shows_the_second_of_two_changes_that_came_at_once(lab: Lab) -> None:
    spool, count = lab.new_spool(), 12
    changing = lab.a.act("change_twice", spool, count)
    changing.line("changing")
    watching = lab.b.act("watch", spool, 300)
    watching.line("sees 0")
    lab.a.let_go_on()
    late = []
    for number in range(1, count + 1):
        came, now = changing.look("now", number)[-1]
        until(lambda came=came: time.monotonic() > came + 0.7)
        if watching.lines[-1][1] != now.replace("now", "sees"):
            late.append((now, watching.lines[-1][1]))
    assert not late


@pytest.mark.parametrize("jobs", [1, 4], ids=["a job", "a batch"])
@pytest.mark.parametrize("interval", [0.2, 0.5, 1, 2])
def test_an_await_sees_the_end_on_another_host_within_its_interval(lab: Lab, interval: float, jobs: int) -> None:
    count = 5 if jobs == 1 else 2
    spool = lab.new_spool("no locks")
    asking = lab.a.act("ask", spool, f"{interval}s", count, jobs)
    replying = lab.b.act("reply", spool, "b", count * jobs, max(1.2, 2 * interval / jobs))
    seen = asking.look("seen", count, 240)
    ended = replying.look("ending", count * jobs)[jobs - 1 :: jobs]
    delays = [after - before for (after, _), (before, _) in zip(seen, ended, strict=True)]
    print(f"NFS {lab.version}, interval {interval} s, {jobs} jobs: {', '.join(f'{delay:.2f}' for delay in delays)} s")
    assert max(delays) < interval + SLACK


def test_an_idle_worker_takes_what_another_host_submits_at_its_next_poll(lab: Lab) -> None:
    spool = lab.new_spool()
    idle = worker(lab.b, spool, "--poll-interval", "1s")
    until(lambda: any("takes work jobs" in line for line in idle.errors))
    delays = []
    for number in range(4):
        time.sleep(2)
        came, _ = lab.a.act("submit", spool, 1).line("submitted")
        until(lambda number=number: len(worker_done(idle)) > number, 60)
        delays.append(time.monotonic() - came)
    print(f"NFS {lab.version}, polls every second: {', '.join(f'{delay:.2f}' for delay in delays)} s")
    assert max(delays) < 1 + SLACK


def test_a_cancel_on_one_host_ends_the_handler_on_another(lab: Lab) -> None:
    spool = lab.new_spool()
    job_id = told(_ended(lab.a.act("submit", spool, 1)), "submitted")[0]
    working = worker(lab.b, spool, "--poll-interval", "1s", "--handler-arg", "300", handler="sleep")
    until(lambda: lab.b.run("pgrep -x sleep || true"))
    time.sleep(3)
    cancelled = lab.a.breyta(spool, "jobs", "cancel", job_id)
    cancelled.output()
    began = time.monotonic()
    until(lambda: not lab.b.run("pgrep -x sleep || true"), 60)
    took = time.monotonic() - began
    print(f"NFS {lab.version}: the handler ended {took:.2f} s after the cancel was answered")
    assert took < 1 + SLACK
    until(lambda: any(f"{job_id} cancelled" in line for line in working.errors))
    assert lab.a.breyta(spool, "jobs", "show", job_id).output().count('"cancelled"')


def _ended(program: Program) -> Program:
    program.output()
    return program
