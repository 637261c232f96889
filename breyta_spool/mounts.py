"""The mount below a directory: its type and options, as the kernel lists them, and what they mean for a spool.

``mount_of`` reads; ``judge`` is pure. What a table says about a file system is only what cannot be tried without a
power cut or a broken network; the rest is tried (trials.py, contests.py).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from breyta_spool.findings import ERROR, NOTE, WARNING, Finding

JOURNALED = frozenset(("ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "jfs", "bcachefs", "reiserfs", "ocfs2", "gfs2"))
VOLATILE = frozenset(("tmpfs", "ramfs", "devtmpfs", "rootfs"))
NFS = frozenset(("nfs", "nfs4"))
_FAT = frozenset(("vfat", "exfat", "msdos"))
_PROTOCOL_TRIED = frozenset(("fuse.mfs", "fuse.glusterfs"))
"""File systems that this project has run its protocol on, two mounts each."""
_OBJECT_STORES = re.compile(r"fuse\.(s3fs|gcsfuse|goofys|rclone|mount-s3|mountpoint-s3|blobfuse2?|juicefs-s3|s3ql)")
_SHARED_WITH_A_HYPERVISOR = frozenset(("9p", "drvfs", "vboxsf", "prl_fs", "fuse.vmhgfs-fuse", "vmhgfs", "fuse.prl_fsd"))
_ELSEWHERE = "put the spool on a local ext4 or XFS, or on NFS 4 from a server that exports it with 'sync'"


class Mount(NamedTuple):
    """One line of the kernel's table of mounts, and what else the kernel tells about its file system."""

    point: str
    type: str
    source: str
    options: dict[str, str]
    """Of the mount and of the file system; an option without a value has an empty one."""
    journal: bool | None = None
    """Whether an ext4 has a journal; None where that is no question."""


def mount_of(directory: str) -> Mount | None:
    """The mount that a directory is on, None where the kernel does not tell."""
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
        try:
            with open(f"/proc/self/fdinfo/{fd}", "rb") as told:
                number = re.search(rb"^mnt_id:\s*(\d+)", told.read(), re.MULTILINE)
        finally:
            os.close(fd)
        with open("/proc/self/mountinfo", "rb") as table:
            lines = table.read().decode(errors="surrogateescape").splitlines()
    except OSError:
        return None
    return next((_more_of(line) for line in lines if number and line.split(" ", 1)[0] == number[1].decode()), None)


def parse(line: str) -> Mount:
    r"""One line of /proc/self/mountinfo.

    >>> parse(r"36 35 98:0 / /mnt/a\040b rw,noatime master:1 - ext4 /dev/sda1 rw,errors=continue").point
    '/mnt/a b'
    """
    before, _, after = line.partition(" - ")
    _, _, _, _, point, of_mount = before.split(" ")[:6]
    kind, source, of_system = after.split(" ")[:3]
    options = dict(_option(text) for text in f"{of_system},{of_mount}".split(",") if text)
    mount = Mount(_plain(point), kind, _plain(source), options)
    # MooseFS does not name itself where others do.
    return mount._replace(type="fuse.mfs") if kind == "fuse" and mount.source.startswith("mfs#") else mount


