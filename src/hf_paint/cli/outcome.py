"""The end of a run on the command line: the table over alphas, what happened to each task, and one sentence."""

import sys
from collections.abc import Iterator
from pathlib import Path

from hf_paint.cli.tables import marked_row, print_table
from hf_paint.results.alphas import alpha_phrase
from hf_paint.results.curve import AlphaCurve
from hf_paint.results.curve_table import curve_rows, mean_rows, nearby
from hf_paint.results.outcome import Outcome
from hf_paint.results.outcome_text import outcome_rows, summarise
from hf_paint.results.run_folder import RunFolder


def print_place(outcome: Outcome, run: Path) -> None:
    """Print where to find what a run has made, a line for each."""
    for what, path in _places(outcome, RunFolder(run)):
        sys.stdout.write(f"{what}: {path}\n")


def _places(outcome: Outcome, run: RunFolder) -> Iterator[tuple[str, Path]]:
    """Yield what a run has made and where it is: the patched model, or the run folder if there is none."""
    if outcome.alpha is None:
        yield "no alpha was chosen", run.path
    else:
        yield alpha_phrase(outcome.alpha), run.patched
    if run.report.exists():
        yield "report", run.report


def report(outcome: Outcome, curve: AlphaCurve, run: Path, *, end: str) -> None:
    """Print the outcome of a run, or of another choice: two tables and one sentence.

    Args:
        outcome: Outcome of the run.
        curve: Its results.
        run: Run folder.
        end: Name of theta_1 in the table.
    """
    split = outcome.changes[0].split if outcome.changes else curve.reported_split
    chosen = "" if outcome.alpha is None else f"; {marked_row()} was chosen"
    sys.stdout.write(f"\nAccuracy on {split} images in percent, by alpha{chosen}:\n\n")
    measured = {result.alpha for result in curve.results if result.split == split}
    alphas = [alpha for alpha in curve.alphas if alpha in measured]
    shown = nearby(alphas, outcome.alpha)
    tasks, means = (
        rows(curve, split, selected=outcome.alpha, fine_tuned_label=end, shown=shown)
        for rows in (curve_rows, mean_rows)
    )
    print_table(tasks, means)
    if len(shown) < len(alphas):
        files = RunFolder(run)
        place = files.report if files.report.exists() else files.results
        sys.stdout.write(f"\nThese are {len(shown)} of {len(alphas)} alphas; all of them are in {place}.\n")
    if outcome.changes:
        sys.stdout.write("\n")
        print_table(outcome_rows(outcome))
    sys.stdout.write(f"\n{summarise(outcome, run=run)}\n")
