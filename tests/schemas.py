"""Writes spool/schemas from the records: ``python -m tests.schemas``; with ``--check`` it only compares."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from breyta_spool.records import FORMAT_VERSION, RECORDS, json_schema

DIRECTORY = Path(__file__).resolve().parents[1] / "spool" / "schemas"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
ANYTHING = "#/$defs/JsonValue"
NO_DEFAULT = ("default", None)
_FIRST = ("$schema", "title", "description", "type", "properties", "required", "additionalProperties")


def file_name(name: str) -> str:
    return f"{name}.schema.json"


def expected() -> dict[str, str]:
    """The text of every schema, by the name of its file."""
    return {file_name(name): _text(name) for name in RECORDS}


def _text(name: str) -> str:
    schema = {
        "$schema": DIALECT,
        **_plain(json_schema(name)),
        "title": f"breyta-spool format {FORMAT_VERSION}: {name}",
    }
    return json.dumps(_ordered(schema), indent=2, ensure_ascii=False) + "\n"


def _plain(schema: Any) -> Any:
    """A schema without the parts that say nothing; they also differ from one version of pydantic to the next."""
    if isinstance(schema, list):
        return [_plain(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("$ref") == ANYTHING or schema.get("allOf") == [{"$ref": ANYTHING}]:
        return {}
    plain = {key: _plain(value) for key, value in schema.items() if key != "title" and (key, value) != NO_DEFAULT}
    for names in ("properties", "$defs"):  # here the keys are names of ours
        if names in schema:
            plain[names] = {key: _plain(value) for key, value in schema[names].items()}
    plain.get("$defs", {}).pop("JsonValue", None)
    return _or_null(plain)


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    either = schema.get("anyOf", [])
    if len(either) == 2 and either[1] == {"type": "null"} and "type" in either[0]:
        rest = {key: value for key, value in schema.items() if key != "anyOf"}
        return {**either[0], "type": [either[0]["type"], "null"], **rest}
    return {key: value for key, value in schema.items() if (key, value) != ("$defs", {})}


def _ordered(schema: dict[str, Any]) -> dict[str, Any]:
    """The keys a reader looks for first, then the rest by name. Properties keep the order of the file's fields."""
    keys = [key for key in _FIRST if key in schema] + sorted(set(schema) - set(_FIRST))
    return {key: schema[key] for key in keys}


def drifted(directory: Path = DIRECTORY) -> list[str]:
    """The files of a directory that are missing, differ, or belong to no record."""
    texts = expected()
    there = {path.name: path.read_text() for path in directory.glob("*")} if directory.is_dir() else {}
    return sorted(name for name in texts.keys() | there.keys() if texts.get(name) != there.get(name))


def write(directory: Path = DIRECTORY) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    texts = expected()
    for name in drifted(directory):
        if name in texts:
            (directory / name).write_text(texts[name])
        else:
            (directory / name).unlink()


def main(arguments: list[str], directory: Path = DIRECTORY) -> int:
    if arguments not in ([], ["--check"]):
        print("usage: python -m tests.schemas [--check]", file=sys.stderr)
        return 2
    if not arguments:
        write(directory)
        return 0
    for name in (wrong := drifted(directory)):
        print(f"error: {directory / name} is not what the records say", file=sys.stderr)
    if wrong:
        print("hint: 'make schemas' writes them", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
