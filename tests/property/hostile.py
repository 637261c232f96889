"""Bytes and names that somebody hostile, or a failing disk, would put where a record or a name is expected."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

DEEP = "[" * 210 + "]" * 210
FRAGMENTS = [
    "null", "true", "0", "-1", "1", "3", "1.5", "-0.0", "1e308", "1e999", "-1e999", "NaN", "Infinity", "2147483648",
    "18446744073709551616", "253402300799999", "9" * 4000, "-" + "9" * 4000, "1" + "0" * 5000,
    '""', '" "', '"x"', '"\\ud800"', '"\\u0000"', '"..\\/.."', '"/etc/passwd"', '"\\u001b[2J"', '"' + "x" * 70_000 + '"',
    '"9999-12-31T23:59:59Z"', '"2026-11-22T15:30:00.000Z"', '"succeeded"', '"running"',
    "[]", "{}", "[[]]", '["x"]', "[null]", '{"a": {"b": [1]}}', '{"": ""}', '{"\\ud800": 1}', DEEP, "[" * 100_000,
    '{"a":' * 190 + "1" + "}" * 190, '{"type": [], "nullable": {}}', '{"c": {"type": ["x"], "nullable": 0}}',
]  # fmt: skip
"""JSON values, and what is none, that a reader may not expect in a field."""

EVIL_BYTES = [
    b"", b"\0", b"\n", b" ", b"{", b"{}", b"[]", b"null", b'"x"', b"\xff\xfe", b"\xef\xbb\xbf{}", b"{}\0", b"{}{}", b"\xed\xa0\x80",
    b"[" * 100_000, b'{"a":' * 100_000, b"9" * 1_000_000, b"x\n" * 1000, b"\n" * 70_000, b'{"a": 1}\n' * 1000, b"\0" * 5000,
]  # fmt: skip
"""Whole contents of a file."""

NAMES = [
    "", ".", "..", "...", "/", "a/b", "../x", "../../x", "/etc/passwd", "\0", "a\0b", "-x", "--help", ".hidden", "~", "a\nb", "a\n",
    "\x1b[2J", "\u202e", "\uff41", "\u0430", "\u2024\u2024", "\u2215", "x" * 255, "x" * 256, "x" * 5000, "é", "\ud800", "\udcff", "%2e%2e%2f", "con", "a b", " ", "*", "$(x)",
    "tmp", "jobs", "kv", "tables", "spool.json", "job-", "job-01JD0W3Z8Q4X5V6B7N8M9K0P1R/../..", "job-01JD0W3Z8Q4X5V6B7N8M9K0P1R\n",
    "job-81JD0W3Z8Q4X5V6B7N8M9K0P1R", "job-7ZZZZZZZZZZZZZZZZZZZZZZZZZ", "job-01JD0W3Z8Q4X5V6B7N8M9K0P1R-00001", "job-01jd0w3z8q4x5v6b7n8m9k0p1r",
    "batch-01JD0W3Z8Q4X5V6B7N8M9K0P1R", "sa-01JD0W3Z8Q4X5V6B7N8M9K0P1R", "key-01JD0W3Z8Q4X5V6B7N8M9K0P1R",
    "res://v1/ws/ws-acme/file/job-01JD0W3Z8Q4X5V6B7N8M9K0P1R.1...", "res://v1/ws/ws-acme/file/job-01JD0W3Z8Q4X5V6B7N8M9K0P1R.1.../../x",
    "res://v1/ws/ws-acme/file/job-01JD0W3Z8Q4X5V6B7N8M9K0P1R.1.%2e%2e%2f", "res://v1/ws/ws-acme/result/kv/job-01JD0W3Z8Q4X5V6B7N8M9K0P1R.1.a/../../b",
    "res://v1/ws/../file/job-01JD0W3Z8Q4X5V6B7N8M9K0P1R.1.x",
]  # fmt: skip
"""Texts that a careless program would follow out of its directory, choke on, or take for an option."""

CHARACTERS = st.characters(exclude_categories=())
TEXT = st.text(CHARACTERS, max_size=30)
NAME = st.sampled_from(NAMES) | TEXT | st.lists(st.sampled_from(NAMES), min_size=2, max_size=3).map("".join)

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip
"""What JSON can say."""


def one_of(given: list[Any]) -> st.SearchStrategy[Any]:
    """One of some, shown by its number: some are very long."""
    return st.integers(0, len(given) - 1).map(given.__getitem__)


FRAGMENT = one_of(FRAGMENTS) | JSON.map(json.dumps)


def replaced(record: bytes, field: str, fragment: str) -> bytes:
    """A record with one field's value replaced by a text that need not be JSON."""
    members = [f"{json.dumps(k)}: {fragment if k == field else json.dumps(v)}" for k, v in json.loads(record).items()]
    return _object(members)


def _object(members: list[str]) -> bytes:
    return ("{" + ", ".join(members) + "}\n").encode("utf-8", "surrogatepass")


@st.composite
def nearly(draw: st.DrawFn, valid: bytes) -> bytes:
    """A record that is right but for a few fields."""
    members = [(json.dumps(name), json.dumps(value)) for name, value in json.loads(valid).items()]
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(members) - 1))
        name, value = members[at]
        match draw(st.sampled_from(("replace", "replace", "remove", "twice", "add"))):
            case "replace":
                members[at] = (name, draw(FRAGMENT))
            case "remove" if len(members) > 1:
                del members[at]
            case "twice":
                members.append((name, draw(FRAGMENT)))
            case _:
                members.append((json.dumps(draw(NAME)), value))
    return _object([f"{name}: {value}" for name, value in members])


@st.composite
def torn(draw: st.DrawFn, valid: bytes) -> bytes:
    """Bytes of which some were changed, lost, or put in between."""
    data = bytearray(valid)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(("cut", "insert", "change", "drop"))):
            case "cut":
                del data[at:]
            case "insert":
                data[at:at] = draw(one_of(EVIL_BYTES) | st.binary(max_size=8))
            case "change":
                data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case _:
                del data[at : at + draw(st.integers(1, 16))]
    return bytes(data)


def spoiled(valid: bytes) -> st.SearchStrategy[bytes]:
    """What may be found where ``valid`` was written."""
    anything = one_of(EVIL_BYTES) | torn(valid) | st.binary(max_size=200) | JSON.map(lambda v: json.dumps(v).encode())
    return anything | nearly(valid) if valid.startswith(b"{") else anything
