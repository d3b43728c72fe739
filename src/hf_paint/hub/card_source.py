"""The content of a model card: the results, selection and recipe of a run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from hf_paint.errors import InputError, JobError
from hf_paint.fingerprints import fingerprint_values
from hf_paint.merging.base import Method
from hf_paint.merging.registry import read_method
from hf_paint.models.card_file import read_card_metadata
from hf_paint.models.families import FAMILIES, Family
from hf_paint.repositories import fetch
from hf_paint.results.alphas import Alpha, alpha_from_json, canonical, format_alpha
from hf_paint.results.curve import AlphaCurve
from hf_paint.results.public_recipe import public_thetas
from hf_paint.results.records import ROLES
from hf_paint.results.run_files import example_plot
from hf_paint.results.run_folder import RunFolder
from hf_paint.results.selection import Selection
from hf_paint.results.single_models import read_single_models
from hf_paint.results.stored import CardFacts
from hf_paint.results.tried_methods import read_tried
from hf_paint.tasks.registry import get_task
from hf_paint.tasks.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class CardSource:
    """Content of a model card.

    Attributes:
        curve: Results of the run.
        selection: Contents of `selection.json`.
        recipe: Resolved recipe.
        tasks: Tasks of the run, patching tasks first.
        class_names: Class names of the first patching task.
        base_model_id: Hub repository id of the base; None if the base is not on the Hub.
        base_license: Licence of the base, if known.
        plots: File names of the plots of accuracies next to the card.
        save_dtype: Dtype of the saved model.
        model_type: `model_type` in the model config.
        num_processes: Number of processes that shared a training batch.
        versions: Mapping from package name to the version used in the run.
        robustness: Contents of `robustness.json`; empty for a run without shift tasks.
        coefficients: Contents of `coefficients.json`; empty if no method learned any.
        examples: Mapping from task name to a description of how the images in its example plot were chosen.
        tried: Records of the merges among which `method: auto` chose.
        single_models: Records of the models that a parallel run combined, each on its own task.
        lists_tasks: Whether `tasks.json` is stored with the model, which runs of earlier versions lack.
    """

    curve: AlphaCurve
    selection: Selection
    recipe: Mapping[str, Any]
    tasks: Sequence[Task]
    class_names: Sequence[str]
    base_model_id: str | None = None
    base_license: str | None = None
    plots: Sequence[str] = ()
    save_dtype: str = "float32"
    model_type: str = "clip"
    num_processes: int = 1
    versions: Mapping[str, str] = field(default_factory=dict)
    robustness: Mapping[str, Any] = field(default_factory=dict)
    coefficients: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    examples: Mapping[str, str] = field(default_factory=dict)
    lists_tasks: bool = False
    tried: AlphaCurve | None = None
    single_models: AlphaCurve | None = None

    @classmethod
    def from_run(cls, folder: RunFolder, *, base_model_id: str | None = None) -> Self:
        """Read the content for the cards of a run from its folder.

        Args:
            folder: Run folder.
            base_model_id: Hub repository id of the base, if the run started from a folder.

        Raises:
            InputError: If the run is not finished, or no alpha was selected.
        """
        selection, facts = folder.load_selection(), folder.load_card_facts()
        if selection is None or facts is None:
            raise InputError(
                f"{folder.path} is not a finished run with a selected alpha: it has no {folder.selection.name} or no "
                f"{folder.card_facts.name}. Finish it with `hf-paint patch` and a `selection` other than `none`."
            )
        recipe = folder.load_recipe()
        known = {name: value for name, value in facts.items() if name in CardFacts.__annotations__}
        if base_model_id is not None:
            known["base_model_id"] = base_model_id
        tasks = [get_task(task) for role in ROLES for task in recipe.get(f"{role}_tasks", [])]
        curve = AlphaCurve.from_run(folder.path)
        notes = facts.get("examples", {})
        stored: dict[str, Any] = {
            **known,  # runs of earlier versions have more keys
            "examples": {task: note for task, note in notes.items() if (folder.path / example_plot(task)).exists()},
            "robustness": folder.load_robustness() or {},
            "coefficients": folder.load_coefficients(),
            "lists_tasks": folder.tasks.exists(),
            "tried": read_tried(folder.path),
            "single_models": read_single_models(folder.path, curve),
            "plots": [path.name for path in folder.measured_plots if path.exists()],
        }
        return cls(curve=curve, selection=selection, recipe=recipe, tasks=tasks, **stored)

    @property
    def split(self) -> str:
        """Split whose accuracies the card shows."""
        return str(self.selection["reported_on"])

    @property
    def selected(self) -> Alpha:
        """Selected alpha."""
        return alpha_from_json(self.selection["alpha"])

    @property
    def strategy(self) -> str:
        """Strategy of the run."""
        return str(self.recipe.get("strategy", "single"))

    @property
    def method(self) -> Method:
        """Method of the run."""
        return read_method(self.recipe.get("method", "interpolate"))

    @property
    def family(self) -> Family:
        """Model family."""
        return FAMILIES[self.model_type]

    @property
    def trains_head(self) -> bool:
        """Whether a classification head was trained together with the image tower."""
        return bool(self.recipe.get("train_head"))

    @property
    def thetas(self) -> dict[str, str | None]:
        """Models that this run did not train, with their Hub repository ids, or None for a folder."""
        return public_thetas(self.recipe)

    def fingerprint(self, alpha: Alpha) -> str:
        """Return the fingerprint of the model at an alpha, from its float32 image tower and its saved dtype."""
        return fingerprint_values(self.measured(alpha), self.save_dtype)

    def measured(self, alpha: Alpha) -> str:
        """Return the fingerprint of the float32 image tower that was evaluated at an alpha."""
        weights = {result.weights for result in self.curve.results if result.alpha == canonical(alpha)}
        if len(weights) != 1:
            raise InputError(f"Alpha {format_alpha(alpha)} was not evaluated in this run.")
        return weights.pop()

    @property
    def replay_tasks(self) -> list[Task]:
        """Tasks whose train images were mixed into every training."""
        return [get_task(task) for task in self.recipe.get("replay_tasks", [])]

    @property
    def patching_tasks(self) -> Sequence[Task]:
        """Patching tasks of the run, in their order."""
        return self.tasks[: len(self.recipe.get("patching_tasks", []))]


def license_of(base: str) -> str | None:
    """Return the licence in a model's card, or None if there is no card or it does not state a licence."""
    try:
        card = fetch(base, "README.md")
        license_name = card and read_card_metadata(card).get("license")
    except (InputError, JobError):
        return None
    return license_name if isinstance(license_name, str) and license_name else None
