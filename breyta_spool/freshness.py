"""Which mounts of this host may show an old state of a directory, so that nothing is believed missing too soon.

A client of a file server keeps what it has seen for a while. Two things of that matter here. What was once looked for
in vain is taken as missing for half a minute and more, whatever other hosts have made since; only a listing is fresh.
And on NFS 3, where a directory has no count of its changes but only a time, which many servers' clocks move in steps
of 4 or 10 ms, a listing that was kept may never show what changed within the same step.
"""

from __future__ import annotations

import os
import time

ASK_AGAIN_SECONDS = 60.0
"""After how long the table of mounts is read again: a share may be mounted anew below a worker that runs on."""
MOUNTS = "/proc/self/mountinfo"
_REMOTE = (b"nfs", b"fuse", b"cifs", b"smb", b"9p", b"ceph", b"afs", b"lustre", b"gfs2", b"ocfs2", b"gpfs", b"beegfs")


class Mounts:
    """What the table of mounts says, read again once it is old."""

    def __init__(self, table: str = MOUNTS) -> None:
        self._table = table
        self._next_look = 0.0
        self._remote = True
        self._timed: frozenset[int] = frozenset()

    def may_hide(self) -> bool:
        """Whether a name that seems missing may be there: where a file system of this host is on another one."""
        if time.monotonic() >= self._next_look:
            self._look()
        return self._remote

    def keeps_listings(self, fd: int) -> bool:
        """Whether an open directory is on NFS 2 or 3, so that the listing that was kept of it is to be thrown away."""
        if time.monotonic() >= self._next_look:
            self._look()
        return bool(self._timed) and os.fstat(fd).st_dev in self._timed

    def _look(self) -> None:
        self._next_look = time.monotonic() + ASK_AGAIN_SECONDS
        self._remote, self._timed = _read(self._table)


def _read(table: str) -> tuple[bool, frozenset[int]]:
    try:
        with open(table, "rb") as mounts:
            halves = [line.partition(b" - ") for line in mounts.read().splitlines()]
    except OSError:
        return True, frozenset()
    types = [(before.split(b" ")[2], after.partition(b" ")[0]) for before, _, after in halves]
    # The type of NFS 4 is "nfs4".
    timed = (device.split(b":") for device, kind in types if kind == b"nfs")
    return any(kind.startswith(_REMOTE) for _, kind in types), frozenset(
        os.makedev(int(major), int(minor)) for major, minor in timed
    )


HERE = Mounts()
"""The mounts of this process."""
