"""Whether many jobs that have ended make looking at them slow, by the command line."""

from __future__ import annotations

import os
from functools import partial

from breyta_spool import Spool
from tests.bench import mould
from tests.bench.bare import JOB_TYPE
from tests.bench.report import PRODUCT, Goal, Row
from tests.bench.setting import Setting
from tests.bench.startup import breyta, milliseconds, warm_environment
from tests.bench.turns import Turns

PER_MINUTE = 1000
COMMANDS = {
    "show": ["show"],
    "list": ["list"],
    "list --status --type": ["list", "--status", "succeeded", "--type", JOB_TYPE],
}


def measure(setting: Setting) -> list[Row]:
    """Each command in a spool with many jobs and in one with few, in turn."""
    deep, shallow = setting.sizes.deep, setting.sizes.shallow
    assert setting.sample
    many = mould.filled(f"{setting.place}/finished-many", setting.sampled, deep, PER_MINUTE)
    few = mould.filled(f"{setting.place}/finished-few_", setting.sampled, shallow, PER_MINUTE)
    beside = f"the same at {shallow:,}"
    rows = []
    for name, words in COMMANDS.items():
        turns = Turns(setting.place)
        sides = {PRODUCT: _command(many, words), beside: _command(few, words)}
        for _ in range(setting.sizes.warm_ups):
            for side in sides.values():
                side()
        for _ in range(setting.sizes.starts):
            turns.go(sides)
        rows.append(Row(f"breyta jobs {name}, {deep:,} ended", "ms", turns.numbers, [Goal(beside, most=1.5)]))
    return rows


def _command(spool: Spool, words: list[str]) -> partial[float]:
    """How long a command takes; ``show`` is of the oldest job."""
    if words == ["show"]:
        day = min(os.listdir(f"{spool.root}/jobs"))
        minute = min(os.listdir(f"{spool.root}/jobs/{day}"))
        words = ["show", min(os.listdir(f"{spool.root}/jobs/{day}/{minute}"))]
    environment = warm_environment() | {"BREYTA_SPOOL": spool.root}
    return partial(milliseconds, [*breyta(), "jobs", *words], environment)
