"""``python -m breyta_cli`` is ``breyta``."""

from breyta_cli.main import main

main()
