"""What a model card is made of: the records of a run, and little else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from huggingface_hub import ModelCard

from hf_paint.errors import InputError
from hf_paint.fingerprints import fingerprint_values
from hf_paint.merging.base import Method
from hf_paint.merging.registry import read_method
from hf_paint.models.families import FAMILIES, Family
from hf_paint.repositories import is_repo_id
from hf_paint.results.alphas import Alpha, alpha_from_json, format_alpha
from hf_paint.results.curve import AlphaCurve
from hf_paint.results.records import ROLES
from hf_paint.results.run_folder import RunFolder
from hf_paint.tasks.registry import get_task
from hf_paint.tasks.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class CardSource:
    """What a card is made of.

    Attributes:
        curve: The records of the run.
        selection: What `selection.json` holds.
        recipe: The resolved recipe.
        tasks: The tasks of the run, patching tasks first.
        class_names: The class names of the first patching task.
        base_model_id: The id of the base on the Hub; None for a base that is on no Hub.
        base_license: The licence of the base, if known.
        plot: The file name of the trade-off plot beside the card; None for none.
        save_dtype: The dtype in which the model is saved.
        model_type: The `model_type` of its config.
        versions: Package -> its version in the run.
        robustness: What `robustness.json` holds; empty for a run without shift tasks.
        examples: Task -> how the images in the plot of its examples were chosen.
    """

    curve: AlphaCurve
    selection: Mapping[str, Any]
    recipe: Mapping[str, Any]
    tasks: Sequence[Task]
    class_names: Sequence[str]
    base_model_id: str | None = None
    base_license: str | None = None
    plot: str | None = None
    save_dtype: str = "float32"
    model_type: str = "clip"
    versions: Mapping[str, str] = field(default_factory=dict)
    robustness: Mapping[str, Any] = field(default_factory=dict)
    examples: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_run(cls, folder: RunFolder, *, base_model_id: str | None = None) -> Self:
        """Read what the cards of a run are made of from its files.

        Args:
            folder: The run folder.
            base_model_id: The id of the base on the Hub, where the recipe does not say it.

        Raises:
            InputError: If the run is not finished, or nothing was chosen.
        """
        selection, facts = folder.load_selection(), folder.load_card_facts()
        if selection is None or facts is None:
            raise InputError(
                f"{folder.path} is not a run that chose an alpha: it has no {folder.selection.name} or "
                f"{folder.card_facts.name}. Finish it with `hf-paint patch`, and a `selection` other than none."
            )
        recipe = folder.load_recipe()
        if base_model_id is not None:
            facts["base_model_id"] = base_model_id
        tasks = [get_task(task) for role in ROLES for task in recipe.get(f"{role}_tasks", [])]
        curve = AlphaCurve.from_run(folder.path)
        if (robustness := folder.load_robustness()) is not None:
            facts["robustness"] = robustness
        return cls(curve=curve, selection=selection, recipe=recipe, tasks=tasks, **facts)

    @property
    def split(self) -> str:
        """The split whose accuracies the card shows."""
        return str(self.selection["reported_on"])

    @property
    def selected(self) -> Alpha:
        """The alpha that was chosen."""
        return alpha_from_json(self.selection["alpha"])

    @property
    def strategy(self) -> str:
        """The strategy of the run."""
        return str(self.recipe.get("strategy", "single"))

    @property
    def method(self) -> Method:
        """The method of the run."""
        return read_method(self.recipe.get("method", "interpolate"))

    @property
    def family(self) -> Family:
        """The family of the model."""
        return FAMILIES[self.model_type]

    @property
    def trains_head(self) -> bool:
        """Whether the classification head was trained too."""
        return bool(self.recipe.get("train_head"))

    @property
    def thetas(self) -> dict[str, str | None]:
        """The models that were not trained in this run, by name: their ids on the Hub; None for one in a folder."""
        given = {name: model.partition("@")[0] for name, model in self.recipe.get("thetas", {}).items()}
        return {name: model if is_repo_id(model) else None for name, model in given.items()}

    def fingerprint(self, alpha: Alpha) -> str:
        """Return the fingerprint of the saved model of an alpha: of its image tower, and of how that was rounded."""
        weights = {result.weights for result in self.curve.results if result.alpha == alpha}
        if len(weights) != 1:
            raise InputError(f"Alpha {format_alpha(alpha)} was not evaluated in this run.")
        return fingerprint_values(*weights, self.save_dtype)


def license_of(base: str) -> str | None:
    """Return the licence in the card of the base, or None where there is no card or it does not say."""
    try:
        readme = Path(base) / "README.md"
        card = ModelCard.load(readme if Path(base).is_dir() else base)
    except (OSError, ValueError):
        return None
    license_name = card.data.get("license")
    return str(license_name) if license_name else None
