"""The commands ``spool check`` and ``spool repair``."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import click

from breyta_cli import given, output
from breyta_cli.tree import command

if TYPE_CHECKING:
    from breyta_spool.checkup import Told
    from breyta_spool.findings import Finding

UNHEALTHY = 5
_contents = click.option("--contents", is_flag=True, help="Read every file, too, and compare sizes and hashes. Slow.")
_limit = click.option(
    "--limit", type=click.IntRange(min=0), default=100, show_default=True, help="At most so many findings; all count."
)


@command()
@click.option("--probe", "other", metavar="OTHER_MOUNT", help="The same spool by another mount: tries both together.")
@_contents
@_limit
def check(other: str | None, contents: bool, limit: int) -> None:
    """Look for whatever is wrong in a spool, and whether the file system below it can be trusted.

    Every finding says what was seen, why it matters and what to do. Others may work in the spool meanwhile: what seems
    wrong is looked at twice. Jobs are not changed. Exit code 5: data.healthy is false, there is at least one error.

    \b
    Example:
      breyta spool check --pretty
      breyta spool check --contents --probe /mnt/other/spool
    """
    from breyta_cli.terminal import shown
    from breyta_spool.checkup import check as run
    from breyta_spool.findings import ERROR
    from breyta_spool.probing import probe

    spool = given.spool()
    walk = _Walk("its mount")
    with shown(walk.line):
        found = probe(spool, other, walk.doing)
        report = run(spool, contents=contents, limit=limit, told=walk.told)
    healthy = report.healthy and not any(finding.severity == ERROR for finding in found)
    data = {
        "healthy": healthy,
        "checked": {"jobs": report.jobs, "batches": report.batches, "entries": report.entries},
        "counts": dict(report.counts),
        "findings": _maps(report.findings),
        "fileSystem": _maps(found),
    }
    output.answer(data, **_meta(report.seconds, contents, limit, len(report.findings), sum(report.counts.values())))
    sys.exit(0 if healthy else UNHEALTHY)


@command()
@_contents
@_limit
def repair(contents: bool, limit: int) -> None:
    """Mend what a crash left and rebuild the index from the jobs. No data is deleted.

    What cannot be explained is moved to lost+found/, with a note beside it that says where it was and why. Others may
    work in the spool meanwhile. Exit code 5: errors are left that need a person; data.findings explains them.

    \b
    Example:
      breyta spool repair --pretty
    """
    from breyta_cli.terminal import shown
    from breyta_spool.repairing import repair as run

    spool = given.spool()
    walk = _Walk()
    with shown(walk.line):
        done = run(spool, contents=contents, limit=limit, told=walk.told)
    data = {
        "healthy": done.healthy,
        "checked": {"jobs": done.jobs, "batches": done.batches, "entries": done.entries},
        "mended": dict(done.mended),
        "actions": [{**_map(finding), "done": action} for finding, action in done.actions],
        "left": dict(done.counts),
        "findings": _maps(done.findings),
    }
    total = sum(done.counts.values()) + sum(done.mended.values())
    output.answer(data, **_meta(done.seconds, contents, limit, len(done.actions) + len(done.findings), total))
    sys.exit(0 if done.healthy else UNHEALTHY)


def _meta(seconds: float, contents: bool, limit: int, returned: int, total: int) -> dict[str, Any]:
    meta: dict[str, Any] = {"seconds": round(seconds, 2), "contents": contents, "limit": limit}
    return meta | ({"findingsReturned": returned, "findingsTotal": total} if returned < total else {})


def _map(finding: Finding) -> dict[str, str]:
    return finding._asdict()


def _maps(findings: list[Finding]) -> list[dict[str, str]]:
    return [_map(finding) for finding in findings]


class _Walk:
    """How far a walk has come, on one line."""

    def __init__(self, doing: str = "") -> None:
        self._began = time.monotonic()
        self._doing = doing
        self._share = 0.0
        self._jobs = 0

    def doing(self, what: str) -> None:
        self._doing = what

    @property
    def told(self) -> Told:
        self._began, self._doing = time.monotonic(), ""
        return self._told

    def _told(self, share: float, jobs: int) -> None:
        self._share, self._jobs = share, jobs

    def line(self) -> str:
        from breyta_cli.terminal import bar

        if self._doing:
            return f"trying the file system: {self._doing}"
        rate = self._jobs / max(time.monotonic() - self._began, 0.001)
        return f"{bar(self._share, 1)} {self._jobs:,} jobs looked at, {rate:,.0f}/s"
