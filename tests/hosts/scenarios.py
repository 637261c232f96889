"""What the scenarios have in common: ledgers of what hosts were told, held against what the spool says in the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import chain

from tests.hosts.acts import TYPE
from tests.hosts.host import Host
from tests.hosts.program import Program

LOOK_SECONDS = 300.0
SLACK = 5.0
"""How much longer than it should something may take, in seconds, on a machine that has other things to do. What a
client has looked for in vain it would believe to be missing for half a minute and more."""


def told(program: Program, word: str) -> list[str]:
    """What a program has acknowledged: the rest of each line that begins with a word."""
    return [line.partition(" ")[2] for _, line in list(program.lines) if line.startswith(f"{word} ")]


def drained_by_both(a: Host, b: Host, spool: str, seconds: float = 300) -> dict[str, list[str]]:
    """Let two hosts work off what waits; gives the jobs that each was told it had ended."""
    drains = {host.name: host.act("drain", spool, host.name) for host in (a, b)}
    for drain in drains.values():
        drain.output(seconds)
    return {name: told(drain, "done") for name, drain in drains.items()}


def worker(host: Host, spool: str, *options: str, handler: str = "py:tests.hosts.acts:handle") -> Program:
    """Start a worker by the command line."""
    words = ("jobs", "worker", "run", "--type", TYPE, "--worker-id", f"{host.name}-worker", "--handler", handler)
    return host.breyta(spool, *words, *options, LAB_HOST=host.name)


def worker_done(program: Program) -> list[str]:
    """The jobs that such a worker said it had ended well."""
    return [words[1] for line in list(program.errors) if len(words := line.split()) > 2 and words[2] == "succeeded"]


def at_rest(spool: str, views: Iterable[Host], submitted: Iterable[str], done: dict[str, list[str]]) -> None:
    """Every job that was submitted has succeeded, and those that a host was told it had ended, by that host.

    All ``views`` of the spool must agree to that.
    """
    by = {job_id: host for host, job_ids in done.items() for job_id in job_ids}
    twice = [job_id for job_id, count in Counter(chain(*done.values())).items() if count > 1]
    assert not twice, f"ended twice: {twice}"
    for view in views:
        seen = view.do("look", spool, seconds=LOOK_SECONDS)
        assert seen["wrong"] == []
        lost = [job_id for job_id in submitted if seen["jobs"].get(job_id, ["lost"])[0] != "succeeded"]
        assert not lost, f"{view.name} sees {[(job_id, seen['jobs'].get(job_id)) for job_id in lost]}"
        wrong = {job_id: seen["jobs"][job_id] for job_id, host in by.items() if seen["jobs"][job_id][2] != host}
        assert not wrong, f"{view.name}: others are said to have ended them: {wrong}"


def once_each(spool: str, views: Iterable[Host], submitted: list[str], done: dict[str, list[str]]) -> None:
    """The same, and nothing has died: each job was done once, at its first attempt, and somebody was told so."""
    views = list(views)
    at_rest(spool, views, submitted, done)
    assert Counter(chain(*done.values())) == Counter(submitted)
    seen = views[0].do("look", spool, seconds=LOOK_SECONDS)["jobs"]
    assert sorted(seen) == sorted(submitted)
    assert {attempt for _, attempt, _ in seen.values()} == {1}
