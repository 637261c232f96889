"""Hosts whose clocks differ, by an hour or by days, agree on all the same: the file server's clock alone counts."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.hosts.guest import Guest
from tests.hosts.lab import Lab
from tests.hosts.scenarios import SLACK, at_rest, told

HOUR, DAY = 3600, 86_400


def _set_clock(host: Guest, ahead: float) -> None:
    host.run(f"date -s @{time.time() + ahead:.3f}")


@pytest.fixture(params=[HOUR, 2 * DAY], ids=["an hour", "two days"])
def skewed(request: pytest.FixtureRequest, lab: Lab) -> Iterator[Lab]:
    """The lab with A's clock ahead and B's behind."""
    _set_clock(lab.a, request.param)
    _set_clock(lab.b, -request.param)
    yield lab
    for host in (lab.a, lab.b):
        _set_clock(host, 0)


def _pairs(lab: Lab) -> list[tuple[Guest, Guest]]:
    return [(lab.a, lab.b), (lab.b, lab.a)]


def test_a_lease_that_is_renewed_is_not_taken_back(skewed: Lab) -> None:
    for holder, other in _pairs(skewed):
        spool = skewed.new_spool()
        holder.act("submit", spool, 1).output()
        keeping = holder.act("keep", spool, holder.name, 6)
        keeping.line("holds")
        assert other.do("reap", spool, 5) == 0
        keeping.output()
        at_rest(spool, [skewed.server, other], [], {holder.name: told(keeping, "done")})


def test_a_lease_that_is_not_renewed_is_taken_back_when_it_has_run_out(skewed: Lab) -> None:
    for holder, other in _pairs(skewed):
        spool = skewed.new_spool()
        holder.act("submit", spool, 1).output()
        held, _ = holder.act("hold", spool, holder.name, "heartbeat", "8s").line("holds")
        taken, _ = other.act("reply", spool, other.name, 1, 0).line("ending", 120)
        assert 6 < taken - held < 8 + SLACK
        holder.end_programs()


def test_an_await_sees_the_end_on_the_other_host(skewed: Lab) -> None:
    for asker, other in _pairs(skewed):
        spool = skewed.new_spool()
        asking = asker.act("ask", spool, "0.5s", 3)
        replying = other.act("reply", spool, other.name, 3, 1)
        seen, ended = asking.look("seen", 3), replying.look("ending", 3)
        assert max(after - before for (after, _), (before, _) in zip(seen, ended, strict=True)) < 0.5 + SLACK


@pytest.mark.parametrize("key", ["", "key"], ids=["in its place", "in tmp"])
def test_what_is_being_built_is_not_swept_and_its_entry_not_dropped(skewed: Lab, key: str) -> None:
    for submitter, other in _pairs(skewed):
        spool = skewed.new_spool()
        submitting = submitter.act("submit_slowly", spool, *filter(None, [key]))
        submitting.line("midway")
        other.do("sweep", spool)
        early = other.act("drain", spool, other.name)
        early.output()
        assert told(early, "done") == []
        submitter.let_go_on()
        submitting.output()
        drain = other.act("drain", spool, other.name, 2)
        drain.output()
        assert told(drain, "done") == told(submitting, "submitted")
        submitter.end_programs()


def test_an_idempotency_key_stands_for_one_job_on_both(skewed: Lab) -> None:
    spool = skewed.new_spool()
    made = [host.do("submit_once", spool, "key") for host in (skewed.a, skewed.b, skewed.a)]
    assert len(set(made)) == 1


def test_a_value_expires_when_it_should_on_both(skewed: Lab) -> None:
    for writer, reader in _pairs(skewed):
        spool = skewed.new_spool()
        writer.act("submit", spool, 1).output()
        uri = writer.do("store", spool, 15)
        began = time.monotonic()
        reader.do("sweep", spool)
        found = reader.do("fetch", spool, uri)
        assert found or time.monotonic() - began > 10
        time.sleep(max(0.0, began + 16 - time.monotonic()))
        assert not reader.do("fetch", spool, uri)
