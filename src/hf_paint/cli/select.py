"""`hf-paint select`: choose alpha again, from the records of a finished run."""

import argparse
import sys
from collections.abc import Mapping

from hf_paint.cli.parser import Commands, add_command
from hf_paint.documents.reading import parse_yaml
from hf_paint.errors import InputError, one_line


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    text = (
        "Choose alpha again, by another rule or by hand, from the records of a finished run. Nothing is trained or "
        "evaluated; the patched model, its card and the plots are written again, and the history is kept."
    )
    example = (
        "  hf-paint select runs/mnist --tolerance 0.02 --dry_run\n"
        "  hf-paint select runs/mnist --selection mean\n"
        "  hf-paint select runs/mnist --alpha 0.3"
    )
    command = add_command(commands, "select", run, summary=text, example=example)
    command.add_argument("run_folder", metavar="RUN_DIR", help="run folder (output_dir of `hf-paint patch`)")
    command.add_argument(
        "--selection",
        choices=["supported_within", "mean", "entropy"],
        help="rule that chooses alpha; entropy takes the lowest mean entropy of predictions, without labels (default: "
        "supported_within with --tolerance, or else the rule of the recipe)",
    )
    command.add_argument(
        "--tolerance",
        type=float,
        help="loss of supported accuracy that supported_within allows; 0.01 is one point (default: as in the recipe)",
    )
    command.add_argument(
        "--alpha",
        help="alpha that was evaluated, instead of a rule; after parallel patching, {task: coefficient, ...}",
    )
    command.add_argument("--dry_run", action="store_true", help="show the outcome without writing anything")


def run(parsed: argparse.Namespace, rest: list[str]) -> None:
    """Run the command."""
    from hf_paint.cli.outcome import print_place, report
    from hf_paint.merging.registry import read_method
    from hf_paint.patching.reselect import choose_again, save_choice

    alpha = None if parsed.alpha is None else _alpha(parsed.alpha)
    choice = choose_again(parsed.run_folder, selection=parsed.selection, tolerance=parsed.tolerance, alpha=alpha)
    end = read_method(choice.recipe.get("method", "interpolate")).end
    report(choice.outcome, choice.curve, choice.folder.path, end=end)
    if parsed.dry_run:
        sys.stdout.write("Dry run: nothing was changed.\n")
    else:
        save_choice(choice)
        print_place(choice.outcome, choice.folder.path)


def _alpha(text: str) -> float | Mapping[str, float]:
    """Read a number, or a mapping from task to coefficient."""
    try:
        value = parse_yaml(text, "The value of --alpha")
        return {str(task): float(part) for task, part in value.items()} if isinstance(value, dict) else float(text)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"--alpha must be a number, or {{task: coefficient, ...}}; got '{text}' ({one_line(error)})."
        ) from error
