"""A journaled file system in an image on a loop device, and how its power is cut.

The cut is the shutdown ioctl that flushes nothing, not even the log: what the kernel had not written to the device by
itself or because somebody asked for it is gone. The device itself loses nothing that it was given.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import struct
import subprocess
import tempfile
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_SHUTDOWN = 0x8004587D
_NO_LOG_FLUSH = struct.pack("I", 2)
_MAKE = {"ext4": ["mkfs.ext4", "-q", "-F", "-i", "4096"], "xfs": ["mkfs.xfs", "-q"]}
_MEGABYTES = {"ext4": 192, "xfs": 320}
_NEW_NAMESPACE = 0x00020000
_PRIVATE = 0x4000 | 0x40000  # MS_REC, MS_PRIVATE
_PATIENCE = 20.0


@cache
def why_not(kind: str = "ext4") -> str:
    """Why there can be no power cuts here; empty when there can."""
    if os.geteuid() != 0:
        return "needs root, to mount an image"
    if kind not in Path("/proc/filesystems").read_text().split():
        return f"this kernel has no {kind}"
    for program in (_MAKE[kind][0], "unshare", "losetup"):
        if shutil.which(program) is None:
            return f"needs {program}"
    # A container's root may do neither; it takes a try to know.
    tried = subprocess.run(["unshare", "--mount", "losetup", "--find"], capture_output=True, check=False, timeout=60)
    return "" if tried.returncode == 0 else f"needs mounts and loop devices: {tried.stderr.decode().strip()}"


def leave_the_others() -> None:
    """Mount from now on where only this process and its children see it. Raises OSError.

    A process that copied the mounts while an image was mounted would keep what was cut alive; and nothing stays mounted
    when this one has ended, whatever ends it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_NAMESPACE) or libc.mount(b"none", b"/", None, _PRIVATE, None):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")


@dataclass
class Disk:
    """One file system; use it with ``with``. ``options`` are for mount."""

    kind: str = "ext4"
    options: str = ""
    place: str = ""
    is_mounted: bool = False

    def __enter__(self) -> Disk:
        # In memory where that is to be had: only what the kernel has handed to the device counts, not how fast it is.
        base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.place = tempfile.mkdtemp(prefix="breyta-powercut-", dir=base)
        try:
            with open(f"{self.place}/image", "wb") as file:
                file.truncate(_MEGABYTES[self.kind] << 20)
            _run(*_MAKE[self.kind], f"{self.place}/image")
            os.mkdir(self.top)
            self.mount()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self.is_mounted:
            subprocess.run(["umount", "--lazy", self.top], check=False)
        shutil.rmtree(self.place, ignore_errors=True)

    @property
    def top(self) -> str:
        return f"{self.place}/mounted"

    def mount(self) -> None:
        _run("mount", "-o", ",".join(filter(None, ["loop", self.options])), f"{self.place}/image", self.top)
        self.is_mounted = True

    def cut(self) -> None:
        """From now on nothing reaches the disk any more."""
        fd = os.open(self.top, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, _SHUTDOWN, _NO_LOG_FLUSH)
        finally:
            os.close(fd)

    def power_on(self) -> None:
        """Mount what was cut again. Whoever had a file open must have ended."""
        unmount(self.top)
        self.is_mounted = False
        self.mount()


def unmount(top: str) -> None:
    """Unmount, as soon as nobody uses it any more. Raises OSError."""
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            return _run("umount", top)
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
