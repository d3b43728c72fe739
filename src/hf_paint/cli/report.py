"""`hf-paint report`: one page that shows everything a run has measured."""

import argparse
import sys

from hf_paint.cli.parser import Commands, add_command


EXAMPLE = """\
  hf-paint report runs/mnist
  hf-paint report runs/mnist runs/gtsrb --output both.html

Every finished run already has this page as report.html in its folder; the command draws it again, also for runs of
earlier versions, for a run that was interrupted during its sweep, and for several runs beside each other. The page is
one file that needs no network. A slider over the measured alphas moves all its numbers: accuracies with intervals,
the trade-off, the classes and the pictures that changed. It is made of what the run recorded; no model is run.
"""


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    text = "Draw the report of a finished run, or of several runs beside each other, as one HTML page."
    command = add_command(commands, "report", run, summary=text, example=EXAMPLE)
    command.add_argument("runs", nargs="+", metavar="RUN_DIR", help="run folder (output_dir of `hf-paint patch`)")
    command.add_argument(
        "--output",
        metavar="FILE",
        help="HTML file to write (default: report.html in the run folder or, for several runs, in the current folder)",
    )


def run(parsed: argparse.Namespace, rest: list[str]) -> None:
    """Run the command."""
    from hf_paint.report.writing import write_report

    sys.stdout.write(f"{write_report(parsed.runs, parsed.output)}\n")
