"""What one process can find out about a file system by trying: names, links, times, and what reaches the disk."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator

from breyta_spool import barrier, files, looking
from breyta_spool.findings import ERROR, NOTE, WARNING, Finding

CLOCK_SECONDS = 10.0
"""How far the file server's clock may be from this host's before it is worth a warning."""
_ELSEWHERE = "put the spool on another file system: local ext4 or XFS, or NFS 4"
_SPECIAL = ("a:b", "a+b", "a@b", "a b", "a=b")


def directories(place: str) -> Iterator[Finding]:
    """Renames of directories: onto an empty one, onto one that is not, and with a file open in it."""
    one, other = f"{place}/d1", f"{place}/d2"
    for name in (one, other):
        files.make_dir(name)
    files.write_new(f"{one}/file", b"x")
    try:
        files.rename(one, other)
    except OSError as error:
        what = (
            f"a directory cannot be renamed over an empty one ({_name(error)}): a batch whose submit was tried again"
            " fails"
        )
        yield Finding("directory-replace-fails", WARNING, place, what, _ELSEWHERE)
        files.remove_dir_if_empty(other)
        files.rename(one, other)
    yield from _onto_a_full_one(place, other)
    yield from _with_an_open_file(place, other)


def _onto_a_full_one(place: str, full: str) -> Iterator[Finding]:
    files.make_dir(f"{place}/d3")
    try:
        files.rename(f"{place}/d3", full)
    except OSError:
        return
    what = "a directory was renamed over one that was not empty: a job can be buried under another"
    yield Finding("directory-replaces-full", ERROR, place, what, _ELSEWHERE)
    files.write_new(f"{full}/file", b"x")


def _with_an_open_file(place: str, directory: str) -> Iterator[Finding]:
    fd = files.open_log(f"{directory}/open")
    try:
        files.rename(directory, f"{place}/d4")
        files.append(f"{place}/d4/open", b"first\n")
        os.fsync(fd)
        kept = looking.read(f"{place}/d4/open", 100) == b"first\n" and os.fstat(fd).st_size == 6
    except OSError as error:
        what = (
            f"a directory with an open file in it: {_name(error)} after a rename, so a directory that is cleared away"
            " fails"
        )
        yield Finding("directory-rename-breaks-open-files", WARNING, place, what, _ELSEWHERE)
    else:
        if kept:
            what = "directories: renamed over an empty one, refused over a full one, open files stay usable"
            yield Finding("directory-rename", NOTE, place, what)
        else:
            what = "a file that was open while its directory was renamed is another file than the one of that name"
            yield Finding("directory-rename-breaks-open-files", WARNING, place, what, _ELSEWHERE)
    finally:
        os.close(fd)


def links(place: str) -> Iterator[Finding]:
    """Symbolic links with a target as the queue's entries have it, and hard links."""
    target = "../../../jobs/20261122/1530/job-01JD0W3Z8Q4X5V6B7N8M9K0P1R"
    try:
        files.symlink(target, f"{place}/entry")
    except OSError as error:
        what = f"symbolic links do not work ({_name(error)}): the queue consists of them, so no job can be submitted"
        yield Finding("no-symlinks", ERROR, place, what, _ELSEWHERE)
    else:
        yield from _read_back(place, target)
    yield from _hard_links(place)


def _read_back(place: str, target: str) -> Iterator[Finding]:
    try:
        got = os.readlink(f"{place}/entry")
    except OSError as error:
        got = _name(error)
    if got == target:
        what = f"symlinks: a relative target of {len(target)} bytes comes back as it was"
        yield Finding("symlinks", NOTE, place, what)
    else:
        what = f"a symbolic link to {target} comes back as {got[:100]!r}: entries of the queue lead nowhere"
        yield Finding("symlinks-changed", ERROR, place, what, _ELSEWHERE)


