"""`hf-paint evaluate`: evaluate a model on tasks."""

import argparse
import json
import logging
import sys
from collections.abc import Sequence

from hf_paint.cli.parser import Commands, add_command, add_image_counts, add_split
from hf_paint.cli.recipe import TASKS_ARE
from hf_paint.cli.tables import print_table
from hf_paint.results.extra_metrics import EXTRA_METRICS
from hf_paint.results.records import Result
from hf_paint.results.tables import number, percent
from hf_paint.tasks.registry import get_tasks


logger: logging.Logger = logging.getLogger(__name__)


PRECISION_HELP = "precision; auto uses bf16 if it is faster and agrees with fp32 on a sample (default: %(default)s)"
IN_A_RUN = ("alpha", "role", "examples")
"""Keys of a record that only a run gives a meaning."""


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    text = "Evaluate a CLIP model on tasks: accuracy, mean per-class accuracy, loss and calibration error."
    epilog = "  hf-paint evaluate openai/clip-vit-base-patch32 --tasks mnist cifar10 --split test"
    command = add_command(commands, "evaluate", run, summary=text, example=epilog)
    command.add_argument("model", metavar="MODEL", help="Hub repository id, folder, or run folder")
    command.add_argument(
        "--tasks",
        nargs="+",
        metavar="TASK",
        help=f"{TASKS_ARE} (default: the tasks of the run)",
    )
    add_split(command)
    command.add_argument("--revision", default="main", help="branch, tag or commit of the model (default: main)")
    add_image_counts(command)
    command.add_argument("--precision", default="fp32", choices=["auto", "fp32", "bf16"], help=PRECISION_HELP)
    command.add_argument("--use_cpu", action="store_true", help="evaluate on the CPU")
    command.add_argument("--json", action="store_true", help="print one JSON object instead of tables")


def run(parsed: argparse.Namespace, rest: list[str]) -> None:
    """Run the command."""
    tasks = None if parsed.tasks is None else get_tasks(parsed.tasks)
    from accelerate import Accelerator

    from hf_paint.evaluation.evaluate import evaluate_tasks
    from hf_paint.models.given import load_given, model_of, own_tasks

    name = model_of(parsed.model)
    if tasks is None:
        tasks = own_tasks(parsed.model, revision=parsed.revision)
    accelerator = Accelerator(cpu=parsed.use_cpu)
    model, processor = load_given(name, revision=parsed.revision)
    warn_of_trained_head(name, parsed.revision)
    results = evaluate_tasks(
        model,
        tasks,
        processor=processor,
        split=parsed.split,
        precision=parsed.precision,
        batch_size=parsed.batch_size,
        accelerator=accelerator,
        max_eval_images=parsed.max_eval_images,
    )
    if accelerator.is_main_process and parsed.json:
        sys.stdout.write(json.dumps(_report(parsed, results), indent=2) + "\n")
    elif accelerator.is_main_process:
        print_table(_accuracies(results))
        if types := _answer_types(results):
            print_table(types)


def warn_of_trained_head(model: str, revision: str = "main") -> None:
    """Warn that a model has a trained head, which is not evaluated."""
    from hf_paint.models.classifier import has_head

    if has_head(model, revision=revision):
        logger.warning(
            f"'{model}' has a trained head, but this command evaluates with zero-shot heads. Use `load_classifier` to "
            "load the trained head; its accuracies are in `results.jsonl` in its run folder."
        )


def _report(parsed: argparse.Namespace, results: Sequence[Result]) -> dict[str, object]:
    """Return the JSON object: the model, the fingerprint of its image tower, the split, and a record for each task.

    The keys that place a record in a run are left out: outside a run, they would say alpha 0 of any model.
    """
    records = [json.loads(result.to_json()) for result in results]
    return {
        "model": parsed.model,
        "revision": parsed.revision,
        "fingerprint": results[0].weights,
        "split": parsed.split,
        "tasks": [{key: value for key, value in record.items() if key not in IN_A_RUN} for record in records],
    }


def _accuracies(results: Sequence[Result]) -> list[list[str]]:
    """Return the table of results, header first, one row per task."""
    rows = [["task", "split", "images", "accuracy", "mean per class", "loss", "ECE"]]
    for result in results:
        accuracies = [percent(result.accuracy), percent(result.mean_per_class) or "-"]
        calibration = [number(result.loss, ".4f"), number(result.ece, ".4f")]
        rows.append([result.task, result.split, result.num_images, *accuracies, *calibration])
    for metric in EXTRA_METRICS:
        rows = _add_column(rows, metric.label, [metric.show(result) for result in results])
    return rows


def _answer_types(results: Sequence[Result]) -> list[list[str]]:
    """Return a table of accuracies by answer type; empty if there are no multiple-choice tasks."""
    rows = [
        [result.task, kind, str(total), percent(correct / total)]
        for result in results
        for kind, (correct, total) in (result.answer_types or {}).items()
    ]
    return [["task", "answer", "images", "accuracy"], *rows] if rows else []


def _add_column(rows: list[list[str]], name: str, cells: list[str]) -> list[list[str]]:
    """Return the table with an extra column, or unchanged if the column is empty."""
    return [[*row, cell] for row, cell in zip(rows, [name, *cells], strict=True)] if any(cells) else rows
