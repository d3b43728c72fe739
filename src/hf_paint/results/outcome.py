"""The outcome of a run: what the chosen alpha gained and lost on each task, and what another rule would choose."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Self

from hf_paint.errors import InputError
from hf_paint.results.alphas import Alpha, alpha_from_json, is_unpatched
from hf_paint.results.alternatives import Alternative, alternative_of, labelled_among
from hf_paint.results.changes import Change, changes_of, mean_loss
from hf_paint.results.curve import AlphaCurve
from hf_paint.results.records import Role
from hf_paint.results.run_folder import RunFolder
from hf_paint.results.selection import DEFAULT_TOLERANCE, Selection


SPLITS = ("test", "validation")
"""Splits to report accuracies on, the best first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The outcome of a run. `results/outcome_text.py` puts it into words.

    Attributes:
        alpha: Chosen alpha, or None if none was chosen.
        rule: Rule that chose it: `mean`, `supported_within`, `entropy`, `none` for the method itself, or `by hand`.
        tolerance: Loss of supported accuracy that `supported_within` allows, as a fraction of 1.
        strategy: Patching strategy.
        method: Name of the method.
        changes: Tasks with records at alpha 0 and at the chosen alpha, each on test images if there are any.
        on_validation: The same on validation images, for the tasks that take part in the choice.
        candidates: Alphas that the rule chose from.
        improvable: Whether any other candidate has a higher patching accuracy than alpha 0, on validation images.
        alternative: What another rule would choose, if that is known and different.

    Example:
        >>> args = PaintTrainingArguments(output_dir=tmp_path, max_steps=2, warmup_steps=1, use_cpu=True)
        >>> result = patch_single(model_folder, task, [other_task], args, alphas=[0.0, 1.0], selection="mean")
        >>> Outcome.from_run(tmp_path).alpha == result.alpha
        True
    """

    alpha: Alpha | None
    rule: str
    tolerance: float = DEFAULT_TOLERANCE
    strategy: str = "single"
    method: str = "interpolate"
    changes: Sequence[Change] = ()
    on_validation: Sequence[Change] = ()
    candidates: Sequence[Alpha] = ()
    improvable: bool = False
    alternative: Alternative | None = None

    @classmethod
    def from_run(cls, folder: str | Path) -> Self:
        """Read the outcome of a finished run from its folder.

        Raises:
            InputError: If the folder contains no run, or the run has not chosen an alpha yet.
        """
        run = RunFolder(folder)
        recipe, selection = run.load_recipe(), run.load_selection()
        if selection is None and recipe.get("selection") != "none":
            raise InputError(f"{folder} contains a run that is not finished. Run the same `hf-paint patch` again.")
        return cls.of(AlphaCurve.from_run(folder), selection, recipe)

    @classmethod
    def of(cls, curve: AlphaCurve, selection: Selection | None, recipe: Mapping[str, object]) -> Self:
        """Return the outcome of a choice.

        Args:
            curve: Results of the run.
            selection: Contents of `selection.json`, or None if no alpha was chosen.
            recipe: Recipe of the run.
        """
        strategy, method = str(recipe.get("strategy", "single")), recipe.get("method", "interpolate")
        name = str(next(iter(method)) if isinstance(method, Mapping) else method)
        if selection is None:
            return cls(alpha=None, rule="none", strategy=strategy, method=name, candidates=curve.alphas)
        alpha = alpha_from_json(selection["alpha"])
        candidates = curve.points("validation")
        sided = labelled_among(curve, candidates)
        return cls(
            alpha=alpha,
            rule=selection["rule"],
            tolerance=selection["tolerance"],
            strategy=strategy,
            method=name,
            changes=list(changes_of(curve, alpha, SPLITS)),
            on_validation=list(changes_of(sided, alpha, ("validation",))),
            candidates=candidates,
            improvable=_is_improvable(sided),
            alternative=None if strategy == "sequential" else alternative_of(sided, selection, recipe),
        )

    @property
    def is_unpatched(self) -> bool:
        """Whether the chosen model is the base itself."""
        return self.alpha is not None and is_unpatched(self.alpha)

    @property
    def supported_loss(self) -> Fraction | None:
        """Loss of the mean supported accuracy on validation images, as a fraction of 1; None without records."""
        return mean_loss([change for change in self.on_validation if change.role == "supported"])

    def named(self, role: Role) -> list[str]:
        """Return the names of the tasks in a role that took part in the choice."""
        return [change.task for change in self.on_validation if change.role == role]


def _is_improvable(curve: AlphaCurve) -> bool:
    if "validation" not in curve.splits("patching"):
        return False
    accuracies = {alpha: curve.mean_accuracy(alpha, "patching", "validation") for alpha in curve.alphas}
    return any(accuracy > accuracies.get(0.0, 1) for accuracy in accuracies.values())
