"""Durations and times as people and files write them. Pure functions.

>>> milliseconds("1h30m"), milliseconds("250ms"), milliseconds(1500)
(5400000, 250, 1500)
>>> spoken(5400000)
'1h30m'
"""

from __future__ import annotations

import re
import time
from functools import lru_cache
from typing import Any

from breyta_spool.errors import InvalidInput, shown

_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
# Compiled when first used (re keeps them): helper commands read neither durations nor times, and start fast.
_PART = r"([0-9]{1,12}(?:\.[0-9]{1,6})?)(ms|s|m|h|d)"
_WHOLE = rf"(?:{_PART})+"
_RFC3339 = (
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?(Z|[+-][0-9]{2}:[0-5][0-9])"
)
_EARLIEST, _LATEST = -62_135_596_800_000, 253_402_300_799_999
"""The first and the last millisecond of the years 1 to 9999."""
_MAX = 100 * 365 * _UNITS["d"]
_HINT = 'a duration looks like "250ms", "15s", "45m", "2h", "1h30m", or is a number of milliseconds'


def milliseconds(value: Any, *, field: str = "duration") -> int:
    """Read a duration, a string with units or a number of milliseconds, as whole milliseconds.

    Raises InvalidInput for anything else, for less than nothing and for more than a hundred years.
    """
    if isinstance(value, str):
        text = value.strip().lower()
        if text.isascii() and text.isdigit() and len(text) <= 15:
            total: float = int(text)
        elif re.fullmatch(_WHOLE, text):
            total = sum(float(number) * _UNITS[unit] for number, unit in re.findall(_PART, text))
        else:
            raise InvalidInput(f"{field}: {shown(value)} is not a duration", hint=_HINT, field=field, given=value)
    elif isinstance(value, int | float) and not isinstance(value, bool) and value == value:
        total = value
    else:
        raise InvalidInput(f"{field}: {shown(value)} is not a duration", hint=_HINT, field=field)
    if not 0 <= total <= _MAX:
        raise InvalidInput(f"{field}: {shown(value)} is out of range", hint=_HINT, field=field)
    return round(total)


def spoken(ms: float) -> str:
    """A duration in milliseconds the way a person says it, with its two largest units.

    >>> spoken(250), spoken(61_500), spoken(90_000_000)
    ('250ms', '1m1s', '1d1h')
    """
    if ms < 1000:
        return f"{round(ms)}ms"
    parts: list[str] = []
    left = int(ms)
    for unit in ("d", "h", "m", "s"):
        count, left = divmod(left, _UNITS[unit])
        if count or parts:
            parts.append(f"{count}{unit}" if count else "")
    return "".join(parts[:2])


def rfc3339(ms: float) -> str:
    """Milliseconds since 1970 as a UTC time stamp.

    >>> rfc3339(0)
    '1970-01-01T00:00:00.000Z'
    """
    # A file can be given any time; those that have no date are shown as the nearest that has one.
    seconds, rest = divmod(int(max(_EARLIEST, min(ms, _LATEST))), 1000)
    return f"{_to_the_second(seconds)}.{rest:03d}Z"


def epoch_ms(text: str, *, field: str = "time") -> int:
    """Read an RFC 3339 time, which must name its offset from UTC, as milliseconds since 1970. Raises InvalidInput.

    >>> epoch_ms("1970-01-01T01:00:01.5+01:00")
    1500
    """
    if isinstance(text, str) and re.fullmatch(_RFC3339, text, re.IGNORECASE):
        from datetime import datetime  # late: helper commands without a key never need it

        try:
            return round(datetime.fromisoformat(text.upper()).timestamp() * 1000)
        except (ValueError, OverflowError):
            pass  # the 31st of February
    hint = 'a time looks like "2026-11-22T15:30:00Z" or "2026-11-22T16:30:00+01:00"'
    raise InvalidInput(f"{field}: {shown(text)} is not an RFC 3339 time with an offset", hint=hint, field=field)


@lru_cache(maxsize=8)
def _to_the_second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
