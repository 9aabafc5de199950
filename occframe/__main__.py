"""``python -m occframe``."""

from occframe.cli import main

main()
