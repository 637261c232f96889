from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hosts import lab as labs
from tests.hosts.lab import Lab


@pytest.fixture(scope="package")
def needs_lab() -> None:
    if why := labs.lacking():
        pytest.skip(why)


@pytest.fixture(scope="package", params=["4.2", "3"], ids=["NFS 4.2", "NFS 3"])
def booted(request: pytest.FixtureRequest, whole: bool, needs_lab: None) -> Iterator[Lab]:
    """A lab that all tests of this directory share, one for each version of NFS."""
    if not whole:
        pytest.skip("only with --whole: it takes minutes")
    with labs.running(request.param) as lab:
        yield lab


@pytest.fixture
def lab(booted: Lab) -> Iterator[Lab]:
    """The lab as a test finds it: all hosts are on, and nothing runs on them."""
    booted.boot()
    yield booted
    booted.settle()


@pytest.fixture(params=["locks", "no locks"])
def locks(request: pytest.FixtureRequest) -> str:
    """Whether the workers of a spool take turns."""
    return str(request.param)
