"""Patching tasks independently and adding up the weight changes, with one coefficient per task (PAINT, Section 5)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from transformers import PreTrainedModel, TrainingArguments

from hf_paint.data.read_once import reading_once
from hf_paint.evaluation.carrier import Carrier
from hf_paint.evaluation.prepared_task import num_images
from hf_paint.evaluation.sweep import evaluate_at
from hf_paint.merging.interpolation import Weights
from hf_paint.merging.path import Span
from hf_paint.models.stored import StoredTower, find_tower
from hf_paint.patching.concerns import warn_of_concerns
from hf_paint.patching.fine_tuning import bound_theta_1, fine_tune, merge
from hf_paint.patching.finish import finish
from hf_paint.patching.line import sweep_and_finish
from hf_paint.patching.options import PatchOptions, PatchResult, Selection
from hf_paint.patching.processes import wait_for_everyone, with_progress
from hf_paint.patching.progress import say_progress
from hf_paint.patching.recipe import Rule
from hf_paint.patching.run import PatchRun
from hf_paint.patching.stages import count, stages_of
from hf_paint.patching.start import prepare, resolve
from hf_paint.patching.tracking import tracked
from hf_paint.results.alphas import DEFAULT_ALPHAS, Alpha, Coefficients, format_alpha
from hf_paint.results.curve import AlphaCurve
from hf_paint.results.progress import begin_stage, stages
from hf_paint.results.records import Result
from hf_paint.results.run_files import SINGLE_MODELS
from hf_paint.results.search import search_coefficients
from hf_paint.results.selection import DEFAULT_RULE, DEFAULT_TOLERANCE
from hf_paint.results.single_models import alone
from hf_paint.tasks.registry import TaskLike
from hf_paint.tasks.task import Task


@with_progress
@reading_once()
def patch_parallel(
    model: str | Path | PreTrainedModel,
    patching_tasks: Sequence[TaskLike],
    supported_tasks: Sequence[TaskLike],
    args: TrainingArguments,
    *,
    alphas: Sequence[float] = DEFAULT_ALPHAS,
    selection: Selection = DEFAULT_RULE,
    tolerance: float = DEFAULT_TOLERANCE,
    options: PatchOptions | None = None,
) -> PatchResult:
    """Patch a CLIP model on several tasks independently, with one coefficient per task.

    1. Fine-tune the image tower on each task separately, starting from theta_0, to get theta_i. Tasks in
       `options.thetas` use the given fine-tuned model instead.
    2. Search for one coefficient per task in `theta_0 + sum_i a_i (theta_i - theta_0)` on the validation images.
    3. Choose one of the evaluated combinations and save the patched model.

    With a merging method like `ties`, all theta_i are merged into theta_1, and one alpha is chosen as in
    `patch_single`. In both cases, each theta_i is evaluated on the test images of its own task.

    The theta_i are read from disk one tensor at a time, so memory use does not grow with the number of tasks.

    Args:
        model: Model to patch: a Hub repository id, a folder, or a model in memory, which is left unchanged.
        patching_tasks: Tasks to improve.
        supported_tasks: Tasks whose accuracy must be preserved.
        args: Training arguments, used for every task.
        alphas: Uniform coefficients that the search evaluates first, on a grid of 0.01 and thinned out to a fifth of
            its budget. With one task, only these are evaluated.
        selection: Rule that chooses the coefficients: `supported_within`, `mean` or `entropy` (see
            `AlphaCurve.select`).
        tolerance: Accuracy loss that `supported_within` allows, as a fraction: 0.01 is one point.
        options: Options that most runs leave at their defaults.

    Returns:
        The coefficient of each task (or the single alpha), the curve, the run folder and the patched model.

    Raises:
        InputError: If an argument is invalid. Raised before training whenever possible.

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
    with stages(stages_of(recipe)), tracked(recipe):
        run = prepare(recipe)
        with run.claimed():
            say_progress(run)
            warn_of_concerns(run)
            folders = {task.name: _fine_tuned(run, task) for task in recipe.patching_tasks}
            if not recipe.searches:
                merge(run, folders)
                theta_1 = bound_theta_1(run, run.folder)
                _evaluate_single_models(run, folders, theta_1)
                return sweep_and_finish(run, theta_1)
            return _search_and_finish(run, folders)


def _fine_tuned(run: PatchRun, task: Task) -> Path:
    """Return the folder of theta_i, fine-tuning it unless `thetas` has a model for the task."""
    if task.name in run.options.thetas:
        return find_tower(run.options.thetas[task.name])
    folder = run.folder.theta(task.name)
    fine_tune(run, [task], folder, run.args)
    bound_theta_1(run, folder)
    return folder.theta_1


