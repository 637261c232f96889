"""What a check of a spool or of the file system below it has found: one finding, and how much it matters."""

from __future__ import annotations

from typing import NamedTuple

ERROR, WARNING, NOTE = "error", "warning", "note"
"""Jobs can be lost or done wrongly; something works worse than it should, or may fail; what was tried and is well."""


class Finding(NamedTuple):
    """One thing that was found: what, how bad, where, in words, and what to do about it."""

    code: str
    """Stable, in kebab-case, such as ``rename-not-exclusive``."""
    severity: str
    """ERROR, WARNING or NOTE."""
    path: str
    message: str
    """What was seen, and why it matters to a job."""
    remedy: str = ""
    """What to do. Empty when there is nothing to do."""
