"""The recipe of a run: base, tasks, training arguments, alphas, and the rule that chooses one of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Literal, SupportsFloat

import torch

from hf_paint.files import plain
from hf_paint.merging.base import Method
from hf_paint.models.stored import find_tower
from hf_paint.patching.base import Base
from hf_paint.patching.ingredients import ingredient_arguments
from hf_paint.patching.options import PatchOptions, Selection
from hf_paint.patching.processes import is_main_process
from hf_paint.repositories import pinned
from hf_paint.results.alphas import Alpha, canonical_alpha
from hf_paint.results.curve import AlphaCurve
from hf_paint.results.entropies import mean_entropy
from hf_paint.results.run_files import RECIPE, STEP_RECIPE
from hf_paint.results.run_folder import RunFolder
from hf_paint.results.selection import DEFAULT_RULE, DEFAULT_TOLERANCE, Sides, mean_score, penalised_score
from hf_paint.tasks.registry import get_tasks
from hf_paint.tasks.task import Task
from hf_paint.training.training_args import PaintTrainingArguments


Strategy = Literal["single", "joint", "sequential", "parallel"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """The alphas of a run and the rule that chooses one of them.

    By default, this is the alpha with the highest patching accuracy among those that lose at most one point of
    supported accuracy. The rule compares validation accuracies with those of alpha 0, so it needs supported tasks.
    `entropy` looks at no labels, but at the predictions on the validation images of the same tasks.

    Attributes:
        alphas: Alphas to evaluate, stored in their canonical form and without duplicates.
        selection: Selection rule (see `AlphaCurve.select`).
        tolerance: Loss of supported accuracy that `supported_within` allows, as a fraction: 0.01 is one point.
        baseline: Supported accuracy to measure this loss from; by default, the accuracy at alpha 0.
    """

    alphas: Sequence[float]
    selection: Selection = DEFAULT_RULE
    tolerance: float = DEFAULT_TOLERANCE
    baseline: Fraction | None = None

    def __post_init__(self) -> None:
        given = [self.alphas] if isinstance(self.alphas, (SupportsFloat, str)) else self.alphas
        object.__setattr__(self, "alphas", tuple(dict.fromkeys(map(canonical_alpha, given))))

    def choose(self, curve: AlphaCurve) -> Alpha | None:
        """Return the alpha that the rule chooses, or None if `selection` is `none`."""
        if self.selection == "none":
            return None
        return curve.select(self.selection, tolerance=self.tolerance, baseline=self.baseline)

    def score_of(self, curve: AlphaCurve, alpha: Alpha) -> float:
        """Return the score that a search maximises for one alpha of a curve, which also has alpha 0."""
        if self.selection == "entropy":
            return -mean_entropy(curve, alpha)
        return self.score(curve.sides(alpha), curve.sides(0.0))

    def score(self, side: Sides, side_0: Sides) -> float:
        """Return the score of two accuracies: the selection rule, with a penalty instead of its limit.

        Args:
            side: Mean accuracies of the weights to score.
            side_0: Mean accuracies at alpha 0.
        """
        return (
            mean_score(side) if self.selection == "mean" else penalised_score(side, side_0, tolerance=self.tolerance)
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Settings:
    """What a run is asked to do.

    Attributes:
        strategy: Patching strategy; each step of a `sequential` run is a `single` run.
        args: Training arguments; `output_dir` is the run folder.
        patching_tasks: Tasks to improve.
        supported_tasks: Tasks whose accuracy must be preserved.
        rule: Alphas and the rule that chooses one of them.
        options: Other options.
        method: Method, parsed from the options.
    """

    strategy: Strategy
    args: PaintTrainingArguments
    patching_tasks: Sequence[Task]
    supported_tasks: Sequence[Task]
    rule: Rule
    options: PatchOptions
    method: Method

    @property
    def searches(self) -> bool:
        """Whether the run searches for one coefficient per task."""
        return self.strategy == "parallel" and self.method.takes == "one"

    @property
    def has_budget(self) -> bool:
        """Whether the run searches for coefficients or for a merge, within `search_budget` evaluations."""
        return self.searches or self.method.tries

    @property
    def chooses(self) -> bool:
        """Whether the run chooses an alpha, and so saves a patched model with a card."""
        return self.rule.selection != "none" or self.method.chooses

    @property
    def trained_tasks(self) -> Sequence[Task]:
        """Tasks that the run fine-tunes models on; empty if every model is already fine-tuned."""
        options = self.options
        if self.strategy == "parallel":
            return [task for task in self.patching_tasks if task.name not in options.thetas]
        return self.patching_tasks if options.ingredients or not options.thetas else []

    @property
    def num_models(self) -> int:
        """Number of fine-tuned models, trained or given, that the method turns into theta_1."""
        if self.strategy == "parallel":
            return len(self.patching_tasks)
        return len(ingredient_arguments(self.args, self.options.ingredients)) + len(self.options.thetas) or 1

    @property
    def tasks_to_read(self) -> Sequence[Task]:
        """Tasks whose training images the run reads, to train on them or because its method measures something."""
        return self.patching_tasks if self.method.needs_train else self.trained_tasks

    @property
    def replayed_tasks(self) -> Sequence[Task]:
        """Tasks whose training images are mixed into those of every training."""
        return get_tasks(self.options.replay_tasks)


@dataclass(frozen=True, kw_only=True, eq=False)
class Recipe(Settings):
    """All settings that determine the result of a run.

    Attributes:
        base: Base model.
        num_processes: Number of processes that share a training batch: the current ones, or those with which the run
            was started.
        step: Task name, if this is a step of sequential patching.
    """

    base: Base
    num_processes: int = 1
    step: str | None = None

    @property
    def folder(self) -> RunFolder:
        """The run folder. A step writes `step.yaml` instead of `recipe.yaml`, because it cannot be run alone."""
        name = RECIPE if self.step is None else STEP_RECIPE
        return RunFolder(str(self.args.output_dir), write=is_main_process(self.args), recipe_name=name)

    @property
    def save_dtype(self) -> torch.dtype:
        """Dtype of the saved models."""
        dtype: torch.dtype = getattr(torch, self.options.save_dtype) if self.options.save_dtype else self.base.dtype
        return dtype

    @cached_property
    def pinned_thetas(self) -> dict[str, str]:
        """The `thetas` pinned to their commits, which are looked up only once."""
        return {name: pinned(theta, find_tower(theta)) for name, theta in self.options.thetas.items()}

    def to_dict(self) -> dict[str, object]:
        """Return the contents of `recipe.yaml`, omitting keys without a value."""
        options = self.options
        keys: dict[str, object] = {
            "model": self.base.name,
            "model_revision": options.model_revision,
            "strategy": self.strategy if self.step is None else None,
            "patching_tasks": _references(self.patching_tasks),
            "supported_tasks": _references(self.supported_tasks),
            "transfer_tasks": _references(get_tasks(options.transfer_tasks)),
            "shift_tasks": _references(get_tasks(options.shift_tasks)),
            "replay_tasks": _references(self.replayed_tasks),
            "alphas": self.rule.alphas,
            "selection": self.rule.selection,
            "tolerance": self.rule.tolerance,
            "method": self.method.to_recipe() if self.method.name != "interpolate" else None,
            "ingredients": options.ingredients,
            "thetas": self.pinned_thetas,
            "extrapolate": options.extrapolate or None,
            "save_variants": options.save_variants,
            "save_dtype": options.save_dtype,
            "base_model_id": options.base_model_id,
            "precision": options.precision,
            "max_eval_images": options.max_eval_images,
            "sweep": options.sweep,
            "verify": options.verify,
            "baseline": options.baseline,
            "compare_ensemble": options.compare_ensemble,
            "num_examples": options.num_examples,
            "base_fingerprint": self.base.fingerprint,
            "num_orders": options.num_orders if options.num_orders != 1 else None,
            "merge": options.merge if options.merge != "sequential" else None,
            "search": options.search if self.searches else None,
            "search_budget": options.search_budget if self.has_budget else None,
            "step": self.step,
        }
        values = {key: plain(value) for key, value in keys.items()}
        return {key: value for key, value in values.items() if value not in (None, [], {})} | self.args.given()


def _references(tasks: Sequence[Task]) -> list[str | Mapping[str, object]]:
    """Return built-in tasks by name and others by definition, so that editing a task file changes the recipe."""
    return [task.name if task.source == task.name else task.to_dict() for task in tasks]
