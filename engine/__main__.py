"""`python -m engine` is `pasdedeux`."""

from engine.cli import main

main()
