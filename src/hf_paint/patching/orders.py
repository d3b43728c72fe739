"""Sequential patching in several random orders: what depends on the order, and what does not (PAINT, Section 5)."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
from accelerate import PartialState

from hf_paint.errors import InputError
from hf_paint.models.loading import load_clip
from hf_paint.patching.options import PatchResult
from hf_paint.results.alphas import Alpha, format_alpha
from hf_paint.results.curve import AlphaCurve
from hf_paint.results.records import ROLES
from hf_paint.results.run_folder import RunFolder
from hf_paint.results.tables import markdown, percent
from hf_paint.tasks.task import Task
from hf_paint.training.training_args import PaintTrainingArguments, arguments_for


logger = logging.getLogger(__name__)


def patch_orders(
    patch: Callable[[Sequence[Task], PaintTrainingArguments], PatchResult],
    orders: Sequence[Sequence[Task]],
    args: PaintTrainingArguments,
) -> PatchResult:
    """Patch in several orders, each a run in `order-1`, `order-2`, ..., and write their average.

    Args:
        patch: Patches the tasks in their order.
        orders: The tasks in each order.
        args: The training arguments.

    Returns:
        The run of the order with the highest mean of patching and supported accuracy on the validation images.
    """
    folder = RunFolder(str(args.output_dir), write=PartialState().is_main_process)
    runs = []
    for number, tasks in enumerate(orders, 1):
        result = patch(tasks, arguments_for(args, folder.order(number).path))
        runs.append(replace(result, model=None))  # one model in memory is enough
    if folder.write:
        summary = average_orders([run.curve for run in runs])
        folder.save_orders(summary)
        logger.info(orders_to_markdown(summary))
    best = max(runs, key=_validation_score)
    return replace(best, model=load_clip(str(best.patched))[0])


def draw_orders(tasks: Sequence[Task], num_orders: int, *, seed: int) -> list[list[Task]]:
    """Return random orders of the tasks, each of them once.

    Raises:
        InputError: If there are not that many.

    Example:
        >>> [[found.name for found in order] for order in draw_orders([task, other_task], 2, seed=0)]
        [['others', 'colours'], ['colours', 'others']]
    """
    most = math.factorial(len(tasks))
    if not 1 <= num_orders <= most:
        raise InputError(f"`num_orders` must be from 1 to {most}, the orders of {len(tasks)} tasks; got {num_orders}.")
    generator = np.random.default_rng(seed)
    orders: list[list[int]] = []
    while len(orders) < num_orders:
        order = generator.permutation(len(tasks)).tolist()
        orders += [] if order in orders else [order]
    return [[tasks[index] for index in order] for order in orders]


def average_orders(histories: Sequence[AlphaCurve]) -> dict[str, Any]:
    """Return the accuracy of each task before and after all steps: mean and standard deviation over the orders."""
    first = histories[0]
    split = first.reported_split
    rows = []
    for role in ROLES:
        for task in first.tasks.get(role, []):
            before = first.get(0.0, role, task, split)
            after = [found.accuracy for h in histories if (found := h.get(h.alphas[-1], role, task, split))]
            if before is not None and after:
                spread = float(np.std(after, ddof=1)) if len(after) > 1 else None
                row = {"task": task, "role": role, "zero_shot": before.accuracy, "mean": float(np.mean(after))}
                rows.append(row | {"std": spread})
    return {"split": split, "orders": [format_alpha(h.alphas[-1]) for h in histories], "tasks": rows}


def orders_to_markdown(summary: Mapping[str, Any]) -> str:
    """Return the average over the orders as a Markdown table, in percent."""
    rows = [["task", "role", "zero-shot", "after all steps"]]
    for row in summary["tasks"]:
        spread = "" if row["std"] is None else f" ± {percent(row['std'])}"
        rows.append([row["task"], row["role"], percent(row["zero_shot"]), f"{percent(row['mean'])}{spread}"])
    title = f"{len(summary['orders'])} orders, {summary['split']} images, standard deviation over the orders:"
    return f"{title}\n{markdown(rows, text_columns=2)}"


def _validation_score(result: PatchResult) -> Fraction:
    alpha: Alpha = result.curve.alphas[-1]
    patching, supported = (result.curve.mean_accuracy(alpha, role, "validation") for role in ("patching", "supported"))
    return patching + supported
