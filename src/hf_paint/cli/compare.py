"""`hf-paint compare`: tables and plots of several runs."""

import argparse
import sys

from hf_paint.cli.parser import Commands, add_command, add_split


EXAMPLE = """\
  hf-paint compare runs/mnist runs/gtsrb runs/joint runs/sequential --output_dir comparison

The first table shows accuracies, one row per model: zero-shot, the specialised models (theta_1 of each run on a single
task), and each run at its chosen alpha and at its fine-tuned end. The other tables show the distance from each model
to the specialised models; the normalised accuracy, which is the accuracy divided by that of the specialised model, as
in papers on model merging, but of supported tasks too; numbers that others published, marked as such; and the weight
changes by layer. Each run is compared with its own base. The command reads only local results and weights; it runs no
model and downloads nothing.
"""


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    text = "Compare the accuracies and weights of several runs in Markdown tables and plots."
    command = add_command(commands, "compare", run, summary=text, example=EXAMPLE)
    command.add_argument("runs", nargs="+", metavar="RUN", help="run folder (output_dir of `hf-paint patch`)")
    command.add_argument("--output_dir", help="folder to write comparison.md, comparison.json and plots to")
    add_split(command)


def run(parsed: argparse.Namespace, rest: list[str]) -> None:
    """Run the command."""
    from hf_paint.results.comparison import compare_runs

    comparison = compare_runs(parsed.runs, split=parsed.split)
    sys.stdout.write(comparison.to_markdown())
    if parsed.output_dir is not None:
        comparison.save(parsed.output_dir)
