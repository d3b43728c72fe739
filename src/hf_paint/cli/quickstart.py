"""`hf-paint quickstart`: everything end to end on a toy CLIP."""

import argparse
from typing import Any

from hf_paint.cli.parser import add_command


def add(commands: Any) -> None:
    """Add the command."""
    text = "Patch a toy CLIP on handwritten digits: everything end to end, offline, in a few minutes."
    command = add_command(commands, "quickstart", run, text, "  hf-paint quickstart")
    command.add_argument("--output_dir", default="runs/quickstart", help="the run folder (default: %(default)s)")


def run(parsed: argparse.Namespace, rest: list[str]) -> None:
    """Run the command."""
    from hf_paint.cli.run_quickstart import quickstart

    quickstart(parsed.output_dir)
