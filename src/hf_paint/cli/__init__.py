"""The command line interface: one module per command, plus recipes and the quickstart."""

from hf_paint.cli.main import main


__all__ = ["main"]
