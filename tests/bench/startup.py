"""How fast a helper command starts inside a handler, beside an interpreter that imports click and does nothing.

It is measured inside a handler, so that the job directory, its context and the lease are real ones.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from functools import partial

from breyta_spool import Spool
from breyta_spool.handler import ActiveJob
from tests.bench import product
from tests.bench.bare import JOB_TYPE
from tests.bench.report import PRODUCT, Goal, Row
from tests.bench.setting import Setting
from tests.bench.turns import Turns

IMPORT = "python -c 'import click'"
HELPERS = {
    "progress": ("--message", "half"),
    "attach-kv": ("--label", "summary", "--field", "findings=3"),
    "finish": ("--summary", "reviewed", "--output", "findings=3"),
}


def measure(setting: Setting) -> list[Row]:
    """``breyta jobs worker progress``, ``attach-kv`` and ``finish``, which must succeed, and ``import click`` in turn."""
    spool = Spool.init(f"{setting.place}/startup", durability="none")
    spool.submit(JOB_TYPE, product.PAYLOAD)
    turns = Turns(setting.place)

    def handle(job: ActiveJob) -> None:
        environment = _environment(job.dir)
        commands = {name: [*breyta(), "jobs", "worker", name, *words] for name, words in HELPERS.items()}
        commands[IMPORT] = [sys.executable, "-c", "import click"]
        sides = {name: partial(milliseconds, words, environment) for name, words in commands.items()}
        for _ in range(setting.sizes.warm_ups):
            for side in sides.values():
                side()
        for _ in range(setting.sizes.starts):
            turns.go(sides)

    product.worker(spool, handle, once=True).run()
    (job,) = spool.list()
    if job.status != "succeeded":
        raise RuntimeError(f"a helper command failed: {job.error.message if job.error else job.status}")
    against = turns.numbers.pop(IMPORT)
    goals = [Goal(IMPORT, most=1.15)]
    return [
        Row(f"breyta jobs worker {name}", "ms", {PRODUCT: numbers, IMPORT: against}, goals)
        for name, numbers in turns.numbers.items()
    ]


def breyta() -> list[str]:
    """The program as installed beside this interpreter."""
    program = os.path.join(os.path.dirname(sys.executable), "breyta")
    return [program] if os.access(program, os.X_OK) else [sys.executable, "-m", "breyta_cli"]


def _environment(job_dir: str) -> dict[str, str]:
    """A handler's environment; compiled code may be kept, so that only the first start compiles."""
    return warm_environment() | {"BREYTA_JOB_DIR": job_dir}


def warm_environment() -> dict[str, str]:
    """This process's environment, but compiled code may be kept."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def milliseconds(command: list[str], environment: dict[str, str]) -> float:
    """How long a command took, which must succeed."""
    began = time.perf_counter()
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    spent = (time.perf_counter() - began) * 1000
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()}")
    return spent