def _hard_links(place: str) -> Iterator[Finding]:
    files.write_new(f"{place}/linked", b"x")
    files.write_new(f"{place}/taken", b"y")
    try:
        files.link(f"{place}/linked", f"{place}/second")
    except OSError as error:
        what = (
            f"hard links do not work ({_name(error)}): this program looks and then renames in place of them, so of"
            " two who"
            " make the same artifact or change the same account at the same moment one can be lost. Jobs do not need"
            " them"
        )
        yield Finding("no-hard-links", WARNING, place, what, "change accounts from one host at a time")
        return
    try:
        files.link(f"{place}/linked", f"{place}/taken")
    except OSError as error:
        what = f"hard links: work, and are refused ({_name(error)}) where there is a file of that name"
        yield Finding("hard-links", NOTE, place, what)
    else:
        what = "a hard link replaced a file of its name: of two artifacts of one name the first can be lost"
        yield Finding("hard-link-replaces", ERROR, place, what, _ELSEWHERE)


# -- names ------------------------------------------------------------------------------------------


def names(place: str) -> Iterator[Finding]:
    """Whether names come back as they were given: case, length, the characters that the format uses."""
    inside = f"{place}/names"
    files.make_dir(inside)
    problems = [*_case(inside), *_unicode(inside), *_long(inside), *_special(inside)]
    yield from problems
    if not problems:
        what = (
            "names: case and Unicode forms are kept, 255 bytes fit,"
            f" {' '.join(name[1] for name in _SPECIAL if name != 'a b')}"
        )
        yield Finding("names", NOTE, place, f"{what}, spaces and trailing dots are kept")


def _case(place: str) -> Iterator[Finding]:
    files.write_new(f"{place}/Job", b"")
    try:
        files.write_new(f"{place}/job", b"")
    except FileExistsError:
        what = (
            "Job and job are one name here: two job types or workers whose names differ only in case get each other's"
            " jobs"
        )
        remedy = "never use names that differ only in case, or make the file system case sensitive (ext4: chattr -F)"
        yield Finding("case-folding", WARNING, place, what, remedy)


def _unicode(place: str) -> Iterator[Finding]:
    composed, taken_apart = "\u00e9", "e\u0301"
    try:
        files.write_new(f"{place}/{composed}", b"")
        files.write_new(f"{place}/{taken_apart}", b"")
    except FileExistsError:
        what = (
            "two Unicode forms of one letter are one name here. The spool's own names are ASCII; files of handlers"
            " may not be"
        )
        yield Finding("unicode-folding", NOTE, place, what)
    except OSError as error:
        what = (
            f"names that are not ASCII are refused ({_name(error)}). The spool's own are ASCII; files of handlers may"
            " not be"
        )
        yield Finding("names-ascii-only", NOTE, place, what)


def _long(place: str) -> Iterator[Finding]:
    longest = next((size for size in (255, 200, 160, 140, 120, 100, 60) if _keeps(place, "n" * size)), 0)
    if longest < 255:
        what = f"names of more than {longest} bytes (of 60, 100, 120, 140, 160, 200, 255 tried) are refused"
        why = (
            "job types, worker ids and artifacts with long names fail; while a file is written its name is 30 bytes"
            " longer"
        )
        severity = ERROR if longest < 100 else WARNING
        yield Finding("short-names", severity, place, f"{what}: {why}", f"{_ELSEWHERE}, or keep names short")


def _special(place: str) -> Iterator[Finding]:
    if refused := [name[1] for name in _SPECIAL if not _keeps(place, name)]:
        shown = " ".join(repr(character) for character in refused)
        what = f"names with {shown} are refused or changed: job types, workers and artifacts that are named so fail"
        yield Finding("characters-refused", WARNING, place, what, "use letters, digits, - and _ in names")
    if not _keeps(place, "dots..."):
        what = "dots at the end of a name are cut off: a job type or an artifact that is named so is not found again"
        yield Finding("trailing-dots", WARNING, place, what, "use no names that end in a dot")


def _keeps(place: str, name: str) -> bool:
    try:
        files.write_new(f"{place}/{name}", b"")
    except OSError:
        return False
    return name in looking.names(place)


# -- time -------------------------------------------------------------------------------------------


def clock(place: str) -> Iterator[Finding]:
    """Whether a touch stamps the file server's time, how fine, and how far that is from this host's."""
    path = f"{place}/clock"
    files.write_new(path, b"")
    stamps, ahead = [], 0.0
    for _ in range(4):
        time.sleep(0.015)
        before = time.time()
        files.touch(path)
        stamps.append(looking.modified(path))
        after = time.time()
        # What lies between the two looks at the clock, and what a coarse clock rounds off, is no difference.
        ahead = stamps[-1] - min(max(stamps[-1], before - 0.02), after)
    coarse = _coarseness(path, stamps)
    yield from _resolution(path, stamps, coarse)
    yield _difference(path, ahead, coarse)
    yield from _ctime(place, path)


