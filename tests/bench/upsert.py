"""An upsert by key into a table, beside reading and writing the table's file once: as bytes, and row by row."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any

from breyta_spool.tables import Table
from tests.bench.report import PRODUCT, Goal, Row
from tests.bench.setting import Setting
from tests.bench.turns import Turns

BYTES, ROWS = "copying the bytes", "copying row by row"


def measure(setting: Setting) -> list[Row]:
    """A tenth as many rows, most of them known, into a table of many; three sides take turns on files as large."""
    rows = setting.sizes.table_rows
    directory = f"{setting.place}/tables/artifacts/tables"
    copy = f"{setting.place}/tables/copy"
    os.makedirs(directory)
    table = Table(directory, "t")
    _upsert(table, (_row(number) for number in range(rows)))
    turns = Turns(setting.place)
    draw = random.Random(1)
    for _ in range(setting.sizes.upserts):
        incoming = [_row(n) | {"severity": "new"} for n in draw.sample(range(rows + rows // 100), rows // 10)]
        work = {
            PRODUCT: partial(_upsert, table, incoming),
            BYTES: partial(_copy_bytes, table.rows_file, copy),
            ROWS: partial(_copy_rows, table.rows_file, copy),
        }
        turns.go({name: partial(_milliseconds, one) for name, one in work.items()})
    detail = {"tableRows": rows, "newRows": rows // 10, "bytes": os.stat(table.rows_file).st_size}
    name = f"upsert of {rows // 10:,} rows into {rows:,}"
    return [Row(name, "ms", turns.numbers, [Goal(BYTES, most=3), Goal(ROWS, most=3)], detail=detail)]


def _row(number: int) -> dict[str, Any]:
    return {
        "id": f"F-{number:07}",
        "severity": ("low", "high")[number % 2],
        "title": "Token is logged in plain text by the client",
        "line": number,
        "score": number / 7,
        "tags": ["security", "logging"],
    }


def _upsert(table: Table, rows: Any) -> None:
    table.write(rows, "upsert", "evolve", ["id"], [])


def _copy_bytes(source: str, to: str) -> None:
    with open(source, "rb") as file, open(to, "wb") as copy:
        while data := file.read(1 << 20):
            copy.write(data)


def _copy_rows(source: str, to: str) -> None:
    encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
    with open(source, "rb") as file, open(to, "wb") as copy:
        for line in file:
            copy.write(encode(json.loads(line)).encode() + b"\n")


def _milliseconds(work: Callable[[], None]) -> float:
    began = perf_counter()
    work()
    return (perf_counter() - began) * 1000
