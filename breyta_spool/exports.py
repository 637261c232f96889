"""Whether an NFS server acknowledges what is not on its disk yet: the export option ``async``, which no client is told.

On the server itself the table of exports says it. On a client it can only be guessed, from how long a write takes.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from breyta_spool import files
from breyta_spool.findings import ERROR, NOTE, WARNING, Finding

TABLES = ("/var/lib/nfs/etab", "/etc/exports")
"""What is exported now, and what is to be; the first that can be read and says something counts."""
DISK_MS = 0.05
"""What a write must take longer than a question, at least, when it waits for a disk: less is no disk's time.

Measured on Linux 6.1, NFS 4.2 and 3, a touch less a statvfs: ``sync`` 0.10 to 1.3 ms, though the server's disk was
memory; ``async`` -0.01 to 0.02 ms.
"""
_ROUNDS = 20
_LOST = "a power cut of the server takes jobs that were acknowledged, and results"


class Export(NamedTuple):
    """One line of a table of exports: which directory, to whom, with which options."""

    directory: str
    client: str
    options: frozenset[str]


def exports(text: str) -> list[Export]:
    """The exports of a table, in the form of exports(5).

    >>> [(export.client, sorted(export.options)) for export in exports("/srv *(rw,async) host(ro)")]
    [('*', ['async', 'rw']), ('host', ['ro'])]
    """
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        words = re.findall(r'"[^"]*"|\S+', line.partition("#")[0])
        if words and words[0].strip('"').startswith("/"):
            directory = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), words[0].strip('"'))
            for client, options in re.findall(r"([^\s()]+)?\(([^)]*)\)", " ".join(words[1:])):
                found.append(Export(os.path.normpath(directory), client or "*", frozenset(options.split(","))))
    return found


def covering(table: list[Export], directory: str) -> list[Export]:
    """The exports that a directory is seen through: of those above it the nearest."""
    above = [export for export in table if f"{directory}/".startswith(export.directory.rstrip("/") + "/")]
    nearest = max((len(export.directory) for export in above), default=0)
    return [export for export in above if len(export.directory) == nearest]


def by_table(directory: str, durable: bool, tables: tuple[str, ...] = TABLES) -> Iterator[Finding]:
    """What this host, if it is the server, says about how it exports a directory."""
    found = covering(_exported(tables), os.path.realpath(directory))
    lazy = [export for export in found if "async" in export.options and "ro" not in export.options]
    shown = ", ".join(f"{export.directory} to {export.client}" for export in lazy or found)
    if lazy:
        what = f"this host exports it with the option async ({shown}): for what other hosts submit and finish, {_LOST}"
        remedy = "put 'sync' in place of 'async' in /etc/exports, then run exportfs -ra"
        yield Finding("export-async", ERROR if durable else NOTE, directory, what, remedy if durable else "")
    elif found:
        yield Finding("export-sync", NOTE, directory, f"this host exports it with sync ({shown}): as it should be")


def _exported(tables: tuple[str, ...]) -> list[Export]:
    for path in tables:
        try:
            with open(path, "rb") as table:
                found = exports(table.read(1 << 20).decode(errors="replace"))
        except OSError:
            continue
        if found:
            return found
    return []


# -- from a client ----------------------------------------------------------------------------------


def by_timing(place: str, durable: bool) -> Iterator[Finding]:
    """A guess from a client: a touch and a statvfs are one round trip each, but only the first must wait for a disk."""
    path = f"{place}/timed"
    files.write_new(path, b"")
    asked, touched = [], []
    for _ in range(_ROUNDS):
        asked.append(_milliseconds(lambda: os.statvfs(place)))
        touched.append(_milliseconds(lambda: files.touch(path)))
    yield guessed(_lower_quartile(asked), _lower_quartile(touched), place, durable)


def guessed(asked: float, touched: float, path: str, durable: bool) -> Finding:
    """What the two times mean, in milliseconds."""
    measured = f"a touch takes {touched:.2f} ms, a question to the server {asked:.2f} ms (lower quartiles of {_ROUNDS})"
    if touched < asked / 2:
        return Finding(
            "export-not-known", NOTE, path, f"whether the export is async cannot be told from here: {measured}"
        )
    if touched - asked >= DISK_MS:
        return Finding(
            "export-seems-sync", NOTE, path, f"the server seems to wait for its disk, as it should: {measured}"
        )
    what = (
        f"a guess: the server seems to acknowledge what is not on its disk yet, as {measured}. Either it exports with"
        f" async, and {_LOST}; or its disk has a cache with a battery, and all is well"
    )
    remedy = "look on the server: 'exportfs -s' must say sync, or run 'breyta spool check' there, which knows"
    return Finding("export-seems-async", WARNING if durable else NOTE, path, what, remedy if durable else "")


def _milliseconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1e3


def _lower_quartile(times: list[float]) -> float:
    # What other traffic adds is not what is asked for; the very fastest could be a fluke.
    return sorted(times)[len(times) // 4]
