"""`hf-paint quickstart`: run the whole workflow on a toy CLIP."""

import argparse

from hf_paint.cli.parser import Commands, add_command


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    text = "Run the whole workflow offline in a few minutes: patch a toy CLIP on handwritten digits."
    command = add_command(commands, "quickstart", run, summary=text, example="  hf-paint quickstart")
    command.add_argument("--output_dir", default="runs/quickstart", help="run folder (default: %(default)s)")


def run(parsed: argparse.Namespace, rest: list[str]) -> None:
    """Run the command."""
    from hf_paint.cli.run_quickstart import quickstart

    quickstart(parsed.output_dir)