def _evaluate_single_models(run: PatchRun, folders: Mapping[str, Path], theta_1: Weights) -> None:
    """Evaluate each theta_i on the test images of its task, by which the normalised accuracy of a merge is divided.

    The precision that `auto` chooses is for theta_1, too, which is evaluated next.
    """
    path = _span(run, folders)
    carrier = Carrier(path, run.base.tower(), run.evaluator(theta_1, *path.ends))
    log, number = run.log(SINGLE_MODELS), num_images(run.tasks_alone, "test")
    with carrier.passes(number), carrier.evaluator.progress.over(number, "Evaluating single models"):
        for task in run.tasks_alone:
            evaluate_at(carrier, alone(task.task.name), task, "test", log=log)
    wait_for_everyone()


def _search_and_finish(run: PatchRun, folders: Mapping[str, Path]) -> PatchResult:
    path = _span(run, folders)
    combinations = _Combinations(run, path)
    begin_stage("sweep", f"at most {combinations.most} combinations, {count(len(run.tasks), 'task')}")
    with combinations.evaluator.progress.over(combinations.num_images, "Searching coefficients"):
        alpha = combinations.search()
        curve = combinations.report(alpha)
    del combinations  # to free its GPU memory
    return finish(run, curve, path, alpha)


def _span(run: PatchRun, folders: Mapping[str, Path]) -> Span:
    theta_0 = run.base.theta_0
    return Span(theta_0, {name: StoredTower(folder, theta_0) for name, folder in folders.items()})


class _Combinations:
    """The evaluated combinations of the theta_i.

    Args:
        run: Patching run.
        path: Weights spanned by theta_0 and the theta_i.
    """

    def __init__(self, run: PatchRun, path: Span) -> None:
        self.run = run
        self.names = path.models
        self.log = run.log()
        self.before: list[Result] = []
        self.evaluator = run.evaluator(*path.ends)
        self.carrier = Carrier(path, run.base.tower(), self.evaluator)

    @property
    def most(self) -> int:
        """The number of combinations that the search evaluates at most."""
        return len(self.run.rule.alphas) if len(self.names) == 1 else self.run.options.search_budget

    @property
    def num_images(self) -> int:
        """The number of images that the search and the report pass through the image tower at most."""
        validation, test = (num_images(self.run.tasks, split) for split in ("validation", "test"))
        return (self.most + 3) * validation + 2 * test + num_images(self.run.tasks_alone, "test")

    def search(self) -> Coefficients:
        """Search on the validation images and return the evaluated combination that the rule chooses."""
        with self.carrier.passes(self._images_to_search()):
            self._evaluate_combinations()
        curve = AlphaCurve(self.log.results)
        complete = curve.points("validation")  # an interrupted search may have left a combination with some tasks only
        alpha = self.run.rule.choose(AlphaCurve(result for result in curve.results if result.alpha in complete))
        return alpha if isinstance(alpha, Coefficients) else Coefficients(dict.fromkeys(self.names, alpha or 0.0))

    def _evaluate_combinations(self) -> None:
        self.before = self.evaluate(0.0, "validation")
        if len(self.names) == 1:  # all combinations are on the line
            for value in self.run.rule.alphas:
                self.evaluate(Coefficients({self.names[0]: value}), "validation")
        else:
            self._search()

    def _images_to_search(self) -> int:
        return self.most * num_images(self.run.tasks, "validation")

    def _search(self) -> None:
        options = self.run.options
        search_coefficients(
            lambda coefficients: self.score(Coefficients(coefficients)),
            self.names,
            budget=options.search_budget,
            method=options.search,
            diagonal=self.run.rule.alphas,
            seed=self.run.args.seed,
        )

    def score(self, alpha: Coefficients) -> float:
        """Return the score that the search maximises."""
        curve = AlphaCurve([*self.before, *self.evaluate(alpha, "validation")])
        return self.run.rule.score_of(curve, alpha)

    def report(self, alpha: Coefficients) -> AlphaCurve:
        """Evaluate what is reported: both ends on all splits, and each theta_i on the test images of its task."""
        for end in (0.0, alpha):
            self.evaluate(end, "validation")
            self.evaluate(end, "test")
        for task in self.run.tasks_alone:
            evaluate_at(self.carrier, alone(task.task.name), task, "test", log=self.log)
        wait_for_everyone()  # intervals are computed from files of the main process
        return AlphaCurve(self.log.results, folder=self.log.folder)

    def evaluate(self, alpha: Alpha, split: str) -> list[Result]:
        """Evaluate a combination on one split of every task that has it."""
        self.evaluator.progress.note(format_alpha(alpha))
        return [
            evaluate_at(self.carrier, alpha, task, split, log=self.log)
            for task in self.run.tasks
            if split in task.images
        ]
