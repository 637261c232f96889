"""How fast a helper command starts inside a handler, beside an interpreter that imports click and does nothing.

It is measured inside a handler, so that the job directory, its context and the lease are real ones.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

from breyta_spool import Spool
from breyta_spool.handler import ActiveJob
from tests.bench import product
from tests.bench.bare import JOB_TYPE
from tests.bench.report import Pairs, Row

WARM_UP = 2


def helper_start(place: str, rounds: int) -> Row:
    """``breyta jobs worker progress``, which must succeed, and ``python -c "import click"`` in turn."""
    spool = Spool.init(f"{place}/startup", durability="none")
    spool.submit(JOB_TYPE, product.PAYLOAD)
    pairs: Pairs = []

    def handle(job: ActiveJob) -> None:
        environment = _environment(job.dir)
        for _ in range(WARM_UP + rounds):
            helper = _milliseconds([*_breyta(), "jobs", "worker", "progress", "--message", "half"], environment)
            pairs.append((helper, _milliseconds([sys.executable, "-c", "import click"], environment)))

    product.worker(spool, handle, once=True).run()
    (job,) = spool.list()
    if job.status != "succeeded":
        raise RuntimeError(f"the helper command failed: {job.error.message if job.error else job.status}")
    detail = {"against": "python -c 'import click'", "reports": WARM_UP + rounds}
    return Row("helper command, against import click", "ms", pairs[WARM_UP:], most=1.15, detail=detail)


def _breyta() -> list[str]:
    """The program as installed beside this interpreter."""
    program = os.path.join(os.path.dirname(sys.executable), "breyta")
    return [program] if os.access(program, os.X_OK) else [sys.executable, "-m", "breyta_cli"]


def _environment(job_dir: str) -> dict[str, str]:
    """A handler's environment; compiled code may be kept, so that only the first start compiles."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return kept | {"BREYTA_JOB_DIR": job_dir}


def _milliseconds(command: list[str], environment: dict[str, str]) -> float:
    began = time.perf_counter()
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    spent = (time.perf_counter() - began) * 1000
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()}")
    return spent
