"""Sequential patching in several random task orders, averaged over the orders (PAINT, Section 5)."""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from hf_paint.errors import InputError
from hf_paint.models.loading import load_clip
from hf_paint.patching.options import PatchResult
from hf_paint.patching.recipe import Recipe
from hf_paint.patching.run import PatchRun
from hf_paint.patching.stages import stages_of
from hf_paint.patching.tracking import tracked
from hf_paint.report.writing import redraw_report
from hf_paint.results.alphas import format_alpha
from hf_paint.results.curve import AlphaCurve
from hf_paint.results.progress import stages
from hf_paint.results.records import ROLES, Role
from hf_paint.results.stored import OrdersSummary, TaskAverage
from hf_paint.results.tables import markdown, percent
from hf_paint.tasks.task import Task


logger: logging.Logger = logging.getLogger(__name__)


def patch_orders(recipe: Recipe, patch: Callable[[Recipe], PatchResult]) -> PatchResult:
    """Patch in several random orders, with one run folder each (`order-1` etc.), and save the averages.

    Args:
        recipe: Recipe shared by all orders.
        patch: Called as `patch(recipe)`; patches the tasks in the order of the recipe.

    Returns:
        The result of the order with the highest mean of patching and supported accuracy on the validation images.

    Raises:
        InputError: If the tasks have fewer than `num_orders` distinct orders.
    """
    run = PatchRun(recipe)
    orders = draw_orders(recipe.patching_tasks, run.options.num_orders, seed=run.args.seed)
    options = replace(run.options, num_orders=1)
    with stages(stages_of(recipe)), tracked(recipe), run.claimed():
        results = []
        for number, tasks in enumerate(orders, 1):
            args = run.args.with_changes(output_dir=str(run.folder.order(number).path))
            result = patch(replace(recipe, patching_tasks=tasks, args=args, options=options))
            results.append(replace(result, model=None))  # one model in memory is enough
        if run.folder.write:
            summary = average_orders([result.curve for result in results])
            run.folder.save_orders(summary)
            logger.info(orders_to_markdown(summary))
        redraw_report(run.folder)
    best = max(results, key=_validation_score)
    return replace(best, model=load_clip(str(best.patched))[0])


def draw_orders(tasks: Sequence[Task], num_orders: int, *, seed: int) -> list[list[Task]]:
    """Return `num_orders` distinct random orders of the tasks.

    Raises:
        InputError: If the tasks have fewer than `num_orders` distinct orders.

    Example:
        >>> [[each.name for each in order] for order in draw_orders([task, other_task], 2, seed=0)]
        [['colours', 'others'], ['others', 'colours']]
    """
    most = math.factorial(len(tasks))
    if not 1 <= num_orders <= most:
        raise InputError(f"`num_orders` must be from 1 to {most} for {len(tasks)} tasks, got {num_orders}.")
    generator = np.random.default_rng(seed)
    orders: list[list[int]] = []
    while len(orders) < num_orders:
        order = generator.permutation(len(tasks)).tolist()
        if order not in orders:
            orders.append(order)
    return [[tasks[index] for index in order] for order in orders]


def average_orders(histories: Sequence[AlphaCurve]) -> OrdersSummary:
    """Return each task's accuracy before and after all steps, with mean and standard deviation over the orders."""
    first = histories[0]
    split = first.reported_split
    averages = []
    for role in ROLES:
        for task in first.tasks.get(role, []):
            before = first.get(0.0, role, task, split)
            records = [history.get(history.alphas[-1], role, task, split) for history in histories]
            after = [record.accuracy for record in records if record is not None]
            if before is not None and after:
                averages.append(_average(task, role, before.accuracy, after))
    return {"split": split, "orders": [format_alpha(h.alphas[-1]) for h in histories], "tasks": averages}


def _average(task: str, role: Role, zero_shot: float, after: Sequence[float]) -> TaskAverage:
    spread = float(np.std(after, ddof=1)) if len(after) > 1 else None
    return {"task": task, "role": role, "zero_shot": zero_shot, "mean": float(np.mean(after)), "std": spread}


def orders_to_markdown(summary: OrdersSummary) -> str:
    """Return the averages over the orders as a Markdown table, in percent."""
    rows = [["task", "role", "zero-shot", "after all steps"]]
    for row in summary["tasks"]:
        spread = "" if row["std"] is None else f" ± {percent(row['std'])}"
        rows.append([row["task"], row["role"], percent(row["zero_shot"]), f"{percent(row['mean'])}{spread}"])
    title = f"{len(summary['orders'])} orders, {summary['split']} images, standard deviation over the orders:"
    return f"{title}\n{markdown(rows, text_columns=2)}"


def _validation_score(result: PatchResult) -> Fraction:
    curve, alpha = result.curve, result.curve.alphas[-1]
    patching, supported = (curve.mean_accuracy(alpha, role, "validation") for role in ("patching", "supported"))
    return patching + supported
