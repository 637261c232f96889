"""An upsert by key into a table, beside reading and writing the table's file once: as bytes, and row by row."""

from __future__ import annotations

import gc
import json
import os
import random
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any

from breyta_spool.tables import Table
from tests.bench.linux import settle
from tests.bench.report import Pairs, Row


def measure(place: str, rows: int, rounds: int) -> list[Row]:
    """A tenth as many rows, most of them known, into a table of ``rows``; three sides take turns on files as large."""
    directory = f"{place}/tables/artifacts/tables"
    os.makedirs(directory)
    table = Table(directory, "t")
    _upsert(table, (_row(number) for number in range(rows)))
    against_bytes: Pairs = []
    against_rows: Pairs = []
    draw = random.Random(1)
    for _ in range(rounds):
        incoming = [_row(n) | {"severity": "new"} for n in draw.sample(range(rows + rows // 100), rows // 10)]
        ours = _timed(place, partial(_upsert, table, incoming))
        by_bytes = _timed(place, partial(_copy_bytes, table.rows_file, f"{place}/tables/copy"))
        by_rows = _timed(place, partial(_copy_rows, table.rows_file, f"{place}/tables/copy"))
        against_bytes.append((ours, by_bytes))
        against_rows.append((ours, by_rows))
    detail = {"tableRows": rows, "newRows": rows // 10, "bytes": os.stat(table.rows_file).st_size}
    return [
        Row("upsert, against copying the bytes", "ms", against_bytes, most=3, detail=detail),
        Row("upsert, against copying row by row", "ms", against_rows, most=3, detail=detail),
    ]


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


def _timed(place: str, work: Callable[[], None]) -> float:
    settle(place)
    gc.collect()
    began = perf_counter()
    work()
    return (perf_counter() - began) * 1000
