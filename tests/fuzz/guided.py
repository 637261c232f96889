"""One target under atheris, which sees what code an input reaches. A process of its own: libFuzzer ends it itself.

``python -m tests.fuzz.guided TARGET SECONDS CRASHES``
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path


def main(name: str, seconds: int, crashes: str) -> None:
    """Fuzz; a crash leaves its input in the directory ``crashes``."""
    import atheris

    with atheris.instrument_imports(include=["breyta_spool", "breyta_cli"]):
        from tests.fuzz import corpus, targets
    with tempfile.TemporaryDirectory(prefix="corpus-") as place:
        for number, seed in enumerate(corpus.seeds()):
            Path(place, f"{number:04}").write_bytes(seed)
        options = [
            "-max_len=65536",
            "-timeout=60",
            "-rss_limit_mb=4096",
            "-print_final_stats=1",
            f"-dict={corpus.DICTIONARY}",
        ]
        arguments = ["fuzz", f"-max_total_time={seconds}", f"-artifact_prefix={crashes}/", *options, place]
        atheris.Setup(arguments, targets.TARGETS[name])
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
