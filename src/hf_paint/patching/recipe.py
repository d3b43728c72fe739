"""The recipe of a run: the base, the tasks, the training arguments, the alphas and the rule that chooses one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Literal

import torch

from hf_paint.merging.base import Method
from hf_paint.models.stored import find_tower
from hf_paint.patching.base import Base
from hf_paint.patching.options import PatchOptions, Selection
from hf_paint.patching.processes import is_main_process
from hf_paint.repositories import pinned
from hf_paint.results.alphas import Alpha
from hf_paint.results.curve import AlphaCurve
from hf_paint.results.run_folder import RECIPE, STEP_RECIPE, RunFolder
from hf_paint.results.selection import Sides, mean_score, penalised_score
from hf_paint.tasks.task import Task
from hf_paint.training.training_args import PaintTrainingArguments


Strategy = Literal["single", "joint", "sequential", "parallel"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """The alphas of a run, and how one of them is chosen.

    Attributes:
        alphas: The alphas to evaluate.
        selection: How alpha is chosen (`AlphaCurve.select`).
        tolerance: The supported loss that `supported_within` accepts, as a fraction of 1.
        baseline: The supported accuracy to measure that loss from, instead of the accuracy at alpha 0.
    """

    alphas: Sequence[float]
    selection: Selection = "mean"
    tolerance: float = 0.01
    baseline: Fraction | None = None

    def choose(self, curve: AlphaCurve) -> Alpha | None:
        """Return the alpha that the rule chooses, or None if the selection is `none`."""
        if self.selection == "none":
            return None
        return curve.select(self.selection, tolerance=self.tolerance, baseline=self.baseline)

    def score(self, side: Sides, side_0: Sides) -> float:
        """Return the score that a search maximises: the rule, with a penalty instead of its limit.

        Args:
            side: The mean accuracies of the weights.
            side_0: The mean accuracies at alpha 0.
        """
        return (
            mean_score(side) if self.selection == "mean" else penalised_score(side, side_0, tolerance=self.tolerance)
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Recipe:
    """All settings that determine the result of a run.

    Attributes:
        strategy: The patching strategy; a step of `sequential` is a `single` run.
        base: The model to be patched.
        args: The training arguments; `output_dir` is the run folder.
        patching_tasks: The tasks to improve.
        supported_tasks: The tasks whose accuracy the model must keep.
        rule: The alphas, and how one of them is chosen.
        options: The other options.
        method: The method, read from the options.
        step: In a step of sequential patching, the name of its task.
    """

    strategy: Strategy
    base: Base
    args: PaintTrainingArguments
    patching_tasks: Sequence[Task]
    supported_tasks: Sequence[Task]
    rule: Rule
    options: PatchOptions
    method: Method
    step: str | None = None

    @property
    def folder(self) -> RunFolder:
        """The run folder. The folder of a step has a `step.yaml`, because its recipe cannot be run alone."""
        name = RECIPE if self.step is None else STEP_RECIPE
        return RunFolder(str(self.args.output_dir), write=is_main_process(self.args), recipe_name=name)

    @property
    def searches(self) -> bool:
        """Whether the run searches a coefficient for each task."""
        return self.strategy == "parallel" and self.method.takes == "one"

    @property
    def save_dtype(self) -> torch.dtype:
        """The dtype of the saved models."""
        dtype: torch.dtype = getattr(torch, self.options.save_dtype) if self.options.save_dtype else self.base.dtype
        return dtype

    @cached_property
    def pinned_thetas(self) -> dict[str, str]:
        """The `thetas` at their commits, which are looked up once."""
        return {name: pinned(theta, find_tower(theta)) for name, theta in self.options.thetas.items()}

    def to_dict(self) -> dict[str, object]:
        """Return the keys of `recipe.yaml`, without keys that have no value."""
        options = self.options
        keys: dict[str, object] = {
            "model": self.base.name,
            "model_revision": options.model_revision,
            "strategy": self.strategy if self.step is None else None,
            "patching_tasks": _references(self.patching_tasks),
            "supported_tasks": _references(self.supported_tasks),
            "transfer_tasks": _references(options.transfer_tasks),
            "shift_tasks": _references(options.shift_tasks),
            "alphas": [float(alpha) for alpha in self.rule.alphas],
            "selection": self.rule.selection,
            "tolerance": self.rule.tolerance,
            "method": self.method.to_recipe() if self.method.name != "interpolate" else None,
            "ingredients": [dict(ingredient) for ingredient in options.ingredients],
            "thetas": self.pinned_thetas,
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
            "base_fingerprint": self.base.fingerprint,
            "num_orders": options.num_orders if options.num_orders != 1 else None,
            "search": options.search if self.searches else None,
            "search_budget": options.search_budget if self.searches else None,
            "step": self.step,
        }
        return {key: value for key, value in keys.items() if value not in (None, [], {})} | self.args.given()


def _references(tasks: Sequence[Task]) -> list[str | Mapping[str, object]]:
    """Return built-in tasks by name, and others by their definition, so an edited file counts as another recipe."""
    return [task.name if task.source == task.name else task.to_dict() for task in tasks]
