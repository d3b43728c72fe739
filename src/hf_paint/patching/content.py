"""What a run reads, as fingerprints: a run folder is only valid for this content (see `Identity`)."""

import json
from collections.abc import Iterator, Mapping

from transformers import PreTrainedTokenizerBase

from hf_paint.data.content import fingerprint_content
from hf_paint.data.splits import load_splits
from hf_paint.data.transforms import PixelTransform
from hf_paint.fingerprints import fingerprint_values, fingerprint_weights
from hf_paint.models.stored import StoredTower, find_tower
from hf_paint.patching.base import Base
from hf_paint.patching.recipe import Recipe
from hf_paint.tasks.registry import get_tasks
from hf_paint.tasks.task import Task


IRRELEVANT_SETTINGS = ("_name_or_path", "architectures", "dtype", "transformers_version")
"""Settings in a model's config that do not affect its outputs."""


def content_of(recipe: Recipe) -> dict[str, str]:
    """Return what a run reads -> fingerprint: the base model, the splits of all tasks, and `thetas`.

    Heads are covered by the base model, and by the class names and prompts in the splits. Their own fingerprints would
    also depend on the machine that computes them.
    """
    content = dict(_model(recipe.base))
    roles = [
        *((task, _patching_splits(recipe, task)) for task in recipe.patching_tasks),
        *((task, ("validation", "test")) for task in recipe.supported_tasks),
        *((task, ("test",)) for task in get_tasks([*recipe.options.transfer_tasks, *recipe.options.shift_tasks])),
    ]
    for task, names in roles:
        for name, split in load_splits(task, names).items():
            content[f"the {name} split of task '{task.name}'"] = fingerprint_content(split)
    for name, model in recipe.options.thetas.items():
        weights = StoredTower(find_tower(model), recipe.base.theta_0)
        content[f"the model '{name}' in `thetas`"] = fingerprint_weights(weights)
    return content


def _patching_splits(recipe: Recipe, task: Task) -> tuple[str, ...]:
    return ("train", "validation", "test") if task in recipe.trained_tasks else ("validation", "test")


def _model(base: Base) -> Iterator[tuple[str, str]]:
    """Yield the parts of the base model with their fingerprints; nothing depends on how or where it is stored."""
    transform, tokenizer = PixelTransform(base.processor), base.processor.tokenizer
    pixels = (transform.size, transform.crop_size, int(transform.resample), transform.scale)
    yield "the base model", fingerprint_weights(base.model.state_dict())
    yield "the config of the base model", fingerprint_values(_relevant(base.model.config.to_diff_dict()))
    yield "the image processor", fingerprint_values(*pixels, transform.mean.tolist(), transform.std.tolist())
    yield "the tokenizer", fingerprint_values(_token_rules(tokenizer), tokenizer.model_max_length)


def _token_rules(tokenizer: PreTrainedTokenizerBase) -> object:
    """Return all that a tokenizer does, without the padding and truncation that its last call has left in it."""
    if not tokenizer.is_fast:
        return tokenizer.get_vocab()
    rules: dict[str, object] = json.loads(tokenizer.backend_tokenizer.to_str())
    return {key: value for key, value in rules.items() if key not in ("padding", "truncation")}


def _relevant(config: Mapping[str, object]) -> dict[str, object]:
    return {
        key: _relevant(value) if isinstance(value, Mapping) else value
        for key, value in config.items()
        if key not in IRRELEVANT_SETTINGS
    }
