"""Check that the weights to be published are those that the records of a run were measured on."""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import torch

from hf_paint.errors import InputError, JobError
from hf_paint.hub.card_source import CardSource
from hf_paint.hub.pull import card_metadata
from hf_paint.merging.interpolation import Weights
from hf_paint.merging.path import Span, WeightPath
from hf_paint.merging.recorded import existing, lacks_base, read_tower, recorded_path
from hf_paint.models.content import WEIGHTS as BASE_WEIGHTS, changed_parts
from hf_paint.models.loading import load_clip
from hf_paint.models.stored import LazyWeights, StoredTower
from hf_paint.repositories import folder_of
from hf_paint.results.alphas import Alpha, alpha_phrase
from hf_paint.results.identity import Identity
from hf_paint.results.run_folder import RunFolder
from hf_paint.weights.folders import COMPANIONS
from hf_paint.weights.headers import HEAD_WEIGHT, WEIGHTS
from hf_paint.weights.layers import IMAGE_TOWER
from hf_paint.weights.manifest import MANIFEST, check_whole


def find_base(source: CardSource, run: RunFolder) -> Path:
    """Return the folder of the base, downloading it if it is on the Hub.

    Raises:
        InputError: If the base is missing, or has changed since the run.
    """
    model, revision = str(source.recipe["model"]), str(source.recipe.get("model_revision", "main"))
    if lacks_base(source.recipe):
        raise InputError(f"Pushing needs the files of the base, but {model} is missing.")
    try:
        folder = folder_of(model, [*COMPANIONS, *WEIGHTS], revision, failure=JobError)
    except InputError as error:  # the recipe was valid when the run began
        raise JobError(str(error)) from error
    if StoredTower(folder).fingerprint != source.recipe["base_fingerprint"]:
        raise InputError(f"The image tower of the base {model} has changed since the run.")
    identity = Identity.load(run)
    changed = [] if identity is None else changed_parts(folder, identity.content)
    if source.versions.get("transformers") != version("transformers"):  # which describes the same files in another way
        changed = [part for part in changed if part == BASE_WEIGHTS]
    if changed:
        raise InputError(f"Since the run in {run.path}, {', '.join(changed)} has changed: {model}. Restore it.")
    return folder


def is_patched_at(alpha: Alpha, source: CardSource, run: RunFolder) -> bool:
    """Return whether `patched/` is the model at an alpha; after a killed run, it may be an earlier one.

    Without a manifest, as in runs of earlier versions, nothing says that its weights are those that were saved.

    Raises:
        InputError: If it is damaged.
    """
    patched = run.patched
    card = patched / "README.md"
    if alpha != source.selected or not card.is_file() or not (patched / MANIFEST).is_file():
        return False
    try:
        if card_metadata(patched).get("weights") != source.fingerprint(alpha):
            return False
    except InputError as error:
        raise InputError(f"{card} is damaged. Run the same `hf-paint patch` again, which makes it.") from error
    check_whole(patched)
    return True


def theta_0_of(run: RunFolder, base_folder: Path) -> Path:
    """Return the folder of theta_0: the base, or `theta_0` of a run that trained a head."""
    if not run.theta_0.exists():
        return base_folder
    _check_frozen(base_folder, run.theta_0)
    return run.theta_0


def measured_path(source: CardSource, run: RunFolder, base_folder: Path, alphas: Sequence[Alpha]) -> WeightPath:
    """Return the path of a finished run, after checking that its weights at some alphas are those that were measured.

    Raises:
        InputError: If the weights at an alpha are others, or a fine-tuned model that they need is missing.
    """
    at_base = all(alpha == 0 for alpha in alphas)
    path = Span(read_tower(base_folder, {}), {}) if at_base else _path(source, run, base_folder)
    for alpha in alphas:
        if path.fingerprint(alpha) != source.measured(alpha):
            raise InputError(
                f"The weights at {alpha_phrase(alpha)} are not those that this run evaluated, so they are not "
                f"published: the base ({source.recipe['model']}) or a fine-tuned model of the run has changed, or its "
                "records have. Restore them, or run `hf-paint patch` in another folder."
            )
    return path


def _path(source: CardSource, run: RunFolder, base_folder: Path) -> WeightPath:
    """Return the path of a finished run from theta_0, with the trained head if there is one.

    Raises:
        InputError: If a fine-tuned model is missing, or one of this run differs from the base outside of its image
            tower.
    """
    theta_0 = read_tower(base_folder, {})

    def read(folder: Path) -> Weights:
        """Return the weights of a model; one of this run must equal the base outside of its image tower."""
        if existing(folder, "Pushing").is_relative_to(run.path):  # not one that `thetas` names
            _check_frozen(base_folder, folder)
        return read_tower(folder, theta_0)

    return recorded_path(run, source.recipe, theta_0, read)


def _frozen(weights: Weights) -> set[str]:
    floats = weights.floats if isinstance(weights, LazyWeights) else weights
    return {name for name in floats if not name.startswith((*IMAGE_TOWER, HEAD_WEIGHT))}


def _check_frozen(base_folder: Path, folder: Path) -> None:
    """Check that a model equals the base outside of its image tower and head."""
    base: Weights = LazyWeights(base_folder)
    model: Weights = LazyWeights(folder)
    if _frozen(base) != _frozen(model):  # the file may hold tensors that transformers does not read, or renames
        model, base = (load_clip(x)[0].state_dict() for x in (folder, base_folder))
    for name in sorted(_frozen(base)):
        if not torch.equal(base[name].float(), model[name].float()):
            raise InputError(
                f"{folder} differs from the base in '{name}', which no run changes: one of them is damaged. "
                f"Restore it, or remove {folder} and run the recipe again."
            )
