"""The table and the picture of docs/performance.md. Only what stands between the two markers there is replaced."""

from __future__ import annotations

import sys
import time

from tests.bench.report import Row, markdown

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
PICTURE = "performance.png"


def write(docs: str, rows: list[Row], where: str) -> None:
    """Write the table into ``performance.md`` in the directory, and the picture beside it."""
    path = f"{docs}/performance.md"
    with open(path) as file:
        text = file.read()
    line = f"Measured on {time.strftime('%Y-%m-%d', time.gmtime())} {where}."
    changed = replaced(text, f"{line}\n\n![What was measured, by its goal]({PICTURE})\n\n{markdown(rows)}")
    with open(path, "w") as file:
        file.write(changed)
    try:
        from tests.bench import picture

        picture.draw(rows, f"{docs}/{PICTURE}")
    except ImportError as error:
        print(f"no picture: {error}", file=sys.stderr)


def replaced(text: str, table: str) -> str:
    """The text with the table between the markers. Raises ValueError when they are not there, once and in order."""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"the text must have {BEGIN} and {END} once, in this order")
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n{table}\n{END}{rest.partition(END)[2]}"
