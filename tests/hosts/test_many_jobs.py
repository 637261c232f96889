"""Workers on two hosts drain many jobs: none is lost, none is done twice."""

from __future__ import annotations

import signal
import time

from tests.hosts.lab import Lab
from tests.hosts.scenarios import once_each, told, worker, worker_done
from tests.world import until

JOBS = {"locks": 600, "no locks": 2000}


def test_workers_on_two_hosts_do_each_of_many_jobs_exactly_once(lab: Lab, locks: str) -> None:
    spool, count = lab.new_spool(locks), JOBS[locks]
    hosts = (lab.a, lab.b)
    workers = {host.name: worker(host, spool, "--poll-interval", "0.2s") for host in hosts}
    drains = {host.name: host.act("drain", spool, host.name, 10) for host in hosts}
    submitting = lab.a.act("submit", spool, count)
    submitting.output(300)
    for drain in drains.values():
        drain.output(300)
    for program in workers.values():
        program.signal(signal.SIGTERM)
        program.output()
    done = {name: told(drains[name], "done") + worker_done(workers[name]) for name in drains}
    print(f"NFS {lab.version}, {locks}: { ({name: len(jobs) for name, jobs in done.items()}) }")
    assert all(worker_done(program) for program in workers.values())
    once_each(spool, [lab.server, lab.b], told(submitting, "submitted"), done)


def test_two_hosts_drain_a_batch_and_the_counts_are_right_on_both(lab: Lab, locks: str) -> None:
    spool = lab.new_spool(locks)
    asking = lab.a.act("ask", spool, "0.5s", 1, 200)
    asking.line("asked")
    drains = {host.name: host.act("drain", spool, host.name, 3) for host in (lab.a, lab.b)}
    asking.output(120)
    done = {name: told(drain, "done") for name, drain in drains.items() if drain.wait() == 0}
    batch_id = told(asking, "asked")[0]
    once_each(spool, [lab.server, lab.b], [f"job-{batch_id[6:]}-{n:05}" for n in range(1, 201)], done)
    began = time.monotonic()
    until(lambda: '"succeededCount": 200' in lab.b.breyta(spool, "jobs", "batches", "show", batch_id).output(), 60)
    assert time.monotonic() - began < 30
