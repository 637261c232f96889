"""The benchmark: the product beside the bare system calls of the same layout. Run it with ``python -m tests.bench``."""
