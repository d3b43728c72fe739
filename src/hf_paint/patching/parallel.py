"""Patching each task by itself and adding the changes up, with one coefficient per task (PAINT, Section 5)."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm
from transformers import PreTrainedModel

from hf_paint.evaluation.carrier import Carrier
from hf_paint.evaluation.sweep import evaluate_at
from hf_paint.merging.path import Span
from hf_paint.models.stored import StoredTower, find_tower
from hf_paint.patching.checks import check_arguments, check_method, check_validation
from hf_paint.patching.fine_tuning import fine_tune, merge
from hf_paint.patching.finish import finish
from hf_paint.patching.line import sweep_and_finish
from hf_paint.patching.options import PatchOptions, PatchResult, Selection
from hf_paint.patching.run import PatchRun, resolved_recipe
from hf_paint.results.alphas import DEFAULT_ALPHAS, Alpha, Coefficients, format_alpha
from hf_paint.results.curve import AlphaCurve
from hf_paint.results.search import check_search, search_coefficients
from hf_paint.tasks.registry import get_task
from hf_paint.tasks.task import Task
from hf_paint.training.training_args import PaintTrainingArguments


logger = logging.getLogger(__name__)


def patch_parallel(
    model: str | Path | PreTrainedModel,
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

    With a method that merges them, such as `ties`, theta_1 is made of all theta_i, and one alpha is chosen as in
    `patch_single`.

    The theta_i are read from their files one tensor at a time, so that the memory does not grow with the tasks.

    Args:
        model: The model to be patched: an id on the Hub, a folder, or a model in memory, which is not changed.
        patching_tasks: The tasks on which the model is to become good.
        supported_tasks: The tasks on which it is to stay as good as it is.
        args: The training arguments of each fine-tuning.
        alphas: The uniform coefficients that the search begins with, on a grid of 0.01 and thinned out to a fifth of
            its budget; with one task these and no others are evaluated.
        selection: `mean` or `supported_within` (`AlphaCurve.select`).
        tolerance: The loss that `supported_within` accepts, as a fraction of 1.
        options: What a run needs now and then.

    Returns:
        The coefficient of each task or the one alpha, what was evaluated, the run folder and the patched model.

    Raises:
        InputError: If anything that was given cannot be used; found out before training wherever that is possible.

    Example:
        >>> args = PaintTrainingArguments(output_dir=tmp_path, max_steps=2, warmup_steps=1, use_cpu=True)
        >>> result = patch_parallel(model_folder, [task], [other_task], args, alphas=[0.5, 1.0])
        >>> list(result.alpha)
        ['colours']
    """
    options = options or PatchOptions()
    check_arguments("parallel", args, alphas, tolerance, options)
    base = str(model) if isinstance(model, Path) else model
    tasks, supported = [get_task(task) for task in patching_tasks], [get_task(task) for task in supported_tasks]
    run = PatchRun(base, args, selection=selection, tolerance=tolerance, options=options)
    check_method(run, "parallel", tasks)
    searches, keys = run.method.takes == "one", dict[str, Any]()
    if searches:
        names = {task.name for task in tasks}
        check_search([*names], budget=options.search_budget, method=options.search, diagonal=alphas)
        keys = {"search": options.search, "search_budget": options.search_budget}
    grid = [float(alpha) for alpha in alphas]
    recipe = resolved_recipe(run, tasks, supported, strategy="parallel", alphas=grid, **keys)
    run.folder.check(recipe)
    run.prepare(tasks, supported, own_validation=searches)
    check_validation(run)
    with run.claimed(recipe):
        folders = {task.name: _fine_tuned(run, task) for task in tasks}
        if not searches:
            return sweep_and_finish(run, merge(run, folders), alphas)
        thetas = {name: StoredTower(folder, run.theta_0) for name, folder in folders.items()}
        path = Span(run.theta_0, thetas)
        combinations = _Combinations(run, path)
        chosen = combinations.search(alphas)
        curve = combinations.report(chosen)
        return finish(run, curve, path, alpha=chosen, plot_split="validation")


def _fine_tuned(run: PatchRun, task: Task) -> Path:
    """Return the folder of theta_i, which is fine-tuned unless it was given."""
    if task.name in run.options.thetas:
        return find_tower(run.options.thetas[task.name])
    folder = run.folder.theta(task.name)
    if not folder.theta_1.exists():
        logger.info(f"Fine-tuning on {task.name}")
        fine_tune(run, [task], folder)
    return folder.theta_1


class _Combinations:
    """The combinations of the theta_i that have been evaluated."""

    def __init__(self, run: PatchRun, path: Span) -> None:
        self.run = run
        self.names = path.models
        self.log = run.log()
        self.evaluator = run.evaluator(*path.ends)
        self.quiet = not self.evaluator.accelerator.is_local_main_process
        self.carrier = Carrier(path, run.tower(), self.evaluator)

    def search(self, alphas: Sequence[float]) -> Coefficients:
        """Search on the validation images, and return what the rule chooses among all that was evaluated."""
        self.evaluate(0.0, "validation")
        if len(self.names) == 1:  # the line is the whole problem
            for value in tqdm(alphas, "Sweeping the coefficient", disable=self.quiet):
                self.evaluate(Coefficients({self.names[0]: value}), "validation")
        else:
            self._search(alphas)
        alpha = self.run.choose(AlphaCurve(self.log.results))
        return alpha if isinstance(alpha, Coefficients) else Coefficients(dict.fromkeys(self.names, alpha))

    def _search(self, alphas: Sequence[float]) -> None:
        options, seed = self.run.options, self.run.args.seed
        with tqdm(total=options.search_budget, desc="Searching coefficients", disable=self.quiet) as progress:

            def score(coefficients: dict[str, float]) -> float:
                progress.set_postfix_str(format_alpha(Coefficients(coefficients)))
                found = self.score(Coefficients(coefficients))
                progress.update()
                return found

            budget, method = options.search_budget, options.search
            search_coefficients(score, self.names, budget=budget, method=method, diagonal=alphas, seed=seed)

    def score(self, alpha: Coefficients) -> float:
        """Return what the search maximises."""
        self.evaluate(alpha, "validation")
        return self.run.score(AlphaCurve(self.log.results), alpha)

    def report(self, chosen: Coefficients) -> AlphaCurve:
        """Evaluate what is reported on the test images: both ends, and each theta_i by itself on its own task."""
        for alpha in (0.0, chosen):
            self.evaluate(alpha, "validation")
            self.evaluate(alpha, "test")
        for name in self.names:
            self.evaluate(Coefficients({name: 1.0}), "test", only=name)
        self.evaluator.accelerator.wait_for_everyone()  # the intervals read what the main process writes
        return AlphaCurve(self.log.results, folder=self.log.folder)

    def evaluate(self, alpha: Alpha, split: str, *, only: str | None = None) -> None:
        """Evaluate one combination on a split of every task that has it, or of one task."""
        for task in self.run.tasks:
            if split in task.images and only in (None, task.task.name):
                evaluate_at(self.carrier, alpha, task, split, log=self.log)
