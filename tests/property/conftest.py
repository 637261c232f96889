from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from breyta_spool import files
from tests.property import laws, worlds


def pytest_configure(config: pytest.Config) -> None:
    laws.whole = bool(config.getoption("--whole"))  # before a module with laws is imported


@pytest.fixture(autouse=True)
def _no_hook_is_left() -> Iterator[None]:
    yield
    files.hook = None


@pytest.fixture(scope="session")
def full() -> Iterator[worlds.Full]:
    """A spool with something in every place; copy it before it is changed."""
    with worlds.scratch() as place:
        yield worlds.make(place)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path
