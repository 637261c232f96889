"""Where it is measured: a journaled ext4 of its own when root, so that neither another's files nor a crude /tmp count.

Nothing is deleted while it is measured: creating files soon after deleting many is slow on some file systems.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

IMAGE_BYTES = 16 << 30
"""As large as the files on it may become; on the disk it takes what they take."""
_MAKE = ["mkfs.ext4", "-q", "-F", "-i", "4096", "-E", "lazy_itable_init=0,lazy_journal_init=0"]
"""An inode for every 4 KiB, as spools need; nothing left for the kernel to initialise while it is measured."""


@contextmanager
def fresh(directory: str | None, mount: bool, image_bytes: int = IMAGE_BYTES) -> Iterator[tuple[str, str]]:
    """A fresh directory to measure in, and a line about it; taken away in the end.

    In ``directory`` when that is given; else on an ext4 image when ``mount`` is set and this is root.
    """
    base = tempfile.mkdtemp(prefix="breyta-bench-", dir=directory)
    mounted = None
    try:
        if directory is not None:
            yield base, f"in {base}, as asked for"
        elif not mount or os.geteuid() != 0:
            yield base, f"in {base}, on whatever that is: only root can mount an image for it"
        else:
            mounted, line = _mounted(base, image_bytes)
            yield mounted or base, line
    finally:
        if mounted:
            _unmount(mounted)
        shutil.rmtree(base, ignore_errors=True)


def _mounted(base: str, image_bytes: int) -> tuple[str | None, str]:
    image, point = f"{base}/image", f"{base}/mounted"
    try:
        with open(image, "wb") as file:
            file.truncate(image_bytes)
        os.mkdir(point)
        for command in ([*_MAKE, image], ["mount", "-o", "loop", image, point]):
            subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        why = getattr(error, "stderr", "").strip() or str(error)
        return None, f"in {base}, on whatever that is: an image could not be mounted ({why})"
    return point, f"on a journaled ext4 of its own, an image of {image_bytes >> 30} GiB on a loop device"


def _unmount(point: str) -> None:
    # Lazily: a process that was interrupted may still be leaving, and an open spool keeps a descriptor. The file
    # system is gone from the tree at once, and the image from the disk when the last of them is.
    subprocess.run(["umount", "--lazy", point], check=False)