def _coarseness(path: str, stamps: list[float]) -> int:
    """The step of the times in seconds, 0 when it is finer than one; what a touch stamps is added on the way."""
    end = time.monotonic() + 4.5
    while not any(stamp % 1 for stamp in stamps) and len(set(stamps)) < 3 and time.monotonic() < end:
        time.sleep(0.02)
        files.touch(path)
        stamps.append(looking.modified(path))
    if any(stamp % 1 for stamp in stamps):
        return 0
    steps = sorted(set(stamps))
    return int(steps[-1] - steps[-2]) if len(steps) > 1 else 1


def _resolution(path: str, stamps: list[float], coarse: int) -> Iterator[Finding]:
    if len(set(stamps)) == 1:
        what = (
            "a touch does not change the time of a file: heartbeats do not count, so every lease runs out while its"
            " job runs"
        )
        yield Finding("touch-does-not-count", ERROR, path, what, _ELSEWHERE)
    elif coarse:
        what = (
            f"times of files go in steps of {coarse} s: leases of a few seconds are judged that roughly, and may run"
            " out early"
        )
        yield Finding(
            "coarse-times",
            WARNING if coarse > 1 else NOTE,
            path,
            what,
            f"use leases of at least {10 * coarse}s; the default is longer",
        )


def _difference(path: str, ahead: float, coarse: int) -> Finding:
    off = abs(ahead)
    if off <= max(0.05, coarse):
        return Finding("clock", NOTE, path, "time: a touch stamps the server's time, which is this host's")
    way = "ahead of" if ahead > 0 else "behind"
    what = (
        f"time: the file server's clock is {off:.1f} s {way} this host's. Leases are judged by the server's clock"
        " alone, so"
        " no job is lost by it; only the times that are shown, the order of the queue and the expiry of keys are off"
    )
    if off < CLOCK_SECONDS:
        return Finding("clock", NOTE, path, what)
    return Finding(
        "clock-differs", WARNING, path, what, "let NTP (chrony) set the clocks of all hosts and of the server"
    )


def _ctime(place: str, path: str) -> Iterator[Finding]:
    before = looking.changed(path)
    time.sleep(0.1)  # some clocks tick slowly
    files.rename(path, f"{place}/clock.renamed")
    if looking.changed(f"{place}/clock.renamed") <= before:
        what = (
            "a rename does not change the ctime of a file: when a job without a result ended is shown wrongly,"
            " nothing else"
        )
        yield Finding("ctime-stays", NOTE, path, what)


# -- the disk ---------------------------------------------------------------------------------------


def disk(root: str, place: str, durable: bool) -> Iterator[Finding]:
    """Whether files, directories and the whole can be told to reach the disk, and how long that takes."""
    try:
        began = time.monotonic()
        files.write_new(f"{place}/synced", b"x" * 400)
        for path in (f"{place}/synced", place):
            _fsync(path)
        took = time.monotonic() - began
        # The barrier of the product, as every submit of a durable spool uses it.
        began = time.monotonic()
        barrier.Barrier(root)(lambda: [f"{place}/synced", place])
        whole = time.monotonic() - began
    except OSError as error:
        severity = ERROR if durable else NOTE
        what = f"fsync fails ({_name(error)}), so nobody can say that a job is on the disk, and every submit is refused"
        yield Finding("fsync-fails", severity, place, what, _ELSEWHERE if durable else "")
        return
    if not barrier.syncfs_tells():
        what = (
            "this host has no syncfs that tells of lost writes (it takes Linux 5.8): each file is synced alone, more"
            " slowly"
        )
        yield Finding("no-syncfs", NOTE, place, what)
    if durable:
        what = (
            f"disk: a small file and its directory were there after {took * 1e3:.1f} ms, a barrier takes"
            f" {whole * 1e3:.1f} ms"
        )
        yield Finding("fsync", NOTE, place, what)


def _fsync(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _name(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, error.strerror or "?")
