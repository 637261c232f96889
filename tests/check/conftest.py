from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _processes_start_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
