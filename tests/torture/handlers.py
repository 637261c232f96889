"""Handlers that report progress, attach something, take a random while, and sometimes fail.

Each run has a mark of its own, ``by=a<attempt>-<hex>``. It stands in the summary, the outputs and the artifacts, so that
a result tells which run of which attempt it is from.
"""

from __future__ import annotations

import os
import random
import re
import tempfile
import time
from pathlib import Path
from typing import Any

from breyta_spool import files
from breyta_spool.handler import ActiveJob
from tests.torture.ledger import Ledger

LEDGER = "TORTURE_LEDGER"
PACE = "TORTURE_PACE"
"""How many seconds a handler takes at most, but for the few that take longer than a lease."""
TYPE = "torture"
MARK = re.compile(r"by=(a[0-9]+-[0-9a-f]{12})")
DAWDLE = "TORTURE_DAWDLE"
"""Set where processes are to pause now and then between two changes of the disk."""
_ledgers: dict[int, Ledger] = {}


def mark(attempt: int) -> str:
    return f"a{attempt}-{os.urandom(6).hex()}"


def attempt_of(by: str) -> int:
    return int(by[1:].partition("-")[0])


def dawdle(operation: str = "", path: str = "") -> None:
    """Pause now and then before a change of the disk: kills, stops and others' changes come between two steps more often."""
    chosen = random.random()
    if chosen < 0.02:
        time.sleep(random.uniform(0, 0.1) if chosen > 0.001 else 1.5)


if DAWDLE in os.environ:  # the worker program has imported this for its handler
    files.hook = dawdle


def begun(job_id: str, attempt: int) -> str:
    """Write down that a run begins; gives its mark."""
    pid = os.getpid()
    if pid not in _ledgers:
        _ledgers[pid] = Ledger(os.environ[LEDGER], f"handler-{pid}-{os.urandom(4).hex()}")
    by = mark(attempt)
    _ledgers[pid].say("began", job=job_id, attempt=attempt, by=by)
    return by


def handle(job: ActiveJob) -> dict[str, Any]:
    """The handler that is a Python function."""
    by = begun(job.job_id, job.attempt)
    if random.random() < 0.5:
        job.progress(f"begun by={by}", metrics={"done": 1})
    attach_some(job, by)
    _take_a_while(job)
    if job.stopping.is_set():
        return {"status": "cancelled", "summary": f"stopped by={by}"}
    if random.random() < 0.1:
        raise RuntimeError(f"failed by={by}")
    status = "no_changes" if random.random() < 0.1 else "succeeded"
    return {"status": status, "summary": f"done by={by}", "outputs": {"by": by, "attempt": job.attempt}}


def _take_a_while(job: ActiveJob) -> None:
    longest = float(os.environ.get(PACE, "0.2"))
    # Some take longer than a lease, so that it has to be renewed.
    end = time.monotonic() + (1.5 if random.random() < 0.02 else random.uniform(0, longest))
    while time.monotonic() < end and not job.stopping.is_set():
        time.sleep(0.01)


def attach_some(to: Any, by: str) -> None:
    """Attach some of a file, a value and rows. ``to`` is a job in a handler's hands, or the directory of a lease."""
    if random.random() < 0.4:
        to.attach_kv("summary", {"by": by, "text": "v" * random.choice((0, 5000))})
    if random.random() < 0.4:
        to.attach_table("findings", [{"id": n, "by": by} for n in range(random.choice((1, 200)))])
    if random.random() < 0.4:
        with tempfile.TemporaryDirectory(dir=os.environ[LEDGER]) as place:
            path = Path(place, "report.txt")
            path.write_text(f"by={by}\n" + "report\n" * random.choice((0, 1000, 10_000)))
            to.attach_file(str(path), label="report")


PROGRAM = r"""#!/usr/bin/env bash
# The same as a program. Most runs write their result file themselves: it costs less than a helper command.
by="a$BREYTA_JOB_ATTEMPT-$(od -An -N6 -tx1 /dev/urandom | tr -d ' \n')"
printf '{"what": "began", "who": "program", "at": 0, "job": "%s", "attempt": %s, "by": "%s", "pid": %s}\n' \
  "$BREYTA_JOB_ID" "$BREYTA_JOB_ATTEMPT" "$by" "$$" >>"$TORTURE_LEDGER/program-$$-$by.jsonl"
echo "by=$by"
case $((RANDOM % 8)) in
  0) "$BREYTA_CLI_BIN" jobs worker progress --message "begun by=$by" ;;
  1) "$BREYTA_CLI_BIN" jobs worker attach-kv --label summary --field "by=$by" ;;
  2) "$BREYTA_CLI_BIN" jobs worker attach-table --label findings --rows "[{\"by\": \"$by\"}]" ;;
  3) echo "by=$by" >"$BREYTA_JOB_DIR/report.txt"
     "$BREYTA_CLI_BIN" jobs worker attach-file --file "$BREYTA_JOB_DIR/report.txt" --label report ;;
esac
sleep "0.$((RANDOM % 3))"
if [ $((RANDOM % 10)) = 0 ]; then
  printf '{"message": "failed by=%s"}' "$by" >"$BREYTA_JOB_RESULT_FILE"
  exit 1
fi
if [ $((RANDOM % 4)) = 0 ]; then
  exec "$BREYTA_CLI_BIN" jobs worker finish --summary "done by=$by" --output "by=$by"
fi
printf '{"status": "succeeded", "summary": "done by=%s", "outputs": {"by": "%s"}}' "$by" "$by" >"$BREYTA_JOB_RESULT_FILE"
"""


def write_program(place: str) -> str:
    """Put the handler program into a directory; gives its path."""
    path = Path(place, "handler.sh")
    path.write_text(PROGRAM)
    path.chmod(0o755)
    return str(path)
