"""The steps that every patching strategy is made of: prepare, fine-tune, sweep, choose and save."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator, PartialState
from torch import Tensor, nn
from transformers import CLIPModel

from hf_paint.adaptive import sweep_adaptively, verified
from hf_paint.card_source import is_repo_id, license_of
from hf_paint.curve import AlphaCurve, SelectionRule
from hf_paint.data import load_splits
from hf_paint.errors import InputError
from hf_paint.evaluator import Evaluator, Precision
from hf_paint.fingerprints import fingerprint_weights
from hf_paint.interpolation import interpolate
from hf_paint.model_card import environment, render_model_card
from hf_paint.modeling import image_tower, image_tower_weights, load_clip, save_clip
from hf_paint.patching.base import absolute, load_base
from hf_paint.patching.result import PatchOptions, PatchResult, Selection
from hf_paint.plots import plot_trade_off
from hf_paint.precision import compare_precisions
from hf_paint.prepared_task import PreparedTask, prepare_task
from hf_paint.results import ResultLog, Role
from hf_paint.run_folder import RunFolder
from hf_paint.sweep import sweep_alphas
from hf_paint.tasks import Task
from hf_paint.trainer import PaintTrainer
from hf_paint.training_args import PaintTrainingArguments


Weights = dict[str, Tensor]


class PatchRun:
    """One run of a patching strategy in its folder.

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
        model: str | CLIPModel,
        args: PaintTrainingArguments,
        *,
        selection: Selection,
        tolerance: float,
        options: PatchOptions,
    ) -> None:
        self.args = args
        self.selection = selection
        self.tolerance = tolerance
        self.options = options
        self.folder = RunFolder(str(args.output_dir), write=PartialState(cpu=args.use_cpu).is_main_process)
        self.model, self.processor, base_dtype = load_base(model, options)
        self.save_dtype: torch.dtype = getattr(torch, options.save_dtype) if options.save_dtype else base_dtype
        self.theta_0: Weights = {name: tensor.clone() for name, tensor in image_tower_weights(self.model).items()}
        self.base_fingerprint = fingerprint_weights(self.theta_0)
        if options.base_fingerprint not in (None, self.base_fingerprint):
            raise InputError(
                f"The base has changed: its image tower is {self.base_fingerprint}, not {options.base_fingerprint}."
            )
        name = model if isinstance(model, str) else model.name_or_path
        self.base: str = absolute(name) if name else f"a model in memory ({self.base_fingerprint})"
        self.tasks: list[PreparedTask] = []
        cast(nn.Module, self.model).to(args.device)

    def prepare(self, tasks: dict[Role, Sequence[Task]]) -> None:
        """Load, check and decode everything that will be evaluated, and check that alpha can be chosen.

        Raises:
            InputError: If a task cannot be used, or the rule lacks validation images on one side.
        """
        names = [task.name for group in tasks.values() for task in group]
        for name in names:
            if names.count(name) > 1:
                raise InputError(f"Task '{name}' is listed twice. Each task has one role in a run.")
        for task in tasks["patching"]:
            _check_train_split(task)
        for role, group in tasks.items():
            splits = ("validation", "test") if role in ("patching", "supported") else ("test",)
            self.tasks += [prepare_task(task, self.model, self.processor, role=role, splits=splits) for task in group]
        for side in ("patching", "supported"):
            if self.selection != "none" and not any("validation" in t.images for t in self.tasks if t.role == side):
                raise InputError(
                    f"`selection: {self.selection}` needs validation images of a {side} task, and no {side} task has "
                    "any. Add one, name its validation split, or set `selection: none`."
                )

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

    def fine_tune(self, task: Task) -> Weights:
        """Return theta_1: train the image tower on a task, go on where a run stopped, or read what it saved."""
        if self.folder.theta_1.exists():
            trained, _, _ = load_clip(str(self.folder.theta_1))
            self.accelerator = Accelerator(cpu=self.args.use_cpu)
            return image_tower_weights(trained)
        watched = [t.task for t in self.tasks if "validation" in t.images] if self.args.eval_strategy != "no" else []
        trainer = PaintTrainer(
            self.model, self.args, train_task=task, eval_tasks=watched, processing_class=self.processor
        )
        trainer.train(resume_from_checkpoint=self.folder.last_checkpoint())
        self.accelerator = trainer.accelerator
        self.folder.save_folder(self.folder.theta_1, lambda path: save_clip(self.model, self.processor, path))
        self.accelerator.wait_for_everyone()
        return {name: tensor.detach().cpu().clone() for name, tensor in image_tower_weights(self.model).items()}

    def sweep(self, theta_1: Weights, alphas: Sequence[float]) -> AlphaCurve:
        """Evaluate every alpha on every task; the model carries theta_0 afterwards."""
        self.model.to(self.accelerator.device).eval()
        self.model.load_state_dict(self.theta_0, strict=False)
        tower = image_tower(self.model)
        log = ResultLog(self.folder.path, write=self.folder.write)
        evaluator = self._evaluator(tower, theta_1)

        def run(sweep: Callable[..., AlphaCurve], alphas: Sequence[float]) -> AlphaCurve:
            curve = sweep(self.theta_0, theta_1, alphas, self.tasks, model=tower, log=log, evaluator=evaluator)
            self.accelerator.wait_for_everyone()  # the intervals read what the main process writes
            return curve

        if self.options.sweep == "full":
            return run(sweep_alphas, alphas)
        curve = run(sweep_adaptively, alphas)
        if self.options.verify:
            return verified(curve, run(sweep_alphas, alphas))
        while self.selection != "none":  # what is chosen and published is exact
            alpha = curve.select(self.selection, tolerance=self.tolerance)
            if alpha in curve.exact_alphas:
                break
            curve = AlphaCurve([*curve.results, *run(sweep_alphas, [alpha]).results], folder=log.folder)
        return curve

    def _evaluator(self, tower: nn.Module, theta_1: Weights) -> Evaluator:
        """Return the evaluator of the sweep; `precision: auto` is decided at both ends, and once in a run."""
        batch_size, precision = self.args.per_device_eval_batch_size, self.options.precision
        evaluator = Evaluator(self.accelerator, batch_size=batch_size, compile=self.args.torch_compile)
        if precision == "auto":
            evaluator.precision = self.folder.load_precision() or self._compare_precisions(evaluator, tower, theta_1)
        else:
            evaluator.precision = precision
        return evaluator

    def _compare_precisions(self, evaluator: Evaluator, tower: nn.Module, theta_1: Weights) -> Precision:
        fine_tuned = deepcopy(tower)
        fine_tuned.load_state_dict(theta_1)
        check = compare_precisions([tower, fine_tuned], self.tasks, evaluator)
        self.accelerator.wait_for_everyone()
        self.folder.save_precision(asdict(check) | {"precision": check.precision})
        return check.precision

    def finish(self, theta_1: Weights, curve: AlphaCurve) -> PatchResult:
        """Choose alpha, and write the selection, the plot, the patched model with its card, and the variants."""
        self.model.cpu()
        split = "test" if "test" in curve.splits("patching") else "validation"
        for variant in curve.alphas if self.options.save_variants else ():
            self._save_model(self.folder.variant(variant), theta_1, variant)
        alpha: float | None = None
        if self.selection != "none":
            alpha = curve.select(self.selection, tolerance=self.tolerance)
            selection = _selection(curve, alpha, self.selection, self.tolerance, split)
            self.folder.save_selection(selection)
        if self.folder.write:
            plot_trade_off(curve, self.folder.curve_plot, split=split, selected=alpha)
        if alpha is not None:
            self.folder.save_card_facts(self._card_facts())
            self._save_model(self.folder.patched, theta_1, alpha, card=True)
        self.accelerator.wait_for_everyone()
        model = self.model if alpha is not None else None
        return PatchResult(alpha=alpha, curve=curve, run_folder=self.folder.path, model=model)

    def _save_model(self, folder: Path, theta_1: Weights, alpha: float, *, card: bool = False) -> None:
        """Save theta_alpha as a complete CLIP repository, rounded once to the dtype of the base or of `save_dtype`."""
        self.model.float().load_state_dict(interpolate(self.theta_0, theta_1, alpha), strict=False)
        cast(nn.Module, self.model).to(self.save_dtype)

        def save(path: Path) -> None:
            save_clip(self.model, self.processor, path)
            if card:
                (path / "README.md").write_text(render_model_card(self.folder.card_source()), encoding="utf-8")
                (path / self.folder.curve_plot.name).write_bytes(self.folder.curve_plot.read_bytes())

        self.folder.save_folder(folder, save)

    def _card_facts(self) -> dict[str, Any]:
        return {
            "class_names": list(self.tasks[0].class_names[:3]),
            "base_model_id": self.options.base_model_id or (self.base if is_repo_id(self.base) else None),
            "base_license": license_of(self.base),
            "save_dtype": str(self.save_dtype).removeprefix("torch."),
            "plot": self.folder.curve_plot.name,
            "versions": environment(),
        }


def _selection(curve: AlphaCurve, alpha: float, rule: SelectionRule, tolerance: float, split: str) -> dict[str, Any]:
    return {
        "alpha": alpha,
        "rule": rule,
        "tolerance": tolerance,
        "num_alphas": len(curve.alphas),
        "chosen_on": "validation",
        "reported_on": split,
        "gains": [asdict(gain) for gain in curve.gains(alpha, split)],
    }


def _check_train_split(task: Task) -> None:
    if task.splits.validation is not None and task.splits.validation == task.splits.train:
        raise InputError(f"Task '{task.name}' is to be patched, so its validation split must not be its train split.")
    if "train" not in load_splits(task, ("train",)):
        raise InputError(f"Task '{task.name}' has no train split, so it cannot be patched.")
