"""The same on MooseFS through FUSE: two mounts of one file system, with workers on both."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest

from tests.hosts import moosefs
from tests.hosts.moosefs import MooseLab
from tests.hosts.scenarios import SLACK, at_rest, drained_by_both, once_each, told, worker, worker_done


@pytest.fixture(scope="module")
def mounted(whole: bool) -> Iterator[MooseLab]:
    if not whole:
        pytest.skip("only with --whole: it takes minutes")
    if why := moosefs.lacking():
        pytest.skip(why)
    with moosefs.running() as lab:
        yield lab


@pytest.fixture
def lab(mounted: MooseLab) -> Iterator[MooseLab]:
    yield mounted
    mounted.settle()


def test_two_mounts_do_each_of_many_jobs_exactly_once(lab: MooseLab, locks: str) -> None:
    spool = lab.new_spool(locks)
    submitting = lab.a.act("submit", spool, 1000)
    submitting.output(300)
    done = drained_by_both(lab.a, lab.b, spool)
    print(f"MooseFS, {locks}: { ({name: len(jobs) for name, jobs in done.items()}) }")
    once_each(spool, [lab.b], told(submitting, "submitted"), done)


@pytest.mark.parametrize("jobs", [1, 4], ids=["a job", "a batch"])
@pytest.mark.parametrize("interval", [0.2, 1])
def test_an_await_sees_the_end_on_another_mount_within_its_interval(lab: MooseLab, interval: float, jobs: int) -> None:
    spool = lab.new_spool("no locks")
    asking = lab.a.act("ask", spool, f"{interval}s", 3, jobs)
    replying = lab.b.act("reply", spool, "b", 3 * jobs, 0.5)
    seen = asking.look("seen", 3, 240)
    ended = replying.look("ending", 3 * jobs)[jobs - 1 :: jobs]
    delays = [after - before for (after, _), (before, _) in zip(seen, ended, strict=True)]
    print(f"MooseFS, interval {interval} s, {jobs} jobs: {', '.join(f'{delay:.2f}' for delay in delays)} s")
    assert max(delays) < interval + SLACK


@pytest.mark.parametrize("first", ["heartbeat", "progress", "attach", "finish"])
def test_a_stopped_process_is_fenced_whatever_it_does_first(lab: MooseLab, first: str) -> None:
    spool = lab.new_spool("no locks")
    submitting = lab.a.act("submit", spool, 1)
    submitting.output()
    holding = lab.a.act("hold", spool, "a", first, "2s", GO_ON=f"{lab.a.share}/go-on-{spool}")
    holding.line("holds")
    holding.signal(signal.SIGSTOP)
    try:
        lab.b.act("reply", spool, "b", 1, 0).output(120)
    finally:
        holding.signal(signal.SIGCONT)
    lab.a.run(f"touch {lab.a.share}/go-on-{spool}")
    assert set(holding.answer().values()) == {"LeaseLost"}
    at_rest(spool, [lab.a, lab.b], told(submitting, "submitted"), {"b": told(submitting, "submitted")})


def test_a_worker_by_the_command_line_finds_what_another_mount_submits(lab: MooseLab) -> None:
    spool = lab.new_spool()
    working = worker(lab.b, spool, "--poll-interval", "0.5s")
    submitting = lab.a.act("submit", spool, 20)
    submitting.output()
    end = time.monotonic() + 60
    while len(worker_done(working)) < 20 and time.monotonic() < end:
        time.sleep(0.1)
    working.signal(signal.SIGTERM)
    working.output()
    once_each(spool, [lab.a], told(submitting, "submitted"), {"b": worker_done(working)})
