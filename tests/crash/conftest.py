from __future__ import annotations

from collections.abc import Iterator

import pytest

from breyta_spool import files


@pytest.fixture(autouse=True)
def _no_hook_is_left() -> Iterator[None]:
    yield
    files.hook = None
