"""Patching each task independently and adding up the changes, with one coefficient per task (PAINT, Section 5)."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm.auto import tqdm
from transformers import PreTrainedModel

from hf_paint.evaluation.carrier import Carrier
from hf_paint.evaluation.sweep import evaluate_at
from hf_paint.merging.path import Span
from hf_paint.models.stored import StoredTower, find_tower
from hf_paint.patching.fine_tuning import fine_tune, merge
from hf_paint.patching.finish import finish
from hf_paint.patching.line import sweep_and_finish
from hf_paint.patching.options import PatchOptions, PatchResult, Selection
from hf_paint.patching.processes import wait_for_everyone
from hf_paint.patching.recipe import Rule
from hf_paint.patching.run import PatchRun
from hf_paint.patching.start import prepare, resolve
from hf_paint.results.alphas import DEFAULT_ALPHAS, Alpha, Coefficients, format_alpha
from hf_paint.results.curve import AlphaCurve
from hf_paint.results.search import search_coefficients
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
    """Patch a CLIP model on several tasks independently, with one coefficient per task.

    1. Fine-tune the image tower on each task, always from theta_0: theta_i. Fine-tuned models in `options.thetas` are
       used instead.
    2. Search one coefficient per task for `theta_0 + sum_i a_i (theta_i - theta_0)` on the validation images.
    3. Choose among all evaluated combinations, and save the patched model.

    With a method that merges, such as `ties`, theta_1 is the merge of all theta_i, and one alpha is chosen as in
    `patch_single`.

    The theta_i are read from their files one tensor at a time, so memory use does not grow with the number of tasks.

    Args:
        model: The model to patch: an id on the Hub, a folder, or a model in memory, which is not changed.
        patching_tasks: The tasks to improve.
        supported_tasks: The tasks whose accuracy the model must keep.
        args: The training arguments of each fine-tuning.
        alphas: The uniform coefficients that the search starts from, on a grid of 0.01 and thinned out to a fifth of
            its budget; with one task, the search evaluates only these.
        selection: `mean` or `supported_within` (`AlphaCurve.select`).
        tolerance: The loss that `supported_within` accepts, as a fraction of 1.
        options: Options that most runs leave at their defaults.

    Returns:
        The coefficient of each task or the one alpha, the curve, the run folder and the patched model.

    Raises:
        InputError: If an argument is invalid; raised before training wherever possible.

    Example:
        >>> args = PaintTrainingArguments(output_dir=tmp_path, max_steps=2, warmup_steps=1, use_cpu=True)
        >>> result = patch_parallel(model_folder, [task], [other_task], args, alphas=[0.5, 1.0])
        >>> list(result.alpha)
        ['colours']
    """
    recipe = resolve(
        "parallel",
        model,
        args,
        patching_tasks=patching_tasks,
        supported_tasks=supported_tasks,
        rule=Rule(alphas=alphas, selection=selection, tolerance=tolerance),
        options=options,
    )
    run = prepare(recipe)
    with run.claimed():
        folders = {task.name: _fine_tuned(run, task) for task in recipe.patching_tasks}
        if not recipe.searches:
            merge(run, folders)
            return sweep_and_finish(run, run.base.read(run.folder.theta_1))
        return _search_and_finish(run, folders)


def _fine_tuned(run: PatchRun, task: Task) -> Path:
    """Return the folder of theta_i; fine-tune it unless it is among the `thetas`."""
    if task.name in run.options.thetas:
        return find_tower(run.options.thetas[task.name])
    folder = run.folder.theta(task.name)
    if not folder.theta_1.exists():
        logger.info(f"Fine-tuning on {task.name}")
    fine_tune(run, [task], folder, run.args)
    return folder.theta_1


def _search_and_finish(run: PatchRun, folders: Mapping[str, Path]) -> PatchResult:
    theta_0 = run.base.theta_0
    path = Span(theta_0, {name: StoredTower(folder, theta_0) for name, folder in folders.items()})
    combinations = _Combinations(run, path)
    alpha = combinations.search()
    curve = combinations.report(alpha)
    del combinations  # and what it holds on a GPU
    return finish(run, curve, path, alpha)


class _Combinations:
    """The combinations of the theta_i that have been evaluated.

    Args:
        run: The run.
        path: theta_0 and the theta_i.
    """

    def __init__(self, run: PatchRun, path: Span) -> None:
        self.run = run
        self.names = path.models
        self.log = run.log()
        self.evaluator = run.evaluator(*path.ends)
        self.quiet = not self.evaluator.accelerator.is_local_main_process
        self.carrier = Carrier(path, run.base.tower(), self.evaluator)

    def search(self) -> Coefficients:
        """Search on the validation images, and return the choice of the rule among all evaluated combinations."""
        self.evaluate(0.0, "validation")
        if len(self.names) == 1:  # all combinations are on the line
            for value in tqdm(self.run.rule.alphas, "Sweeping the coefficient", disable=self.quiet):
                self.evaluate(Coefficients({self.names[0]: value}), "validation")
        else:
            self._search()
        alpha = self.run.rule.choose(AlphaCurve(self.log.results))
        return alpha if isinstance(alpha, Coefficients) else Coefficients(dict.fromkeys(self.names, alpha or 0.0))

    def _search(self) -> None:
        options = self.run.options
        with tqdm(total=options.search_budget, desc="Searching coefficients", disable=self.quiet) as progress:

            def score(coefficients: dict[str, float]) -> float:
                alpha = Coefficients(coefficients)
                progress.set_postfix_str(format_alpha(alpha))
                value = self.score(alpha)
                progress.update()
                return value

            search_coefficients(
                score,
                self.names,
                budget=options.search_budget,
                method=options.search,
                diagonal=self.run.rule.alphas,
                seed=self.run.args.seed,
            )

    def score(self, alpha: Coefficients) -> float:
        """Return the score that the search maximises."""
        self.evaluate(alpha, "validation")
        curve = AlphaCurve(self.log.results)
        return self.run.rule.score(curve.sides(alpha), curve.sides(0.0))

    def report(self, alpha: Coefficients) -> AlphaCurve:
        """Evaluate the reported combinations: both ends, and on the test images each theta_i alone on its task."""
        for end in (0.0, alpha):
            self.evaluate(end, "validation")
            self.evaluate(end, "test")
        for name in self.names:
            self.evaluate(Coefficients({name: 1.0}), "test", only=name)
        wait_for_everyone()  # the intervals read files of the main process
        return AlphaCurve(self.log.results, folder=self.log.folder)

    def evaluate(self, alpha: Alpha, split: str, *, only: str | None = None) -> None:
        """Evaluate one combination on a split of every task that has it, or of one task."""
        for task in self.run.tasks:
            if split in task.images and only in (None, task.task.name):
                evaluate_at(self.carrier, alpha, task, split, log=self.log)
