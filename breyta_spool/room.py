"""Whether a spool has room left, and whether this user and those of its group may write in it."""

from __future__ import annotations

import grp
import os
import stat
from collections.abc import Iterator

from breyta_spool import files, looking, paths
from breyta_spool.findings import ERROR, NOTE, WARNING, Finding

INODES_PER_JOB = 9
"""At most, of a job without artifacts: its directory, an attempt's, the files in them, two links, an entry."""
LOW_JOBS = 1_000
"""For fewer jobs than this the room is low."""
BYTES_PER_JOB = 24 << 10
"""Six blocks of 4 KiB; payloads, logs and artifacts beyond that are the user's own sum."""


def room(path: str) -> Iterator[Finding]:
    """How many jobs fit, by free inodes and bytes, as far as the file system counts them."""
    yield from judged(os.statvfs(path), path)


def judged(told: os.statvfs_result, path: str) -> Iterator[Finding]:
    """What a statvfs means."""
    free = told.f_bavail * told.f_frsize
    counted = told.f_files > 0
    short = [
        *_short("bytes", free, BYTES_PER_JOB, f"{_size(free)} are free", path),
        *(
            _short("inodes", told.f_favail, INODES_PER_JOB, f"{told.f_favail:,} inodes are free", path)
            if counted
            else ()
        ),
    ]
    yield from short
    if not short:
        jobs = f", enough for about {told.f_favail // INODES_PER_JOB:,} jobs" if counted else ""
        inodes = f"{told.f_favail:,} free inodes" if counted else "inodes are not counted here"
        yield Finding("room", NOTE, path, f"room: {_size(free)} free, {inodes}{jobs}")


def _short(what: str, free: int, per_job: int, said: str, path: str) -> Iterator[Finding]:
    remedy = "free some room (df, df -i), remove what is no longer needed, or make the file system larger"
    if free < per_job:
        yield Finding(f"no-{what}", ERROR, path, f"{said}: no job can be submitted or finished", remedy)
    elif free < per_job * LOW_JOBS:
        about = f"{said}, enough for about {free // per_job:,} small jobs (a job takes 5 to {INODES_PER_JOB} inodes)"
        why = "once it is full, submits are refused and results cannot be written"
        yield Finding(f"low-{what}", WARNING, path, f"{about}: {why}", remedy)


def _size(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"
        count /= 1024
    return f"{count:,.1f} TiB"


# -- who may write ----------------------------------------------------------------------------------


def rights(root: str) -> Iterator[Finding]:
    """Whether this user may write in every directory that jobs go through."""
    tops = [name for name in paths.TOP if name in looking.names(root) and name != paths.ACCOUNTS]
    closed = [name for name in tops if not os.access(f"{root}/{name}", os.R_OK | os.W_OK | os.X_OK)]
    if closed:
        what = f"this user (uid {os.geteuid()}) may not write in {', '.join(f'{name}/' for name in closed)}"
        why = "submits, claims or results of this user fail"
        remedy = "check owner, group and mode (ls -ld); on NFS also root_squash and the numbers of users on the server"
        yield Finding("not-writable", ERROR, root, f"{what}: {why}", remedy)
    else:
        yield Finding("rights", NOTE, root, f"rights: this user (uid {os.geteuid()}) may write in every directory")


def sharing(root: str, place: str, group: str | None) -> Iterator[Finding]:
    """Whether what is made here belongs to the group that shares the spool, and lets it in."""
    if group is None:
        return
    try:
        number = grp.getgrnam(group).gr_gid
    except KeyError:
        what = (
            f"the spool is shared by the group {group!r}, which this host does not know: users of it are kept out here"
        )
        yield Finding(
            "unknown-group", WARNING, root, what, "make the group on this host, with the same number as elsewhere"
        )
        return
    yield from _group_of_tops(root, group, number)
    files.make_dir(f"{place}/shared")
    made = os.stat(f"{place}/shared")
    if made.st_gid != number or not made.st_mode & stat.S_IWGRP:
        what = (
            f"a directory that this user makes gets the group {made.st_gid} and the mode"
            f" {stat.S_IMODE(made.st_mode):o}, so that others of {group} cannot work on its jobs"
        )
        remedy = "'umask 007' before programs that use the library; on NFS mount with the server's setgid honoured"
        yield Finding("group-not-inherited", WARNING, place, what, remedy)


def _group_of_tops(root: str, group: str, number: int) -> Iterator[Finding]:
    wrong = []
    for name in (".", *(name for name in paths.TOP if name in looking.names(root))):
        found = os.stat(f"{root}/{name}")
        if found.st_gid != number or not found.st_mode & stat.S_ISGID or not found.st_mode & stat.S_IWGRP:
            wrong.append(f"{name}/")
    if wrong:
        what = f"{', '.join(wrong)} do not belong to the group {group} with the setgid bit and mode 2770"
        why = "what one user makes, others of the group cannot work on"
        remedy = f"chgrp {group} and chmod 2770 these directories, then chgrp -R what is in them"
        yield Finding("group-not-shared", WARNING, root, f"{what}: {why}", remedy)
    else:
        yield Finding("group", NOTE, root, f"group: {group} shares every directory")