def _option(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


def _plain(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _more_of(line: str) -> Mount:
    """The mount of a line; for ext4 with what its line leaves out: options that its superblock sets, its journal."""
    mount = parse(line)
    if mount.type not in ("ext4", "ext3", "ext2"):
        return mount
    device = os.path.basename(os.path.realpath(f"/sys/dev/block/{line.split(' ')[2]}"))
    told = _text(f"/proc/fs/{mount.type}/{device}/options").split()
    task = _text(f"/sys/fs/ext4/{device}/journal_task").strip()
    options = dict(_option(text) for text in told) | mount.options
    return mount._replace(options=options, journal=None if not task else task != "<none>")


def _text(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(65536).decode(errors="replace")
    except OSError:
        return ""


# -- judging ----------------------------------------------------------------------------------------


def judge(mount: Mount, durable: bool) -> list[Finding]:
    """What type and options say; ``durable``: the spool promises that what it acknowledged survives a power cut."""
    found = [Finding(*said) for rule in _RULES for said in rule(mount, durable)]
    what = f"the spool is on {_described(mount)}"
    return [Finding("mount", NOTE, mount.point, what), *found]


def _described(mount: Mount) -> str:
    asked = ("vers", "sync", "hard", "soft", "softerr", "noac", "nocto", "local_lock", "lookupcache", "ro", "data")
    shown = [
        f"{name}={mount.options[name]}" if mount.options[name] else name for name in asked if name in mount.options
    ]
    return f"{mount.type} ({mount.source} at {mount.point}{', ' if shown else ''}{', '.join(shown)})"


_Said = Iterator[tuple[str, str, str, str, str]]


def _volatile(mount: Mount, durable: bool) -> _Said:
    if mount.type in VOLATILE:
        yield (
            "volatile",
            ERROR if durable else NOTE,
            mount.point,
            f"{mount.type} is memory: a power cut or a reboot takes every job with it"
            + (", and this spool promises that what it acknowledged survives one" if durable else ""),
            "put the spool on a disk; for scratch, make it with 'breyta spool init --durability none'" * durable,
        )


def _no_journal(mount: Mount, durable: bool) -> _Said:
    if mount.type == "ext2" or mount.journal is False or "noload" in mount.options:
        yield (
            "no-journal",
            WARNING if durable else NOTE,
            mount.point,
            f"this {mount.type} has no journal: what the spool acknowledged is on the disk, but a power cut in the"
            " middle"
            " of a later change can leave directories that e2fsck must mend, and it may put jobs into lost+found",
            "add a journal (unmount, tune2fs -O has_journal DEVICE), or run e2fsck after every power cut",
        )


def _no_barrier(mount: Mount, durable: bool) -> _Said:
    if "nobarrier" in mount.options or mount.options.get("barrier") == "0":
        yield (
            "no-barrier",
            WARNING if durable else NOTE,
            mount.point,
            "the mount option nobarrier is set: the disk is never told to write its cache down, so a power cut can take"
            " jobs that were acknowledged, unless the cache has a battery",
            "remount with barrier=1 (ext4), or without nobarrier",
        )
    if mount.options.get("data") == "writeback":
        yield (
            "data-writeback",
            NOTE,
            mount.point,
            "data=writeback: after a power cut a file can hold old blocks. Harmless here: job.json and result.json"
            " carry the sha256 of what they vouch for, and nothing is acknowledged before its data is on the disk",
            "",
        )


def _overlay(mount: Mount, durable: bool) -> _Said:
    if mount.type not in ("overlay", "aufs"):
        return
    if "volatile" in mount.options or mount.options.get("fsync") == "volatile":
        yield (
            "overlay-volatile",
            ERROR if durable else NOTE,
            mount.point,
            "this overlay is mounted 'volatile': it never writes to the disk when it is asked to, so a power cut can"
            " take jobs that were acknowledged",
            "mount it without 'volatile', or put the spool on a volume",
        )
    yield (
        "overlay",
        WARNING,
        mount.point,
        f"{mount.type} is most often a container's own layer: it goes when the container goes, with every job, and no"
        " other container or host sees it",
        "put the spool on a volume or a bind mount",
    )


def _foreign(mount: Mount, durable: bool) -> _Said:
    if _OBJECT_STORES.fullmatch(mount.type):
        why = "an object store has no atomic rename: two workers can both win a job, and half a rename can stay"
        yield "object-store", ERROR, mount.point, f"{mount.type}: {why}", _ELSEWHERE
    elif mount.type == "fuse.sshfs":
        why = (
            "sshfs replaces a file in two steps, lets two hosts both create one name, keeps what it has listed for"
            " 20 s and has no locks between hosts: jobs are seen late, and records can be missing or be somebody else's"
        )
        yield "sshfs", ERROR, mount.point, why, _ELSEWHERE
    elif mount.type in _SHARED_WITH_A_HYPERVISOR:
        why = "a folder shared with a hypervisor: whether locks, links and fsync reach the host's disk is up to it"
        yield "shared-folder", WARNING, mount.point, f"{mount.type} is {why}", _ELSEWHERE
    elif mount.type in _FAT or mount.type in ("fuseblk", "ntfs", "ntfs3", "hfsplus", "hfs"):
        why = f"{mount.type} is made for exchange with other systems: no journal that covers a spool, or other names"
        yield "foreign-format", WARNING, mount.point, why, _ELSEWHERE
    elif mount.type in ("cifs", "smb3", "smbfs"):
        why = (
            "SMB renames over open files fail, and it has no symlinks of its own: what was tried here says how far it"
            " goes"
        )
        yield "smb", WARNING, mount.point, why, _ELSEWHERE
    elif mount.type == "ecryptfs":
        yield "ecryptfs", WARNING, mount.point, "eCryptfs cuts names down to 143 bytes", _ELSEWHERE
    elif mount.type not in JOURNALED | NFS | VOLATILE | _PROTOCOL_TRIED | {"ext2", "overlay", "aufs"}:
        why = (
            f"{mount.type} is not among the file systems that this program was tried on: trust what was tried here only"
        )
        yield "type-not-known", NOTE, mount.point, why, ""


def _nfs(mount: Mount, durable: bool) -> _Said:
    if mount.type not in NFS:
        return
    version = mount.options.get("vers", "")
    if version.startswith("2"):
        why = "NFS 2 cannot create a file exclusively: two submitters can both believe that an artifact is theirs"
        yield "nfs-2", ERROR, mount.point, why, "remount with vers=4.2 (or 3)"
    if soft := next((name for name in ("soft", "softerr") if name in mount.options), ""):
        yield (
            "nfs-soft",
            WARNING,
            mount.point,
            f"the mount option {soft} is set: when the server is away for a while, calls fail in the middle of a"
            " write, so attempts fail that would only have had to wait. Nothing acknowledged is lost",
            "remount with 'hard' (the default), and give long jobs a long --lease",
        )
    if "nocto" in mount.options:
        yield (
            "nfs-nocto",
            WARNING,
            mount.point,
            "the mount option nocto is set: what other hosts wrote is seen late, even by open, so a lease can look"
            " run out while its worker renews it, and a job is done twice (one result counts)",
            "remount without nocto",
        )
    yield from _nfs_locks(mount)
    yield from _nfs_caches(mount)


def _nfs_locks(mount: Mount) -> _Said:
    local = mount.options.get("local_lock", "none")
    if "nolock" in mount.options or local in ("all", "flock"):
        yield (
            "nfs-local-locks",
            NOTE,
            mount.point,
            "locks on this mount are this host's own"
            f" ({'nolock' if 'nolock' in mount.options else 'local_lock=' + local})."
            " Correctness does not rest on them, so only speed is lost: idle workers of several hosts read the queue at"
            " the same moment. Helpers side by side in one handler, which add rows to a table, are on one host: for"
            " them such locks are enough",
            "",
        )


def _nfs_caches(mount: Mount) -> _Said:
    named = ("noac", "actimeo", "acregmin", "acregmax", "acdirmin", "acdirmax", "lookupcache", "sync")
    shown = [
        f"{name}={mount.options[name]}" if mount.options[name] else name for name in named if name in mount.options
    ]
    if shown:
        yield (
            "nfs-caches",
            NOTE,
            mount.point,
            f"cache options: {', '.join(shown)}. Nothing here needs them: this program lists directories in place of"
            " asking for a name, and opens a file before it asks for its time, which is always fresh"
            + (". noac, actimeo=0 and sync make every call slower" if {"noac", "sync"} & set(shown) else ""),
            "",
        )


_RULES = (_volatile, _no_journal, _no_barrier, _overlay, _foreign, _nfs)
