"""Patching each task by itself and adding the changes up, with one coefficient per task (PAINT, Section 5)."""

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from torch import Tensor
from tqdm.auto import tqdm
from transformers import CLIPModel

from hf_paint.alphas import Alpha, Coefficients, format_alpha
from hf_paint.curve import AlphaCurve
from hf_paint.errors import InputError, did_you_mean
from hf_paint.interpolation import combine
from hf_paint.patching.base import absolute
from hf_paint.patching.finish import finish
from hf_paint.patching.resolved import check_arguments, resolved_recipe
from hf_paint.patching.result import PatchOptions, PatchResult, Selection
from hf_paint.patching.run import PatchRun
from hf_paint.recipe import DEFAULT_ALPHAS
from hf_paint.results import Result
from hf_paint.search import check_search, search_coefficients
from hf_paint.stored_tower import StoredTower, find_tower
from hf_paint.sweep import WeightSpan, evaluate_once
from hf_paint.tasks import Task, get_task
from hf_paint.training_args import PaintTrainingArguments


LOSS_WEIGHT = 10
"""What a point of supported accuracy beyond the tolerance costs in the search, in points of patching accuracy."""

logger = logging.getLogger(__name__)


def patch_parallel(
    model: str | Path | CLIPModel,
    patching_tasks: Sequence[Task | str],
    supported_tasks: Sequence[Task | str],
    args: PaintTrainingArguments,
    *,
    alphas: Sequence[float] = DEFAULT_ALPHAS,
    selection: Selection = "mean",
    tolerance: float = 0.01,
    options: PatchOptions | None = None,
) -> PatchResult:
    """Patch a CLIP model on several tasks, each by itself.

    1. Fine-tune the image tower on each task, always from theta_0: theta_i. Models that exist already are taken from
       `options.thetas` instead.
    2. Search one coefficient per task for `theta_0 + sum_i a_i (theta_i - theta_0)` on the validation images.
    3. Choose among all combinations that were evaluated, and save the patched model.

    The theta_i are read from their files one tensor at a time, so that the memory does not grow with the tasks.

    Args:
        model: The model to be patched: an id on the Hub, a folder, or a model in memory, which is not changed.
        patching_tasks: The tasks on which the model is to become good.
        supported_tasks: The tasks on which it is to stay as good as it is.
        args: The training arguments of each fine-tuning.
        alphas: The uniform coefficients that the search begins with; with one task all of them are evaluated.
        selection: `mean` or `supported_within` (`AlphaCurve.select`).
        tolerance: The loss that `supported_within` accepts, as a fraction of 1.
        options: What a run needs now and then.

    Returns:
        The coefficient of each task, what was evaluated, the run folder and the patched model.

    Raises:
        InputError: If anything that was given cannot be used; found out before training wherever that is possible.

    Example:
        >>> args = PaintTrainingArguments(output_dir=tmp_path, max_steps=2, warmup_steps=1, use_cpu=True)
        >>> result = patch_parallel(model_folder, [task], [other_task], args, alphas=[0.5, 1.0])
        >>> list(result.alpha)
        ['colours']
    """
    check_arguments(args, alphas, tolerance)
    if selection == "none":
        raise InputError("`strategy: parallel` searches for coefficients, so it needs a `selection`.")
    options = options or PatchOptions()
    base = str(model) if isinstance(model, Path) else model
    tasks, supported = [get_task(task) for task in patching_tasks], [get_task(task) for task in supported_tasks]
    _check_thetas(options.thetas, tasks)
    names = {task.name for task in tasks}
    check_search([*names], budget=options.search_budget, method=options.search, diagonal=alphas)
    run = PatchRun(base, args, selection=selection, tolerance=tolerance, options=options)
    found = {task: find_tower(name) for task, name in options.thetas.items()}
    recipe = resolved_recipe(
        run,
        tasks,
        supported,
        strategy="parallel",
        alphas=[float(alpha) for alpha in alphas],
        thetas={task: absolute(name) for task, name in options.thetas.items()},
        search=options.search,
        search_budget=options.search_budget,
    )
    run.folder.check(recipe)
    run.prepare(tasks, supported, each=True)
    with run.claimed(recipe):
        thetas = {task.name: StoredTower(_fine_tuned(run, task, found), run.theta_0) for task in tasks}
        combinations = _Combinations(run, thetas)
        chosen = combinations.search(alphas)
        curve = combinations.report(chosen)
        plot = {"split": "validation", "connected": False}
        return finish(run, curve, partial(combine, run.theta_0, thetas), alpha=chosen, plot=plot)


