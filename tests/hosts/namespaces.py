"""Namespaces of their own for a lab: what is started in them ends with them, whatever becomes of the tests."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_NEW = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]


def lacking(programs: Sequence[str], packages: str) -> str:
    """Why no lab can be built here, in words; empty when one can."""
    if os.geteuid() != 0:
        return "a lab of hosts needs root, for mounts and namespaces"
    place = os.defpath + os.pathsep + "/usr/sbin:/sbin"
    if missing := [name for name in programs if not shutil.which(name, path=place)]:
        return f"{', '.join(missing)} missing: apt-get install {packages}"
    tried = subprocess.run([*_NEW, "true"], capture_output=True, text=True, check=False)
    return f"no namespaces of its own here: {tried.stderr.strip()}" if tried.returncode else ""


class Namespaces:
    """A network, a tree of mounts and a table of processes that nobody else sees.

    Their first process waits for the end of its input. It comes when this one dies, too, and then the kernel ends all
    others and takes the mounts away.
    """

    def __init__(self) -> None:
        self._first = subprocess.Popen([*_NEW, "cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        self._started: list[subprocess.Popen[Any]] = []
        self._enter = ["nsenter", f"--target={_child_of(self._first.pid)}", "--net", "--mount", "--pid"]

    def start(self, argv: Sequence[str], **how: Any) -> subprocess.Popen[Any]:
        """Start a program in here, in a session of its own; the process is a shell around it, see ``inner``."""
        process = subprocess.Popen([*self._enter, *argv], start_new_session=True, **how)
        self._started.append(process)
        return process

    def run(self, script: str, timeout: float = 60) -> str:
        """Run a bash script in here; gives what it printed. Raises AssertionError when it fails."""
        done = subprocess.run(
            [*self._enter, "bash", "-euc", script], capture_output=True, text=True, timeout=timeout, check=False
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout

    @staticmethod
    def inner(process: subprocess.Popen[Any]) -> int:
        """The number, outside, of the program that was started."""
        return _child_of(process.pid)

    def close(self) -> None:
        """End all that runs in here."""
        assert self._first.stdin is not None
        self._first.stdin.close()
        try:
            self._first.wait(20)
        except subprocess.TimeoutExpired:
            self._first.kill()
            self._first.wait(20)
        for process in self._started:
            end_group(process)
            if process.stdin is not None:
                process.stdin.close()


def _child_of(pid: int) -> int:
    end = time.monotonic() + 20
    while not (children := Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
        assert time.monotonic() < end, "a process did not start"
        time.sleep(0.005)
    return int(children[0])


def end_group(process: subprocess.Popen[Any]) -> None:
    """End a process of ``start`` and all of its session at once, stopped or not."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait(20)
