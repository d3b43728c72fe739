"""`hf-paint evaluate`: a model on tasks."""

import argparse
import logging
from collections.abc import Sequence
from typing import Any

from hf_paint.cli.parser import add_command, print_table
from hf_paint.results.tables import number, percent
from hf_paint.tasks.registry import get_tasks


logger = logging.getLogger(__name__)


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
    tasks = get_tasks(parsed.tasks)
    from accelerate import Accelerator

    from hf_paint.evaluation.evaluate import evaluate_tasks
    from hf_paint.models.classifier import has_head
    from hf_paint.models.loading import load_clip

    accelerator = Accelerator(cpu=parsed.use_cpu)
    model, processor, _ = load_clip(parsed.model, revision=parsed.revision)
    if has_head(parsed.model, revision=parsed.revision):
        logger.warning(
            f"'{parsed.model}' has a trained head, which takes no part here: the tasks are evaluated with zero-shot "
            "heads. `load_classifier` loads it, and `results.jsonl` of its run holds what it reached."
        )
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
        accuracies = [percent(result.accuracy), percent(result.mean_per_class) or "-"]
        calibration = [number(result.loss, ".4f"), number(result.ece, ".4f")]
        rows.append([result.task, result.split, str(result.total), *accuracies, *calibration])
    rows = _add_column(rows, "attack success", [percent(r.metrics.get("attack_success")) for r in results])
    rows = _add_column(rows, "MAE", [number(result.mean_absolute_error) for result in results])
    if accelerator.is_main_process:
        print_table(rows)
        if types := _answer_types(results):
            print_table(types)


def _answer_types(results: Sequence[Any]) -> list[list[str]]:
    """Return the rows of a table of the accuracies by type of answer, or none."""
    rows = [
        [result.task, kind, str(total), number(100 * correct / total)]
        for result in results
        for kind, (correct, total) in (result.answer_types or {}).items()
    ]
    return [["task", "answer", "images", "accuracy"], *rows] if rows else []


def _add_column(rows: list[list[str]], name: str, cells: list[str]) -> list[list[str]]:
    """Return a table with one more column, or as it is where that would be empty."""
    return [[*row, cell] for row, cell in zip(rows, [name, *cells], strict=True)] if any(cells) else rows


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a positive integer, got '{text}'")
    return int(text)
