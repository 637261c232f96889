"""A process that the probe sets against others at the same names: told by lines on stdin, it answers on stdout.

A new program, not a fork: whoever probes may have threads. It ends when its stdin does, so never after its parent.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import select
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import IO, Any, cast

from breyta_spool import files, looking

LEAST = 10
"""How many rounds each race has, however slow the file system is."""
PATIENCE = 30.0
"""After how many seconds without an answer a rival is given up: the mount hangs."""


class Rival:
    """The other end: starts such a process in a directory, and asks it to do things there."""

    def __init__(self, side: str, place: str) -> None:
        self.side = side
        self.place = place
        home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        kept = [part for part in (home, os.environ.get("PYTHONPATH", "")) if part]
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "breyta_spool.rivals", side, place],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(kept)},
            bufsize=0,
        )
        self._in = cast(IO[bytes], self._process.stdin)
        self._out = cast(IO[bytes], self._process.stdout)

    def __enter__(self) -> Rival:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def kill(self) -> None:
        """End it at once; one that hangs in the kernel is left to it."""
        self._process.kill()
        for pipe in (self._in, self._out):
            with suppress(OSError):
                pipe.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(5)

    def ask(self, what: str, *given: Any) -> Any:
        """Let it do something, and give the answer. Raises OSError as it did there, TimeoutError when it hangs."""
        self.begin(what, *given)
        return self.answer()

    def begin(self, what: str, *given: Any) -> None:
        """Let it start something, without waiting for it."""
        self._in.write(json.dumps([what, *given]).encode() + b"\n")

    def answer(self) -> Any:
        """What it answers to what was begun."""
        told = b""
        end = time.monotonic() + PATIENCE
        while not told.endswith(b"\n"):
            if not select.select([self._out], [], [], max(0.0, end - time.monotonic()))[0]:
                raise TimeoutError(errno.ETIMEDOUT, f"no answer within {PATIENCE:.0f} s", self.place)
            more = os.read(self._out.fileno(), 1 << 16)
            if not more:
                raise ChildProcessError(errno.ECHILD, "a process of the probe ended early", self.place)
            told += more
        answer = json.loads(told)
        if "error" in answer:
            raise OSError(*answer["error"])
        return answer["answer"]


# -- what it can do ---------------------------------------------------------------------------------


class _Side:
    """The process itself: every public method may be asked for."""

    def __init__(self, side: str, place: str) -> None:
        self.side = side
        self.place = place
        self._held: dict[str, int] = {}

    def _at(self, name: str) -> str:
        return f"{self.place}/{name}"

    def prepare(self, kind: str, most: int, seconds: float) -> list[float]:
        """Make what a race is about, as many as fit into a time; gives their number, and the seconds for each."""
        files.make_dir(self._at(kind))
        files.write_new(self._at(f"{kind}.source"), b"x")
        began = time.monotonic()
        count = 0
        while count < most and (count < LEAST or time.monotonic() - began < seconds):
            if kind == "rename":
                files.write_new(self._at(f"{kind}/s.{count}"), b"")
            elif kind == "directory":
                files.make_dir(self._at(f"{kind}/s.{count}"))
            else:
                files.write_new(self._at(f"{kind}/warm"), b"")
                files.unlink(self._at(f"{kind}/warm"))
            count += 1
        return [count, (time.monotonic() - began) / count]

    def race(self, kind: str, count: int, start: float, every: float, seconds: float) -> list[Any]:
        """Try to be the first at each of many names; gives how many it tried, which it won, and errors."""
        act = getattr(self, f"_{kind}")
        looking.names(self._at(kind))
        won: list[int] = []
        refused: Counter[str] = Counter()
        tried = 0
        for number in range(count):
            _wait_until(start + number * every + self._handicap(number, every))
            if number >= LEAST and time.monotonic() > start + seconds:
                break
            tried += 1
            try:
                act(number)
                won.append(number)
            except OSError as error:
                refused[errno.errorcode.get(error.errno or 0, "?")] += 1
        return [tried, won, refused]

    def _handicap(self, number: int, every: float) -> float:
        """In every other round all start at once, in the rest one after the other: the slower ones win some, too."""
        return (number // 2 + ord(self.side)) % 4 * every / 20 if number % 2 else 0.0

    def _rename(self, number: int) -> None:
        files.rename(self._at(f"rename/s.{number}"), self._at(f"rename/{self.side}.{number}"))

    def _directory(self, number: int) -> None:
        files.rename(self._at(f"directory/s.{number}"), self._at(f"directory/{self.side}.{number}"))

    def _create(self, number: int) -> None:
        files.write_new(self._at(f"create/{number}"), self.side.encode())

    def _symlink(self, number: int) -> None:
        files.symlink(self.side, self._at(f"symlink/{number}"))

    def _link(self, number: int) -> None:
        own = self._at(f"{self.side}.{number}.own")
        files.write_new(own, self.side.encode())
        try:
            files.link(own, self._at(f"link/{number}"))
        finally:
            files.unlink(own)

    def winners(self, kind: str) -> dict[str, str]:
        """Whose each name of a race is now, as the disk says."""
        names = looking.names(self._at(kind))
        if kind in ("rename", "directory"):
            return {name: name.split(".")[0] for name in names if not name.startswith("s.")}
        if kind == "symlink":
            return {name: os.readlink(self._at(f"{kind}/{name}")) for name in names}
        return {name: looking.read(self._at(f"{kind}/{name}"), 100).decode() for name in names}

    def append(self, name: str, count: int, start: float) -> None:
        """Add lines to a file that others add to as well."""
        _wait_until(start)
        for number in range(count):
            files.append(self._at(name), b"%s %d\n" % (self.side.encode(), number))

    def lines(self, name: str) -> int:
        """How many whole and different lines a file has."""
        lines = looking.read(self._at(name), 1 << 20).split(b"\n")[:-1]
        return len({line for line in lines if len(line.split()) == 2})

    def write_over(self, name: str, seconds: float, start: float) -> int:
        """Replace a file again and again; gives how often."""
        _wait_until(start)
        count = 0
        while time.monotonic() < start + seconds:
            count += 1
            files.replace(self._at(name), bytes([65 + count % 26]) * 4096)
        return count

    def read_over(self, name: str, seconds: float, start: float) -> list[Any]:
        """Read that file again and again; gives how often, and what was wrong with it."""
        wrong: Counter[str] = Counter()
        count = 0
        _wait_until(start)
        while time.monotonic() < start + seconds:
            count += 1
            try:
                data = looking.read(self._at(name), 1 << 20)
            except OSError as error:
                wrong[errno.errorcode.get(error.errno or 0, "?")] += 1
            else:
                if len(data) != 4096 or len(set(data)) != 1:
                    wrong["torn"] += 1
        return [count, wrong]

    def lock(self, name: str, how: str) -> str:
        """Try to lock a file without waiting: ``held``, ``busy``, or the name of the error."""
        fd = os.open(self._at(name), os.O_RDWR | os.O_CLOEXEC)
        try:
            call: Callable[[int, int], Any] = fcntl.flock if how == "flock" else fcntl.lockf
            call(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            return "busy" if error.errno in (errno.EAGAIN, errno.EACCES) else errno.errorcode.get(error.errno or 0, "?")
        self._held[name] = fd
        return "held"

    def unlock(self, name: str) -> None:
        """Let a lock go."""
        os.close(self._held.pop(name))

    # -- how long until one side sees what the other did; times are those of this host's monotonic clock ----

    def look(self, name: str) -> list[Any]:
        """Look in every way, so that whatever caches there are hold the state of now; gives the directory's names."""
        os.path.exists(self._at(name))
        with suppress(OSError):
            looking.modified(self._at(name))
        return looking.names(self.place)

    def make(self, name: str) -> float:
        """Make a file; gives when."""
        files.write_new(self._at(name), b"0")
        return time.monotonic()

    def put(self, name: str, text: str) -> float:
        """Replace a file; gives when."""
        files.replace(self._at(name), text.encode())
        return time.monotonic()

    def add(self, name: str, text: str) -> float:
        """Add a line; gives when."""
        files.append(self._at(name), text.encode() + b"\n")
        return time.monotonic()

    def touch(self, name: str) -> list[float]:
        """Touch a file; gives the time it got, and when it was done."""
        time.sleep(0.02)  # or a coarse clock gives the same time once more
        files.touch(self._at(name))
        return [looking.modified(self._at(name)), time.monotonic()]

    def sees(self, how: str, name: str, what: Any, seconds: float) -> float | None:
        """Wait until this side sees something; gives when, None when it did not in time."""
        end = time.monotonic() + seconds
        while not self._sees(how, name, what):
            if time.monotonic() > end:
                return None
            time.sleep(0.002)
        return time.monotonic()

    def _sees(self, how: str, name: str, what: Any) -> bool:
        try:
            if how == "listing":
                return name in looking.names(self.place)
            if how == "exists":
                return os.path.exists(self._at(name))
            if how == "time":
                return bool(looking.modified(self._at(name)) >= what)
            return str(what).encode() in looking.read(self._at(name), 1 << 20)
        except FileNotFoundError:
            return False


def _wait_until(moment: float) -> None:
    """Nearly to the microsecond, so that rivals meet: sleep first, then look at the clock."""
    while (left := moment - time.monotonic()) > 0:
        if left > 0.0003:
            time.sleep(left - 0.0002)


def main() -> None:
    """Do what is told, line by line, until there is nothing more to do."""
    side = _Side(*sys.argv[1:3])
    for line in sys.stdin.buffer:
        what, *given = json.loads(line)
        try:
            answer = {"answer": getattr(side, what)(*given)}
        except OSError as error:
            answer = {"error": [error.errno, error.strerror, error.filename]}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
