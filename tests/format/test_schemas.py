"""spool/schemas is generated from the records and must not drift from them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from breyta_spool.records import RECORDS
from tests import schemas


def test_the_schemas_are_what_the_records_say() -> None:
    assert schemas.drifted() == []


@pytest.mark.parametrize("name", RECORDS)
def test_a_schema_names_its_dialect_and_what_it_describes(name: str) -> None:
    schema = json.loads((schemas.DIRECTORY / schemas.file_name(name)).read_text())
    assert schema["$schema"] == schemas.DIALECT
    assert schema["title"] == f"breyta-spool format 2: {name}"
    assert list(schema)[:4] == ["$schema", "title", "description", "type"]


def test_the_check_names_the_file_that_drifted_and_how_to_mend_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    schemas.write(tmp_path)
    (tmp_path / "claim.schema.json").write_text("{}\n")
    (tmp_path / "lease.schema.json").write_text("{}\n")
    (tmp_path / "job.schema.json").unlink()

    assert schemas.main(["--check"], tmp_path) == 1
    said = capsys.readouterr().err
    assert [name for name in schemas.expected() if name in said] == ["job.schema.json", "claim.schema.json"]
    assert "lease.schema.json" in said
    assert "make schemas" in said

    assert schemas.main([], tmp_path) == 0
    assert schemas.main(["--check"], tmp_path) == 0
