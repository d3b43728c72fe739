"""Opening a patched model, a patch, a LoRA adapter or any CLIP model for the demo."""

from pathlib import Path

from hf_paint.adapters.changes import open_change
from hf_paint.adapters.lora_extraction import adapted_weights
from hf_paint.adapters.lora_files import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    base_fingerprint_of,
    base_of_adapter,
    check_linear,
    read_adapter_config,
)
from hf_paint.adapters.patch_config import PATCH_CONFIG, read_patch_config
from hf_paint.documents.reading import Json
from hf_paint.errors import InputError, JobError
from hf_paint.merging.interpolation import Weights
from hf_paint.merging.path import Line
from hf_paint.models.card_file import base_of, facts_of, read_card_metadata
from hf_paint.models.classifier import ClassificationHead, has_head
from hf_paint.models.loading import load_clip
from hf_paint.models.stored import StoredTower
from hf_paint.models.task_file import TaskClasses, read_tasks
from hf_paint.report.subject import Base, Knob, Subject, sliders
from hf_paint.repositories import fetch, folder_of, split_revision
from hf_paint.results.alphas import alpha_from_json, format_alpha, variant_name
from hf_paint.results.curve_metadata import curve_from_metadata
from hf_paint.weights.headers import HEAD_WEIGHT, WEIGHTS


def open_model(name: str, base: str | None = None) -> Subject:
    """Open a model, and the model that it was made from.

    The sliders of a patch or a LoRA adapter lead from its base to the whole change. A patched model on the Hub has its
    ends in the branches `alpha-0.00` and `alpha-1.00`; with one of them missing, and in a folder, the slider leads
    from the base that its card names to the model itself. A model of which no base is known has no slider.

    Args:
        name: Folder, Hub repository id or `id@revision`.
        base: Model before patching; by default, the one that the model or its card names.

    Raises:
        InputError: If the model or its base cannot be loaded, or the base is another one.
    """
    if fetch(name, PATCH_CONFIG, optional=True):
        return _of_patch(name, base)
    if config := fetch(name, ADAPTER_CONFIG, optional=True):
        return _of_adapter(name, config.parent, base)
    card = _card(name)
    tasks, facts = read_tasks(name), facts_of(card)
    branches = _branches(name, facts)
    origin = base or branches.get(0.0) or base_of(card)
    if origin is None or not (base or facts):  # any card may name a base, but only ours says which weights changed
        return _alone(name, tasks)
    return _of_patched(name, _load(origin), branches.get(1.0), facts, tasks)


def _load(name: str) -> Base:
    model, processor, _ = load_clip(name)
    return Base(name=name, model=model, processor=processor, head=_head(name))


def _head(name: str) -> ClassificationHead | None:
    return ClassificationHead.load(name) if has_head(name) else None


def _alone(name: str, tasks: list[TaskClasses]) -> Subject:
    return Subject(
        title=name,
        text=f"{name} as it is. Name the model that it was made from as --base to compare them.",
        live=_load(name).live(None, tasks),
        knobs=[],
        tasks=tasks,
    )


def _of_patch(name: str, base: str | None) -> Subject:
    change, alpha = open_change(name, 1.0), read_patch_config(name).alpha
    loaded = _origin(name, base, change.base_model_id, change.base_revision)
    loaded.check(change.base_fingerprint, f"'{name}'")
    theta_0, names = loaded.theta_0, change.tensors.shapes
    theta_1 = {n: x + change.tensors.difference(n, x) if n in names else x for n, x in theta_0.items()}
    return _whole_change(name, loaded, theta_1, 1.0 if alpha is None else alpha)


def _of_adapter(name: str, folder: Path, base: str | None) -> Subject:
    fetch(name, ADAPTER_WEIGHTS)
    config = read_adapter_config(folder)
    check_linear(config, name)
    loaded = _origin(name, base, *base_of_adapter(config))
    loaded.check(base_fingerprint_of(folder), f"'{name}'")
    return _whole_change(name, loaded, adapted_weights(loaded.theta_0, folder), 1.0)


def _origin(name: str, base: str | None, named: str | None, revision: str | None) -> Base:
    """Load the base of a patch or an adapter: the given one, or the one that it names, at its revision."""
    if base is None and named is None:
        raise InputError(f"'{name}' does not name the model that it belongs to. Pass --base.")
    return _load(base or (f"{named}@{revision}" if revision else str(named)))


def _whole_change(name: str, base: Base, theta_1: Weights, alpha: float) -> Subject:
    path, tasks = Line(base.theta_0, theta_1), read_tasks(name)
    return Subject(
        title=name,
        text=f"From {base.name} (alpha 0) to the same with all of the change (alpha 1).",
        live=base.live(path, tasks),
        knobs=sliders(path, alpha, None),
        tasks=tasks,
    )


def _of_patched(name: str, base: Base, theta_1: str | None, facts: Json, tasks: list[TaskClasses]) -> Subject:
    """Open a patched model, whose theta_1 is a branch or unknown."""
    base.check(facts.get("base_fingerprint"), f"'{name}'")
    alpha = alpha_from_json(facts.get("alpha", 1.0))
    curve = curve_from_metadata(facts["curve"]) if "curve" in facts else None
    if theta_1 is not None:
        path = Line(base.theta_0, _read(theta_1, base))
        knobs, text = sliders(path, alpha, curve), f"From {base.name} (alpha 0) to the fine-tuned model (alpha 1)."
    else:  # the line through both models, of which only the part between them is known
        high = alpha if isinstance(alpha, float) and alpha > 0 else 1.0
        path = _through(base.theta_0, _read(name, base), high)
        knobs = [Knob(label="alpha", task=None, low=0.0, high=high, start=high)]
        text = f"From {base.name} (alpha 0) to {name} (alpha {format_alpha(high)})."
    return Subject(title=name, text=text, live=base.live(path, tasks), knobs=knobs, tasks=tasks, curve=curve)


def _through(theta_0: Weights, theta: Weights, alpha: float) -> Line:
    """Return the line from theta_0 on which `theta` lies at an alpha."""
    return Line(theta_0, {n: theta[n] if alpha == 1 else x + (theta[n] - x) / alpha for n, x in theta_0.items()})


def _read(name: str, base: Base) -> Weights:
    weights = dict(StoredTower(folder_of(name, ["config.json", *WEIGHTS]), base.theta_0))
    head = _head(name) if base.head is not None else None
    return weights if head is None else weights | {HEAD_WEIGHT: head.weight.data}


def _card(name: str) -> Json:
    path = fetch(name, "README.md", optional=True)
    return {} if path is None else read_card_metadata(path)


def _branches(name: str, facts: Json) -> dict[float, str]:
    """Return the branches of a Hub repository that have the models at both ends of its path."""
    if not facts or Path(name).expanduser().is_dir():
        return {}
    repo_id, found = split_revision(name)[0], {}
    for alpha in (0.0, 1.0):
        branch = f"{repo_id}@{variant_name(alpha)}"
        try:
            if fetch(branch, "config.json", optional=True):
                found[alpha] = branch
        except (InputError, JobError):  # not every repository has every branch
            continue
    return found
