"""What one host removes while another has it open: NFS answers ESTALE, or keeps it as .nfs.. until it is closed."""

from __future__ import annotations

from tests.hosts.lab import Lab
from tests.hosts.scenarios import told, worker, worker_done
from tests.world import until


def test_a_directory_that_is_removed_as_it_is_read_just_ends(lab: Lab) -> None:
    spool = lab.new_spool()
    lab.a.do("fill", spool, 3000)
    scanning = lab.b.act("scan", spool)
    scanning.line("reading")
    lab.a.do("clear", spool)
    lab.b.let_go_on()
    assert 1 <= scanning.answer() <= 3000


def test_what_a_process_of_a_handler_still_holds_open_goes_with_a_later_sweep(lab: Lab) -> None:
    spool = lab.new_spool()
    submitting = lab.a.act("submit", spool, 1)
    submitting.output()
    lab.a.run(
        r"""
        printf '%s\n' '#!/bin/bash' 'exec 9>"$BREYTA_JOB_DIR/held"' 'setsid sleep 1000 &' 'sleep 1' >/tmp/handler
        chmod +x /tmp/handler
        """
    )
    working = worker(lab.a, spool, handler="/tmp/handler")
    until(lambda: worker_done(working) == told(submitting, "submitted"), 60)
    tmp = f"{lab.server.share}/{spool}/tmp"
    assert ".nfs" in lab.server.run(f"find {tmp}")
    lab.b.do("sweep", spool)
    assert ".nfs" in lab.server.run(f"find {tmp}"), "it is not yet a day old"
    lab.a.run("pkill -x sleep; sleep 1")
    lab.server.run(f"touch -d '2 days ago' {tmp}/*")
    lab.b.do("sweep", spool)
    assert lab.server.run(f"ls -A {tmp}") == ""
