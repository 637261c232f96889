from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from breyta_spool import Spool
from tests.tried import TRIED
from tests.world import Cli


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--whole", action="store_true", help="run everything of what is sampled otherwise: takes long")


class Tally:
    """Adds up what the processes of a run have tried, and tells it at the end."""

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput["tried"] = dict(TRIED)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        TRIED.update(getattr(node, "workeroutput", {}).get("tried", {}))

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if TRIED:
            terminalreporter.write_line(
                "tried: " + ", ".join(f"{count:,} {what}" for what, count in sorted(TRIED.items()))
            )


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Tally())


@pytest.fixture(scope="session")
def whole(request: pytest.FixtureRequest) -> bool:
    """Whether a test that could go on for long should (make test-all), or try a sample (make test)."""
    return bool(request.config.getoption("--whole"))


@pytest.fixture(autouse=True)
def _no_breyta_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("BREYTA_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """A fresh spool without barriers: what is tested here does not depend on power cuts."""
    return Spool.init(tmp_path / "spool", workspace="ws-acme", durability="none")


@pytest.fixture
def cli(spool: Spool, tmp_path: Path) -> Cli:
    return Cli(spool.root, tmp_path)
