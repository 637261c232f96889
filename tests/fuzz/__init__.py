"""Fuzzing of everything that parses: ``python -m tests.fuzz --seconds N [TARGET]``, or ``TARGET FILE`` to try one input."""
