"""Who builds what lies in tmp/: its name ends in a mark that tells whether the process that made it still lives.

A mark is ``HOST-PID-START``: 8 hexadecimal digits of the running kernel and its space of process ids, the process
id in it, and the moment it began in ticks since that kernel did. Process ids are used again; the three together are
not. Only processes that share the kernel and that space can judge a mark, and the others fall back to its age.
"""

from __future__ import annotations

import hashlib
import os
import re
from functools import lru_cache

_MARK = re.compile(r"\.([0-9a-f]{8})-([1-9][0-9]{0,9})-([0-9]{1,20})(?:\.[a-z]{1,10})?")
_DEAD = ("Z", "X", "x")


def marked(name: str) -> str:
    """A name in tmp/ with the mark of this process; the name alone where the system does not tell."""
    mark = _mark(os.getpid())
    return f"{name}.{mark}" if mark else name


def has_died(name: str) -> bool:
    """Whether the process that made a name in tmp/ is known to be gone."""
    match = _MARK.search(name)
    if match is None or match.end() != len(name) or match[1] != _host(os.getpid()):
        return False
    return _began(int(match[2])) != match[3]


@lru_cache(maxsize=1)
def _mark(pid: int) -> str:
    began, host = _began(pid), _host(pid)
    return f"{host}-{pid}-{began}" if began and host else ""


@lru_cache(maxsize=1)
def _host(pid: int) -> str:
    """The kernel and the space of process ids that this process is in; empty when /proc shows another one."""
    try:
        if os.readlink("/proc/self") != str(pid):
            return ""
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            boot = file.read(64)
        return hashlib.sha256(boot + os.readlink("/proc/self/ns/pid").encode()).hexdigest()[:8]
    except OSError:
        return ""


def _began(pid: int) -> str:
    """When a process began, in ticks since its kernel did; empty when it does not run."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read(4096).rpartition(b")")[2].decode().split()
    except (OSError, ValueError):
        return ""
    # The state is the third field of the line, the start the twenty-second; a process that is only waited for is gone.
    return "" if len(fields) < 20 or fields[0] in _DEAD else fields[19]
