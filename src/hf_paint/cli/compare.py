"""`hf-paint compare`: runs beside each other."""

import argparse
import sys
from typing import Any

from hf_paint.cli.parser import add_command


EXAMPLE = """\
  hf-paint compare runs/mnist runs/gtsrb runs/joint runs/sequential --output_dir comparison

The rows are zero-shot, the specialised models (theta_1 of each run on one task) and each run at its alpha and at its
fine-tuned end; then how near each is to the specialised models, and what fine-tuning changed in the weights, layer by
layer. Runs of bases of several sizes are compared with their own base. Records and weights on this disk are read; no
model is run and nothing is downloaded.
"""


def add(commands: Any) -> None:
    """Add the command."""
    text = "Compare runs: tables of methods against tasks, and of what fine-tuning changed, as Markdown."
    command = add_command(commands, "compare", run, text, EXAMPLE)
    command.add_argument("runs", nargs="+", metavar="RUN", help="the output_dir of `hf-paint patch`")
    command.add_argument("--output_dir", help="also write comparison.md, comparison.json and plots there")
    command.add_argument("--split", default="test", choices=["test", "validation"], help="default: %(default)s")


def run(parsed: argparse.Namespace, rest: list[str]) -> None:
    """Run the command."""
    from hf_paint.results.comparison import compare_runs

    comparison = compare_runs(parsed.runs, split=parsed.split)
    sys.stdout.write(comparison.to_markdown())
    if parsed.output_dir is not None:
        comparison.save(parsed.output_dir)
