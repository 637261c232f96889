"""``python -m tests.hosts --nfs 4.2|3|moosefs``: print what the work costs between hosts."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from tests.command import leave_with
from tests.hosts import figures, lab, moosefs


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 where the lab cannot be built."""
    parser = argparse.ArgumentParser(prog="python -m tests.hosts", description="Measure between hosts.")
    parser.add_argument("--nfs", choices=["4.2", "3", "moosefs"], default="4.2", help="what the hosts share")
    parser.add_argument("--jobs", type=int, default=500, help="how many jobs are submitted and drained")
    options = parser.parse_args(arguments)
    if why := moosefs.lacking() if options.nfs == "moosefs" else lab.lacking():
        print(f"error: {why}", file=sys.stderr)
        return 1
    with moosefs.running() if options.nfs == "moosefs" else lab.running(options.nfs) as running:
        rows = figures.measured(running, options.jobs)
    print(
        f"{'MooseFS' if options.nfs == 'moosefs' else f'NFS {options.nfs}'}, {options.jobs} jobs, durable, with locks"
    )
    print("\n".join(row.to_line() for row in rows))
    return 0


if __name__ == "__main__":
    leave_with(main)
