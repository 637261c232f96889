"""A small scenario for every run of the tests: two hosts work on what one of them submits."""

from __future__ import annotations

from tests.hosts import lab as labs
from tests.hosts.scenarios import drained_by_both, once_each, told


def test_two_hosts_do_each_job_once_and_one_sees_what_the_other_ends(needs_lab: None) -> None:
    with labs.running("4.2") as lab:
        spool = lab.new_spool()
        submitting = lab.a.act("submit", spool, 40)
        submitting.output()
        done = drained_by_both(lab.a, lab.b, spool)
        once_each(spool, [lab.server, lab.a], told(submitting, "submitted"), done)
        asking, replying = lab.a.act("ask", spool, "0.5s", 1), lab.b.act("reply", spool, "b", 1, 1)
        asking.output()
        replying.output()
