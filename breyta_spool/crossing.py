"""Two mounts of one share: who wins across them, and how late one shows what the other did.

Both are mounted on this host, so one monotonic clock measures both. What the caches of one client do to two of its
mounts is what they do to two hosts, when the mounts share no cache (NFS: the mount option ``nosharecache``).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

from breyta_spool import contests, mounts
from breyta_spool.errors import InvalidInput, SpoolError
from breyta_spool.findings import ERROR, NOTE, WARNING, Finding
from breyta_spool.rivals import Rival
from breyta_spool.spool import Spool

SEEN_SECONDS = 3.0
"""How long it is waited for something to be seen."""
LATE_SECONDS = 1.0
"""What is seen later than this is worth a warning; leases are at least a second long."""
_ROUNDS = 5


def other_root(spool: Spool, other: str) -> str:
    """The root of the same spool on another mount. Raises InvalidInput that says what was found there."""
    root = os.path.abspath(other)
    try:
        found = Spool.open(root).settings.spool_id
    except SpoolError as error:
        raise InvalidInput(
            f"--probe {other} is not another mount of this spool: {error.message}",
            hint=f"name the directory where {spool.root} is seen through the other mount",
            field="probe",
            path=root,
        ) from None
    if found != spool.settings.spool_id:
        raise InvalidInput(
            f"--probe {other} is another spool: {found}, not {spool.settings.spool_id}",
            hint=f"name the directory where {spool.root} is seen through the other mount",
            field="probe",
            path=root,
        )
    return root


def same_view(one: str, other: str) -> Iterator[Finding]:
    """Whether the two are one mount, or one file system with one cache: then nothing is learnt about caches."""
    here, there = os.stat(one), os.stat(other)
    if os.path.realpath(one) == os.path.realpath(other):
        what = "the other mount is the same directory of the same mount, so nothing was tried between two mounts"
        remedy = "mount the share once more (NFS: with the option nosharecache) and name that directory"
        yield Finding("same-mount", WARNING, other, what, remedy)
    elif here.st_dev == there.st_dev:
        mount = mounts.mount_of(other)
        shared = (
            "NFS: mount it with nosharecache" if mount and mount.type in mounts.NFS else "as two mounts of one disk do"
        )
        what = (
            f"both mounts share one cache on this host ({shared}), so how late other hosts see a change was not"
            " measured"
        )
        yield Finding("same-cache", NOTE, other, what)


def one_client(one: mounts.Mount | None, other: mounts.Mount | None) -> bool:
    """Whether two mounts are one client to their NFS 4 server, though they may share no cache.

    The server lets a client keep a file's content and times until *another* client changes it. What one mount keeps,
    the other does not end, so such mounts are later than two hosts would ever be.
    """
    if one is None or other is None or one.type != "nfs4" or other.type != "nfs4":
        return False
    return one.source.rpartition(":")[0] == other.source.rpartition(":")[0] and (
        one.options.get("vers") == other.options.get("vers")
    )


def tried(one: str, other: str, lease_ms: int, seconds: float) -> Iterator[Finding]:
    """Everything between two views of one directory, with one process at each."""
    single = one_client(mounts.mount_of(one), mounts.mount_of(other))
    with Rival("a", one) as here, Rival("b", other) as there:
        if there.ask("sees", "listing", "begun", None, SEEN_SECONDS) is None:
            what = (
                f"what is made on one mount was not seen on the other within {SEEN_SECONDS:.0f} s: no host sees"
                " another's jobs"
            )
            yield Finding(
                "listing-late", ERROR, other, what, "look at the mount options of both (nocto, acdirmin, actimeo)"
            )
            return
        where = "2 mounts"
        yield from contests.races([here, there], ["rename", "directory", "create", "symlink", "link"], seconds, where)
        if single:
            what = (
                "both mounts are one client to the server, which lets a client keep what it has read until another one"
                " changes it: how late other hosts see a change was not measured"
            )
            yield Finding("same-client", NOTE, other, what, "mount the other one with another version (4.1 beside 4.2)")
        else:
            yield from contests.replacing([here, there], seconds / 2, "the other mount")
            yield from _lateness(here, there, lease_ms)
        yield _names_asked_for(here, there)
        yield from contests.locks(here, there, where, one_host=False)


class _Late(NamedTuple):
    """How late the slowest of some changes was seen, and how many were not seen in time."""

    worst: float
    unseen: int

    def __str__(self) -> str:
        return f"not within {SEEN_SECONDS:.0f} s" if self.unseen else f"within {max(0.0, self.worst) * 1e3:.0f} ms"


def _lateness(here: Rival, there: Rival, lease_ms: int) -> Iterator[Finding]:
    path = there.place
    late = {what: _late(here, there, what) for what in ("listing", "time", "replaced", "added")}
    shown = (
        f"a new name is listed {late['listing']}, a replaced file read {late['replaced']}, an added line"
        f" {late['added']}"
    )
    if any(late[what].unseen or late[what].worst > LATE_SECONDS for what in ("listing", "replaced", "added")):
        why = "jobs are begun, cancels noticed and results told later by so much; nothing is lost"
        remedy = "mount without nocto, and with small acdirmin/acregmin or lookupcache=positive"
        yield Finding("seen-late", WARNING, path, f"what one mount did, the other shows late: {shown}: {why}", remedy)
    else:
        yield Finding(
            "seen", NOTE, path, f"what one mount did, the other shows: {shown} (the slowest of {_ROUNDS} each)"
        )
    yield _heartbeats(late["time"], lease_ms, path)


def _heartbeats(late: _Late, lease_ms: int, path: str) -> Finding:
    what = f"heartbeats: a touch on one mount is seen by open and fstat on the other {late}"
    if late.unseen or late.worst > LATE_SECONDS:
        bad = late.unseen and lease_ms / 3e3 <= SEEN_SECONDS
        why = "a lease that is renewed can look run out, so its job is taken away and done twice (one result counts)"
        remedy = "mount without nocto and with a small acregmin; until then use leases of several minutes"
        return Finding("heartbeats-late", ERROR if bad else WARNING, path, f"{what}: {why}", remedy)
    return Finding("heartbeats", NOTE, path, what)


def _late(here: Rival, there: Rival, what: str) -> _Late:
    worst, unseen = 0.0, 0
    for number in range(_ROUNDS):
        name = f"{what}.{number}"
        did, seen = _round(here, there, what, name)
        if seen is None:
            unseen += 1
            break
        worst = max(worst, seen - did)
    return _Late(worst, unseen)


def _round(here: Rival, there: Rival, what: str, name: str) -> tuple[float, float | None]:
    """Let one side change something that the other has in its cache; gives when, and when that was seen."""
    if what == "listing":
        there.ask("look", name)
        return here.ask("make", name), there.ask("sees", "listing", name, None, SEEN_SECONDS)
    here.ask("put", name, "before")
    there.ask("sees", "content", name, "before", SEEN_SECONDS)
    there.ask("look", name)
    if what == "time":
        stamp, did = here.ask("touch", name)
        return did, there.ask("sees", "time", name, stamp, SEEN_SECONDS)
    did = here.ask("put" if what == "replaced" else "add", name, "after")
    return did, there.ask("sees", "content", name, "after", SEEN_SECONDS)


def _names_asked_for(here: Rival, there: Rival) -> Finding:
    there.ask("look", "asked-for")
    did = here.ask("make", "asked-for")
    seen = there.ask("sees", "exists", "asked-for", None, 1.0)
    if seen is not None and seen - did < 0.2:
        what = f"a name that was not there is found once it is made within {(seen - did) * 1e3:.0f} ms"
        return Finding("names-found", NOTE, there.place, what)
    after = "more than a second" if seen is None else f"{seen - did:.1f} s"
    what = (
        f"a name that was asked for before it was made stays unknown for {after} (a cache of names that are not there)."
        " Harmless here: this program lists the directory in place of asking. Handlers should do likewise"
    )
    return Finding("names-found-late", NOTE, there.place, what)
