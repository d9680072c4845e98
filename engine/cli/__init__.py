"""The command line: `pasdedeux`."""

from engine.cli.main import main

__all__ = ["main"]
