"""What every patching strategy is made of: prepare, sweep, choose and save."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import PartialState
from torch import Tensor, nn
from transformers import PreTrainedModel

from hf_paint.errors import InputError
from hf_paint.evaluation.adaptive_sweep import sweep_path_adaptively, verified
from hf_paint.evaluation.carrier import Carrier
from hf_paint.evaluation.evaluator import Evaluator, Precision
from hf_paint.evaluation.precision import compare_precisions
from hf_paint.evaluation.prepared_task import PreparedTask, prepare_task
from hf_paint.evaluation.sweep import sorted_alphas, sweep_path
from hf_paint.fingerprints import fingerprint_weights
from hf_paint.merging.path import WeightPath
from hf_paint.merging.registry import read_method
from hf_paint.models.classifier import ClassificationHead, tower_of, weights_of
from hf_paint.models.loading import save_clip
from hf_paint.models.stored import StoredTower, find_tower
from hf_paint.models.towers import ImageTower, with_weights
from hf_paint.patching.base import Weights, load_base
from hf_paint.patching.options import PatchOptions, Selection
from hf_paint.patching.trained_head import share_head
from hf_paint.repositories import absolute, pinned
from hf_paint.results.alphas import Alpha, Coefficients
from hf_paint.results.curve import AlphaCurve, SelectionRule
from hf_paint.results.records import ResultLog, Role
from hf_paint.results.run_folder import RunFolder
from hf_paint.tasks.task import Task
from hf_paint.training.sharding import check_launch
from hf_paint.training.training_args import PaintTrainingArguments, accelerator_for
from hf_paint.weights.headers import HEAD_WEIGHT


class PatchRun:
    """One run of a patching strategy in its folder.

    Its model, on the CPU, and its head stay those of theta_0: what is trained, evaluated or saved is a copy.

    Args:
        model: The base: an id on the Hub, a folder, or a model in memory, which is copied.
        args: The training arguments; `output_dir` is the run folder.
        selection: How alpha will be chosen.
        tolerance: The supported loss that `supported_within` accepts.
        options: What a run needs now and then.

    Raises:
        InputError: If the base cannot be read.
    """

    def __init__(
        self,
        model: str | PreTrainedModel,
        args: PaintTrainingArguments,
        *,
        selection: Selection,
        tolerance: float,
        options: PatchOptions,
    ) -> None:
        self.given = model
        self.args = args
        self.selection = selection
        self.tolerance = tolerance
        self.options = options
        self.method = read_method(options.method)
        self.folder = RunFolder(str(args.output_dir), write=PartialState(cpu=args.use_cpu).is_main_process)
        check_launch(args)
        self.model, self.processor, base_dtype = load_base(model, options)
        self.save_dtype: torch.dtype = getattr(torch, options.save_dtype) if options.save_dtype else base_dtype
        self.head: ClassificationHead | None = None
        self.base_fingerprint = fingerprint_weights(self.theta_0)
        if options.base_fingerprint not in (None, self.base_fingerprint):
            raise InputError(
                f"The base has changed: its image tower is {self.base_fingerprint}, not {options.base_fingerprint}."
            )
        name = model if isinstance(model, str) else model.name_or_path
        self.base: str = absolute(name) if name else f"a model in memory ({self.base_fingerprint})"
        self.tasks: list[PreparedTask] = []
        self.baseline: Fraction | None = None

    @property
    def theta_0(self) -> Weights:
        """The image tower of the base, with the head where that is trained."""
        return weights_of(self.model, self.head)

    def prepare(
        self, patching_tasks: Sequence[Task], supported_tasks: Sequence[Task], *, own_validation: bool = False
    ) -> None:
        """Load, check and decode everything that will be evaluated, and check that alpha can be chosen.

        Args:
            patching_tasks: The tasks to patch.
            supported_tasks: The tasks to keep.
            own_validation: Each patching task has a coefficient of its own, and so needs validation images of its own.

        Raises:
            InputError: If a task cannot be used, or the rule lacks validation images on one side.
        """
        tasks: dict[Role, Sequence[Task]] = {
            "patching": patching_tasks,
            "supported": supported_tasks,
            "transfer": self.options.transfer_tasks,
            "shift": self.options.shift_tasks,
        }
        names = [task.name for group in tasks.values() for task in group]
        for name in names:
            if names.count(name) > 1:
                raise InputError(f"Task '{name}' is listed twice. Each task has one role in a run.")
        for role, group in tasks.items():
            splits = ("validation", "test") if role in ("patching", "supported") else ("test",)
            self.tasks += [prepare_task(task, self.model, self.processor, role=role, splits=splits) for task in group]
        if self.selection != "none":
            _check_validation(self.tasks, self.selection, each=own_validation)
        if self.args.train_head:
            self.head, self.tasks = share_head(self.tasks)

    @contextmanager
    def claimed(self, recipe: dict[str, Any]) -> Iterator[None]:
        """Hold the folder for this recipe.

        Raises:
            InputError: If it holds the run of another one, or another process is at work in it.
        """
        self.recipe = recipe
        self.folder.check(recipe)
        PartialState().wait_for_everyone()
        with self.folder.claimed(recipe):
            yield

    def read(self, folder: Path) -> Weights:
        """Return the weights of a model that was saved, and of the head beside it where that is trained."""
        weights = dict(StoredTower(folder))  # the files are mapped into memory, not read
        return weights if self.head is None else weights | {HEAD_WEIGHT: ClassificationHead.load(folder).weight.data}

    def save(self, folder: Path, weights: Weights, dtype: torch.dtype = torch.float32) -> None:
        """Save the model with these weights, and the head beside it where that is trained, rounded once to a dtype."""
        save_clip(with_weights(self.model, weights, dtype), self.processor, folder)
        if self.head is not None:
            with_weights(self.head, {"weight": weights[HEAD_WEIGHT]}, dtype).save(folder, dtype=dtype)

    def sweep(self, path: WeightPath, alphas: Sequence[float]) -> AlphaCurve:
        """Evaluate every alpha of a path on every task."""
        log, evaluator = self.log(), self.evaluator(*path.ends)
        carrier = Carrier(path, self.tower(), evaluator)

        def run(sweep: Callable[..., AlphaCurve], alphas: Sequence[float]) -> AlphaCurve:
            ordered = sorted_alphas(alphas, extrapolate=self.options.extrapolate)
            curve = sweep(carrier, ordered, self.tasks, log=log)
            evaluator.accelerator.wait_for_everyone()  # the intervals read what the main process writes
            return curve

        if self.options.sweep == "full":
            return run(sweep_path, alphas)
        curve = run(sweep_path_adaptively, alphas)
        if self.options.verify:
            return verified(curve, run(sweep_path, alphas))
        while self.selection != "none":  # what is chosen and published is exact
            alpha = self.choose(curve)
            if alpha in curve.exact_alphas or isinstance(alpha, Coefficients):
                break
            curve = AlphaCurve([*curve.results, *run(sweep_path, [alpha]).results], folder=log.folder)
        return curve

    def tower(self) -> ImageTower:
        """Return the image tower of the base, with the head where that is trained."""
        return tower_of(self.model, self.head)

    def tower_with(self, weights: Weights) -> ImageTower:
        """Return the image tower with these weights, on the device of the run; on a CPU none is copied."""
        tower = with_weights(self.tower(), weights)
        cast(nn.Module, tower).to(self.args.device)
        return tower

    def log(self) -> ResultLog:
        """Return the records of the run."""
        return ResultLog(self.folder.path, write=self.folder.write)

    def evaluator(self, *thetas: Mapping[str, Tensor]) -> Evaluator:
        """Return an evaluator; `precision: auto` is decided at theta_0 and at these weights, and once in a run."""
        evaluator = Evaluator(
            accelerator_for(self.args),
            batch_size=self.args.per_device_eval_batch_size,
            compile=self.args.torch_compile,
        )
        precision = self.options.precision
        if precision == "auto":
            precision = self.folder.load_precision() or self._compare_precisions(evaluator, thetas)
        return evaluator.with_precision(precision)

    def _compare_precisions(self, evaluator: Evaluator, thetas: Sequence[Mapping[str, Tensor]]) -> Precision:
        towers = (self.tower_with(theta) for theta in (self.theta_0, *thetas))
        check = compare_precisions(towers, self.tasks, evaluator)
        evaluator.accelerator.wait_for_everyone()
        self.folder.save_precision(asdict(check) | {"precision": check.precision})
        return check.precision

    def choose(self, curve: AlphaCurve) -> Alpha:
        """Return the alpha that the rule of the run chooses."""
        rule = cast(SelectionRule, self.selection)
        return curve.select(rule, tolerance=self.tolerance, baseline=self.baseline)

    def score(self, curve: AlphaCurve, alpha: Alpha) -> float:
        """Return how good an alpha is by the rule of the run."""
        return curve.score(alpha, cast(SelectionRule, self.selection), tolerance=self.tolerance)


def _check_validation(tasks: Sequence[PreparedTask], selection: str, *, each: bool) -> None:
    for side in ("patching", "supported"):
        without = [t.task.name for t in tasks if t.role == side and "validation" not in t.images]
        if len(without) == sum(t.role == side for t in tasks):
            raise InputError(
                f"`selection: {selection}` needs validation images of a {side} task, and no {side} task has any. "
                f"Add one, name its validation split{'.' if each else ', or set `selection: none`.'}"
            )
        if each and side == "patching" and without:
            raise InputError(
                f"Task '{without[0]}' has no validation images to choose its coefficient on. Name a validation split, "
                "or set `strategy: joint`."
            )


def resolved_recipe(
    run: PatchRun, patching_tasks: Sequence[Task], supported_tasks: Sequence[Task], **more: Any
) -> dict[str, Any]:
    """Return the resolved recipe; `more` holds the strategy and the keys that only it knows."""
    options = run.options
    recipe = {
        "model": run.base,
        "model_revision": options.model_revision,
        "strategy": None,
        "patching_tasks": [_reference(task) for task in patching_tasks],
        "supported_tasks": [_reference(task) for task in supported_tasks],
        "transfer_tasks": [_reference(task) for task in options.transfer_tasks],
        "shift_tasks": [_reference(task) for task in options.shift_tasks],
        "alphas": None,
        "selection": run.selection,
        "tolerance": run.tolerance,
        "method": run.method.to_recipe() if run.method.name != "interpolate" else None,
        "ingredients": [dict(ingredient) for ingredient in options.ingredients],
        "thetas": {name: pinned(given, find_tower(given)) for name, given in options.thetas.items()},
        "extrapolate": options.extrapolate or None,
        "save_variants": options.save_variants,
        "save_dtype": options.save_dtype,
        "base_model_id": options.base_model_id,
        "precision": options.precision,
        "sweep": options.sweep,
        "verify": options.verify,
        "baseline": [list(pair) for pair in options.baseline],
        "compare_ensemble": options.compare_ensemble,
        "num_examples": options.num_examples,
        "base_fingerprint": run.base_fingerprint,
    } | more
    return {key: value for key, value in recipe.items() if value not in (None, [], {})} | run.args.given()


def _reference(task: Task) -> str | dict[str, Any]:
    """Return the name of a built-in task, and else the whole definition, so that an edited file is another recipe."""
    return task.name if task.source == task.name else task.to_dict()
