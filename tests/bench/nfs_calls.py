"""Which call of the product costs which requests: ``python -m tests.bench.nfs_calls [--jobs N]``.

On a host of the lab the functions of ``os`` are wrapped, and after each call the kernel is asked what it has sent since.
One host does all of it, or, with ``--other``, one submits and the other drains.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

from breyta_spool import Spool
from breyta_spool.results import Outcome
from tests.bench import product
from tests.bench.nfs_host import Requests
from tests.command import leave_with
from tests.hosts import lab as labs

CALLS = "open close read write mkdir rename symlink utime lstat stat link unlink listdir scandir fstat posix_fadvise readlink"


class Traced:
    """Counts requests by call and caller, between ``begin`` and ``end``."""

    def __init__(self, share: str) -> None:
        self._requests = Requests(share)
        self._on = False
        self.found: dict[str, Counter[str]] = defaultdict(Counter)
        for name in CALLS.split():
            setattr(os, name, self._wrapped(name, getattr(os, name)))

    def begin(self) -> None:
        """Count from here on."""
        self._on = True

    def end(self) -> None:
        """Count no more."""
        self._on = False

    def _wrapped(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def traced(*args: Any, **kwargs: Any) -> Any:
            if not self._on:
                return call(*args, **kwargs)
            before = self._requests()[0]
            self._on = False
            try:
                return call(*args, **kwargs)
            finally:
                self._on = True
                key = f"{name} {_what(args)} < {_callers()}"
                self.found[key]["calls"] += 1
                self.found[key] += self._requests()[0] - before

        return traced


def _what(args: Sequence[Any]) -> str:
    return ",".join(_word(arg.rpartition("/")[2]) for arg in args if isinstance(arg, str))


def _word(name: str) -> str:
    if name.startswith("job-"):
        return "JOB"
    return ".".join(name.split(".")[:2]) if name.startswith("status.") else name


def _callers() -> str:
    frame: FrameType | None = sys._getframe(2)
    told: list[str] = []
    while frame is not None and len(told) < 6:
        code = frame.f_code
        if "breyta_spool" in code.co_filename and code.co_name not in ("change", "_do", "again_if_stale", "_look"):
            told.append(f"{os.path.basename(code.co_filename)[:-3]}.{code.co_name}:{frame.f_lineno}")
        frame = frame.f_back
    return " < ".join(told[:3])


def on_host(share: str, work: str, root: str, jobs: str) -> None:
    """Do the work in a spool, and print what it cost."""
    count = int(jobs)
    spool = Spool.open(root) if os.path.exists(root) else Spool.init(root)
    if work == "submit":
        product.submit(spool, 3)
    traced = Traced(share)
    if work == "submit":
        traced.begin()
        product.submit(spool, count)
        traced.end()
    else:
        queue = spool.queue("t")
        for number in range(count + 3):
            if number == 3:
                traced.begin()
            held = spool.claims.claim(queue, "t", "w", {}, spool.settings.default_lease_ms, True, True)
            assert held is not None
            held.dir.only_here = True
            spool.claims.finish(held.dir, "t", Outcome("succeeded"), {"workerId": "w"})
        traced.end()
    print(json.dumps({key: dict(counts) for key, counts in traced.found.items()}))


def main(arguments: Sequence[str] | None = None) -> int:
    """Trace submit, claim and finish; 1 where the lab cannot be built."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.nfs_calls", description="Attribute NFS requests.")
    parser.add_argument("--jobs", type=int, default=50, help="how many jobs are counted")
    parser.add_argument("--other", action="store_true", help="another host drains than has submitted")
    options = parser.parse_args(arguments)
    if why := labs.lacking():
        print(f"error: {why}", file=sys.stderr)
        return 1
    with labs.running("4.2") as lab:
        for work, host in (("submit", lab.a), ("drain", lab.b if options.other else lab.a)):
            argv = (
                "-m",
                "tests.bench.nfs_calls",
                "--on-host",
                host.share,
                work,
                f"{host.share}/traced",
                str(options.jobs),
            )
            _show(work, host.start(host.python, *argv).answer(300), options.jobs)
    return 0


def _show(work: str, found: dict[str, dict[str, int]], jobs: int) -> None:
    total = 0
    print(f"\n{work}: requests a job, by call")
    for key, counts in found.items():
        calls = counts.pop("calls")
        total += sum(counts.values())
        if calls >= jobs / 2 or sum(counts.values()) >= jobs / 20:
            ops = ", ".join(f"{name} {count / jobs:.2g}" for name, count in sorted(counts.items()))
            print(f"{sum(counts.values()) / jobs:6.2f}  {key}: {ops}")
    print(f"{total / jobs:6.2f}  all")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--on-host"]:
        on_host(*sys.argv[2:])
    else:
        leave_with(main)
