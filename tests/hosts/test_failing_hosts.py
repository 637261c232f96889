"""A host that hangs is fenced; one whose power is cut, client or server, loses nothing that was acknowledged."""

from __future__ import annotations

import signal
import time

import pytest

from tests.hosts.lab import Lab
from tests.hosts.scenarios import at_rest, told, worker
from tests.world import until


@pytest.mark.parametrize("first", ["heartbeat", "progress", "attach", "finish"])
def test_a_frozen_host_is_fenced_whatever_it_does_first_when_it_thaws(lab: Lab, first: str) -> None:
    spool = lab.new_spool("no locks")
    submitting = lab.a.act("submit", spool, 1)
    submitting.output()
    (job_id,) = told(submitting, "submitted")
    holding = lab.a.act("hold", spool, "a", first)
    holding.line("holds")
    lab.a.freeze()
    try:
        began = time.monotonic()
        lab.b.act("reply", spool, "b", 1, 0).output(120)
        print(f"NFS {lab.version}: another host had ended the job after {time.monotonic() - began:.1f} s")
    finally:
        lab.a.thaw()
    lab.a.let_go_on()
    assert set(holding.answer().values()) == {"LeaseLost"}
    at_rest(spool, [lab.server, lab.a, lab.b], [job_id], {"b": [job_id]})
    for host in (lab.a, lab.b):
        shown = host.breyta(spool, "jobs", "show", job_id).output()
        assert "too late" not in shown
        assert '"late"' not in shown


def test_a_worker_on_a_frozen_host_discards_what_its_handler_made(lab: Lab) -> None:
    spool = lab.new_spool()
    submitting = lab.a.act("submit", spool, 1)
    submitting.output()
    frozen = worker(lab.a, spool, "--lease-duration", "2s", "--handler-arg", "4", handler="sleep")
    until(lambda: lab.a.run("pgrep -x sleep || true"))
    lab.a.freeze()
    try:
        lab.b.act("reply", spool, "b", 1, 0).output(120)
    finally:
        lab.a.thaw()
    until(lambda: any("is discarded" in line for line in frozen.errors), 60)
    frozen.signal(signal.SIGTERM)
    answer = frozen.output()
    assert '"lostCount": 1' in answer
    assert '"handledCount": 0' in answer
    at_rest(spool, [lab.server, lab.a], told(submitting, "submitted"), {"b": told(submitting, "submitted")})


def test_a_clients_power_cut_gives_its_jobs_to_the_other_and_loses_nothing(lab: Lab, locks: str) -> None:
    spool = lab.new_spool(locks)
    submitting = lab.a.act("submit", spool, 5000)
    drains = {host.name: host.act("drain", spool, host.name, 12, "3s") for host in (lab.a, lab.b)}
    drains["a"].look("done", 20)
    drains["b"].look("done", 20)
    lab.a.power_cut()
    drains["b"].output(300)
    done = {name: told(drain, "done") for name, drain in drains.items()}
    print(f"NFS {lab.version}, {locks}: {len(told(submitting, 'submitted'))} submitted before the cut")
    lab.boot()
    at_rest(spool, [lab.server, lab.a, lab.b], told(submitting, "submitted"), done)


def test_a_servers_power_cuts_lose_nothing_and_clients_go_on_by_themselves(lab: Lab, locks: str) -> None:
    spool = lab.new_spool(locks)
    submitting = lab.a.act("submit", spool, 400)
    drains = {host.name: host.act("drain", spool, host.name, "told") for host in (lab.a, lab.b)}
    for cut in (1, 2):
        submitting.look("submitted", 130 * cut, 120)
        lab.server.power_cut()
        began = time.monotonic()
        lab.boot()
        submitting.look("submitted", 130 * cut + 1, 180)
        print(f"NFS {lab.version}, {locks}: {time.monotonic() - began:.1f} s from a cut to the next submit")
    submitting.output(180)
    for host in (lab.a, lab.b):
        host.let_go_on()
    for drain in drains.values():
        drain.output(180)
    done = {name: told(drain, "done") for name, drain in drains.items()}
    at_rest(spool, [lab.server, lab.b], told(submitting, "submitted"), done)
