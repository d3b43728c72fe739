"""`hf-paint evaluate`: a model on tasks."""

import argparse
from collections.abc import Sequence
from typing import Any

from hf_paint.commands import add_command, print_table
from hf_paint.tasks import get_task


def add(commands: Any) -> None:
    """Add the command."""
    text = "Evaluate a CLIP model on tasks."
    epilog = "  hf-paint evaluate openai/clip-vit-base-patch32 --tasks mnist cifar10 --split test"
    command = add_command(commands, "evaluate", run, text, epilog)
    command.add_argument("model", metavar="MODEL", help="an id on the Hub or a folder")
    command.add_argument("--tasks", nargs="+", required=True, metavar="TASK", help="built-in names or task YAMLs")
    command.add_argument("--split", default="test", choices=["test", "validation"], help="default: %(default)s")
    command.add_argument("--revision", default="main", help="a branch, tag or commit of the model (default: main)")
    command.add_argument(
        "--batch_size", type=_positive, default=128, help="images per forward pass (default: %(default)s)"
    )
    command.add_argument("--precision", default="fp32", choices=["auto", "fp32", "bf16"], help="default: %(default)s")
    command.add_argument("--use_cpu", action="store_true", help="stay on the CPU")


def run(parsed: argparse.Namespace, rest: list[str]) -> None:
    """Run the command."""
    tasks = [get_task(name) for name in parsed.tasks]
    from accelerate import Accelerator

    from hf_paint.evaluation import evaluate_tasks
    from hf_paint.modeling import load_clip

    accelerator = Accelerator(cpu=parsed.use_cpu)
    model, processor, _ = load_clip(parsed.model, revision=parsed.revision)
    results = evaluate_tasks(
        model,
        tasks,
        processor=processor,
        split=parsed.split,
        precision=parsed.precision,
        batch_size=parsed.batch_size,
        accelerator=accelerator,
    )
    rows = [["task", "split", "images", "accuracy", "mean per class", "loss", "ECE"]]
    for result in results:
        values = (result.accuracy, result.mean_per_class)
        calibration = (f"{result.loss:.4f}", f"{result.ece:.4f}")
        rows.append([result.task, result.split, str(result.total), *map(_percent, values), *calibration])
    if any(result.mean_absolute_error is not None for result in results):
        errors = [result.mean_absolute_error for result in results]
        column = ["MAE", *("-" if error is None else f"{error:.2f}" for error in errors)]
        rows = [[*row, cell] for row, cell in zip(rows, column, strict=True)]
    if accelerator.is_main_process:
        print_table(rows)
        if types := _answer_types(results):
            print_table(types)


def _answer_types(results: Sequence[Any]) -> list[list[str]]:
    """Return the rows of a table of the accuracies by type of answer, or none."""
    rows = [
        [result.task, kind, str(total), f"{100 * correct / total:.2f}"]
        for result in results
        for kind, (correct, total) in (result.answer_types or {}).items()
    ]
    return [["task", "answer", "images", "accuracy"], *rows] if rows else []


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a positive integer, got '{text}'")
    return int(text)