def _fine_tuned(run: PatchRun, task: Task, found: Mapping[str, Path]) -> Path:
    """Return the folder of theta_i, which is fine-tuned unless it was given."""
    if task.name in found:
        return found[task.name]
    folder = run.folder.theta(task.name)
    logger.info(f"Fine-tuning on {task.name}")
    run.fine_tune([task], folder)
    return folder.theta_1


class _Combinations:
    """The combinations of the theta_i that have been evaluated."""

    def __init__(self, run: PatchRun, thetas: Mapping[str, Mapping[str, Tensor]]) -> None:
        self.run = run
        self.names = [*thetas]
        self.log = run.log()
        self.evaluator = run.evaluator(*thetas.values())
        self.span = WeightSpan(run.theta_0, thetas, run.tower(), self.evaluator)
        self.results: list[Result] = []

    def search(self, alphas: Sequence[float]) -> Coefficients:
        """Search on the validation images, and return what the rule chooses among all that was evaluated."""
        self.evaluate(0.0, "validation")
        options, seed = self.run.options, self.run.args.seed
        quiet = not self.evaluator.accelerator.is_local_main_process
        with tqdm(total=options.search_budget, desc="Searching coefficients", disable=quiet) as progress:

            def score(coefficients: dict[str, float]) -> float:
                progress.set_postfix_str(format_alpha(Coefficients(coefficients)))
                found = self.score(Coefficients(coefficients))
                progress.update()
                return found

            budget, method = options.search_budget, options.search
            search_coefficients(score, self.names, budget=budget, method=method, diagonal=alphas, seed=seed)
        alpha = self.run.choose(AlphaCurve(self.results))
        return alpha if isinstance(alpha, Coefficients) else Coefficients(dict.fromkeys(self.names, alpha))

    def score(self, alpha: Coefficients) -> float:
        """Return what the search maximises: the rule, with a price on a supported loss that it would refuse."""
        self.evaluate(alpha, "validation")
        curve = AlphaCurve(self.results)
        patching, supported = (curve.mean_accuracy(alpha, role, "validation") for role in ("patching", "supported"))
        if self.run.selection == "mean":
            return float(patching + supported) / 2
        lost = float(curve.mean_accuracy(0.0, "supported", "validation") - supported) - self.run.tolerance
        return float(patching) - LOSS_WEIGHT * max(0.0, lost)

    def report(self, chosen: Coefficients) -> AlphaCurve:
        """Evaluate what is reported on the test images: both ends, and each theta_i by itself on its own task."""
        for alpha in (0.0, chosen):
            self.evaluate(alpha, "validation")
            self.evaluate(alpha, "test")
        for name in self.names:
            self.evaluate(Coefficients({name: 1.0}), "test", only=name)
        self.evaluator.accelerator.wait_for_everyone()  # the intervals read what the main process writes
        return AlphaCurve(self.results, folder=self.log.folder)

    def evaluate(self, alpha: Alpha, split: str, *, only: str | None = None) -> None:
        """Evaluate one combination on a split of every task that has it, or of one task."""
        for task in self.run.tasks:
            if split in task.images and only in (None, task.task.name):
                weights, tower = self.span.fingerprint(alpha), partial(self.span.at, alpha)
                pending = self.evaluator.pending(task, split, alpha=alpha, weights=weights)
                self.results.append(evaluate_once(pending, tower, task, log=self.log, evaluator=self.evaluator))


def _check_thetas(thetas: Mapping[str, str], tasks: Sequence[Task]) -> None:
    names = [task.name for task in tasks]
    for name in thetas:
        if name not in names:
            raise InputError(f"`thetas` names '{name}', which is no patching task.{did_you_mean(name, names)}")
