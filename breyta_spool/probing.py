"""Whether the file system below a spool can be trusted: what its mount says, and what comes out when it is tried.

Everything is tried in one directory of its own in the spool's tmp/, which is gone again afterwards. Nothing here reads
or changes a job.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack

from breyta_spool import contests, crossing, exports, files, ids, mounts, owners, room, trials
from breyta_spool.errors import storage_error
from breyta_spool.findings import ERROR, NOTE, WARNING, Finding
from breyta_spool.rivals import Rival
from breyta_spool.spool import Spool

Told = Callable[[str], None]
RIVALS = 4
"""How many processes race for one name."""
RACE_SECONDS = 0.4
"""How long one race of many rounds may take, at most about twice that."""
_SEVERITIES = (ERROR, WARNING, NOTE)


def probe(
    spool: Spool,
    other: str | None = None,
    told: Told = lambda what: None,
    *,
    race_seconds: float = RACE_SECONDS,
) -> list[Finding]:
    """Try what a spool needs of its file system; the findings, errors first.

    ``other`` is the same spool as another mount shows it on this host: then it is also tried between the two. ``told``
    is told what is being tried. ``race_seconds`` bounds each race. Takes a few seconds. Raises InvalidInput when
    ``other`` is not the same spool.
    """
    there = None if other is None else crossing.other_root(spool, other)
    found = [*_of_the_mount(spool, there, told)]
    name = owners.marked(f"probe-{ids.new_ulid()}")
    place = spool.tree.staged(name)
    try:
        files.make_dirs(place, spool.root, in_spool=True)
        found += _in_a_place_of_its_own(spool, there, name, told, race_seconds)
    except OSError as error:
        found.append(_no_place(error, spool.tree.top("tmp")))
    finally:
        files.sweep(place)
    return sorted(map(_lasting, dict.fromkeys(found)), key=lambda finding: _SEVERITIES.index(finding.severity))


def _lasting(finding: Finding) -> Finding:
    """The same finding, about the spool in place of the directory in which it was tried."""
    return finding._replace(path=finding.path.partition("/tmp/probe-")[0])


def _no_place(error: OSError, path: str) -> Finding:
    """Why nothing could be tried: there is no room, or no right to write."""
    codes = {
        errno.EROFS: "read-only",
        errno.ENOSPC: "full",
        errno.EDQUOT: "quota-used-up",
        errno.EACCES: "not-writable",
        errno.EPERM: "not-writable",
    }
    said = storage_error(error, "make a file in the spool, so that no job can be submitted or finished")
    return Finding(
        codes.get(error.errno or 0, "not-usable"), ERROR, str(error.filename or path), said.message, said.hint
    )


# -- what the mount says ----------------------------------------------------------------------------


def _of_the_mount(spool: Spool, there: str | None, told: Told) -> Iterator[Finding]:
    told("the mount")
    durable = spool.settings.durability == "durable"
    said: set[tuple[str, str]] = set()
    for root in (spool.root, there):
        if root is not None and (mount := mounts.mount_of(root)):
            # Of the other mount only what is other.
            yield from (f for f in mounts.judge(mount, durable) if (f.code, f.message) not in said)
            said |= {(f.code, f.message) for f in mounts.judge(mount, durable)}
    yield from exports.by_table(spool.root, durable)
    told("room and rights")
    yield from room.room(spool.root)
    yield from room.rights(spool.root)
    if there is not None:
        yield from crossing.same_view(spool.root, there)


# -- what is tried ----------------------------------------------------------------------------------


def _in_a_place_of_its_own(spool: Spool, there: str | None, name: str, told: Told, seconds: float) -> Iterator[Finding]:
    durable = spool.settings.durability == "durable"
    place = spool.tree.staged(name)
    mount = mounts.mount_of(spool.root)
    steps: list[tuple[str, Callable[[str], Iterator[Finding]]]] = [
        ("directories", trials.directories),
        ("links", trials.links),
        ("names", trials.names),
        ("the clock", trials.clock),
        ("the disk", lambda at: trials.disk(spool.root, at, durable)),
        ("the group", lambda at: room.sharing(spool.root, at, spool.settings.group)),
        ("races", lambda at: _against_each_other(at, seconds)),
    ]
    if mount is not None and mount.type in mounts.NFS:
        steps.append(("the server's disk", lambda at: exports.by_timing(at, durable)))
    if there is not None and os.path.realpath(there) != os.path.realpath(spool.root):
        steps.append(("the other mount", lambda at: _across(at, there, spool, seconds)))
    for what, step in steps:
        told(what)
        yield from _tried(what, step, f"{place}/{what.replace(' ', '-')}")


def _tried(what: str, step: Callable[[str], Iterator[Finding]], place: str) -> Iterator[Finding]:
    """One step in a directory of its own; one that fails or hangs is a finding, and the next is tried."""
    found: list[Finding] = []
    try:
        files.make_dir(place)
        found.extend(step(place))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            yield from found
            raise
        said = storage_error(error, f"try {what}")
        code = "hangs" if isinstance(error, TimeoutError) else "trial-failed"
        found.append(
            Finding(code, ERROR, place, f"{said.message}: jobs that need it will fail the same way", said.hint)
        )
    yield from found


def _against_each_other(place: str, seconds: float) -> Iterator[Finding]:
    with ExitStack() as stack:
        rivals = [stack.enter_context(Rival(side, place)) for side in "abcd"[:RIVALS]]
        yield from contests.races(rivals, ["rename", "directory", "create", "symlink", "link"], seconds)
        yield from contests.appends(rivals)
        yield from contests.replacing(rivals, seconds / 2)
        yield from contests.locks(rivals[0], rivals[1])


def _across(place: str, there: str, spool: Spool, seconds: float) -> Iterator[Finding]:
    files.write_new(f"{place}/begun", b"")
    same_place = f"{there}/{os.path.relpath(place, spool.root)}"
    yield from crossing.tried(place, same_place, spool.settings.default_lease_ms, seconds)
