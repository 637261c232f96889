"""spool/FORMAT.md is the reference of the format: what it says must be what the code does."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import pytest

from breyta_spool import jobs, paths, states
from breyta_spool.records import RECORDS
from breyta_spool.states import Status
from tests import schemas
from tests.format import test_example

FILE = schemas.DIRECTORY.parent / "FORMAT.md"
TEXT = FILE.read_text()
ONE_STEP_BACK = "### A step back: redo"


def section(heading: str) -> str:
    """The text below a heading, to the next one of the same or a higher rank."""
    assert f"\n{heading}\n" in TEXT
    rank = heading.index(" ")
    below = TEXT.partition(f"\n{heading}\n")[2]
    return re.split(rf"^#{{1,{rank}}} ", below, maxsplit=1, flags=re.MULTILINE)[0]


# -- states -----------------------------------------------------------------------------------------

Rename = tuple[str, str, int]
"""From which state to which, and by how much the attempt changes."""


def renames(text: str) -> set[Rename]:
    """The renames that a table with the columns "from" and "to" lists."""
    found = set()
    for row in re.findall(r"^\| (`status\..*)\|$", text, re.MULTILINE):
        sources, destinations = (re.findall(r"`([^`]+)`", cell) for cell in row.split("|")[:2])
        for source, destination in product(sources, destinations):
            old, new = name_in_table(source), name_in_table(destination)
            found.add((old[0], new[0], new[1] - old[1]))
    return found


def name_in_table(name: str) -> tuple[str, int]:
    match = re.fullmatch(r"status\.([a-z_]+)\.N([+-]1)?(\.TOKEN2?)?", name)
    assert match, f"{name} is not a name as the table writes them"
    assert (match[1] == states.LEASED) == (match[3] is not None), f"{name}: a token is there while leased, only then"
    return match[1], int(match[2] or 0)


ON_DISK = (states.QUEUED, states.LEASED, *states.TERMINAL)
NAMES = [Status(state, n, "k3" if state == states.LEASED else "") for state in ON_DISK for n in range(4)]


@pytest.mark.parametrize("old", NAMES, ids=lambda status: status.name)
def test_the_table_of_states_lists_exactly_the_legal_renames(old: Status) -> None:
    listed = renames(section("## States").partition(ONE_STEP_BACK)[0])
    for name in NAMES:
        new = name._replace(token="other") if name.token else name
        legal = states.is_legal(old, new)
        assert ((old.state, new.state, new.attempt - old.attempt) in listed) == legal, f"{old.name} -> {new.name}"


def test_only_a_job_that_needs_a_result_takes_the_step_back() -> None:
    needs_result = [state for state in states.TERMINAL if jobs.needs_result(Status(state, 1))]
    expected = {(state, back, 0) for state in needs_result for back in (states.QUEUED, states.TIMED_OUT)}
    assert renames(section(ONE_STEP_BACK)) == expected


def test_every_status_that_a_reader_sees_is_named() -> None:
    for status in states.ALL:
        assert re.search(rf"`(status\.)?{status}(\.[^`]*)?`", section("## States")), status


# -- names ------------------------------------------------------------------------------------------

CONSTANTS = {
    name: value
    for name, value in vars(paths).items()
    if name.isupper() and isinstance(value, str) and name[0] != "_" and not name.endswith("_PATTERN")
}


@pytest.mark.parametrize("name", CONSTANTS)
def test_the_tree_names_every_file_of_the_code(name: str) -> None:
    assert re.search(rf"(?<![\w.-]){re.escape(CONSTANTS[name])}(?![\w-])", section("## The tree"))


@pytest.mark.parametrize("name", paths.TOP)
def test_the_tree_names_every_directory_that_init_makes(name: str) -> None:
    assert f"`{name}/`" in section("## The tree")


@pytest.mark.parametrize("name", RECORDS)
def test_every_schema_is_linked(name: str) -> None:
    assert f"(schemas/{schemas.file_name(name)})" in TEXT


@pytest.mark.parametrize(
    ("heading", "fields"),
    [
        ("## The job directory of a handler", test_example.CONTEXT),
        ("## Artifacts and addresses", test_example.KV),
        ("## Tables", (*test_example.TABLE, "replacedBy", "inode", "description")),
    ],
)
def test_the_fields_of_a_file_without_a_schema_are_explained(heading: str, fields: tuple[str, ...]) -> None:
    assert [field for field in fields if f"`{field}`" not in section(heading)] == []


# -- the page itself --------------------------------------------------------------------------------


def test_every_link_of_the_page_leads_somewhere() -> None:
    headings = {anchor(line) for line in re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)}
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        file, _, fragment = target.partition("#")
        assert not file or (FILE.parent / file).exists(), target
        assert not fragment or fragment in headings, target


def anchor(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def test_sections_that_the_code_refers_to_are_there() -> None:
    sources = Path(paths.__file__).parent.glob("*.py")
    named = {
        name for path in sources for name in re.findall(r'FORMAT\.md, (?:section )?"?([A-Z][a-z ]+)', path.read_text())
    }
    assert named, "nobody refers to the page any more"
    assert [name for name in sorted(named) if f"\n## {name.strip()}\n" not in TEXT] == []


def test_the_guarantee_is_given_in_these_words() -> None:
    assert "At least one execution, exactly one accepted result." in section("## Guarantees")
