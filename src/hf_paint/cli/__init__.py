"""The command line: one file for each command, the recipe, the quickstart."""

from hf_paint.cli.main import main


__all__ = ["main"]
