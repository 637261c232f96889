"""What fuzzing begins with: the files of the example, and words that parsers here know."""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).resolve().parent
EXAMPLE = HERE.parents[1] / "spool/example"
DICTIONARY = HERE / "dictionary.txt"
WORDS = [
    b"job-01M81Y1Y5CDE3B4WZZ6KYE37BB-00007", b"batch-01M81Y1Y5CDE3B4WZZ6KYE37BB", b"status.leased.1.5d0c31f2a7e94b86", b"1h30m", b"2026-11-22T15:30:00Z",
    b"res://v1/ws/ws-acme/result/kv/job-01M81Y1Y5CDE3B4WZZ6KYE37BB.1.review%20summary", b'n=1\nname=api\ntags=["a"]',
    b'{"type": "exponential", "factor": 2, "max": "1m"}', b'[["id", ">=", 1], ["a", "in", ["x"]], ["a", "is-null"]]\n[["id", "desc"]]',
    b'{"name": "t", "columns": {"id": {"type": "integer", "nullable": false}}, "keyFields": ["id"], "indexFields": [], "rowCount": 2, "sizeBytes": 18}\n'
    b'{"id":1}\n{"id":2}\n',
]  # fmt: skip


def seeds() -> list[bytes]:
    """Every input to begin with, each once, the short ones first."""
    found = {path.read_bytes() for path in EXAMPLE.rglob("*") if path.is_file() and not path.is_symlink()}
    return sorted({*found, *WORDS, b""}, key=lambda data: (len(data), data))


def tokens() -> list[bytes]:
    """The words of the dictionary, which is in the form that libFuzzer reads."""
    lines = DICTIONARY.read_text().splitlines()
    quoted = [line[1:-1] for line in lines if line.startswith('"')]
    return [token.encode().decode("unicode_escape").encode("latin-1") for token in quoted]
