"""What a model consists of, as fingerprints that do not depend on how or where it is stored."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedTokenizerBase, ProcessorMixin

from hf_paint.data.transforms import PixelTransform
from hf_paint.errors import InputError, one_line
from hf_paint.fingerprints import fingerprint_values, fingerprint_weights
from hf_paint.models.families import find_family
from hf_paint.models.loading import load_clip
from hf_paint.models.pretrained import from_pretrained
from hf_paint.models.stored import LazyWeights


WEIGHTS = "the base model"
IRRELEVANT_SETTINGS = ("_name_or_path", "architectures", "dtype", "transformers_version")
"""Settings in a model's config that do not affect its outputs."""


def base_content(weights: Mapping[str, Tensor], config: PreTrainedConfig, processor: ProcessorMixin) -> dict[str, str]:
    """Return the parts of a base model -> fingerprint.

    Args:
        weights: Weights of both towers in float32, named as in the model's `state_dict`.
        config: Config of the model.
        processor: Processor of the model.
    """
    return {WEIGHTS: fingerprint_weights(weights), **dict(_companions(config, processor))}


def changed_parts(folder: Path, content: Mapping[str, str]) -> list[str]:
    """Return which parts of the base model in a folder differ from those in the content that a run has read.

    The weights are read one tensor at a time.

    Raises:
        InputError: If the model cannot be read.
    """
    try:
        config = from_pretrained("AutoConfig", folder)
        processor = from_pretrained(find_family(config, str(folder)).processor, folder)
    except InputError:
        raise
    except Exception as error:  # a damaged file raises many types of errors
        raise InputError(f"The model in {folder} cannot be read: {one_line(error)}") from error
    found = base_content(_Floats(folder), config, processor)
    changed = [name for name, fingerprint in found.items() if content.get(name, fingerprint) != fingerprint]
    if WEIGHTS in changed:  # transformers may name the tensors in other ways than the file does
        model, _, _ = load_clip(folder)
        if fingerprint_weights(model.state_dict()) == content[WEIGHTS]:
            changed.remove(WEIGHTS)
    return changed


class _Floats(Mapping[str, Tensor]):
    """The floating-point tensors of a model in a folder, as float32."""

    def __init__(self, folder: Path) -> None:
        self._stored = LazyWeights(folder)

    def __getitem__(self, name: str) -> Tensor:
        return self._stored[name].float()

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored.floats)

    def __len__(self) -> int:
        return len(self._stored.floats)


def _companions(config: PreTrainedConfig, processor: ProcessorMixin) -> Iterator[tuple[str, str]]:
    """Yield the parts beside the weights with their fingerprints."""
    transform, tokenizer = PixelTransform(processor), processor.tokenizer
    pixels = (transform.size, transform.crop_size, int(transform.resample), transform.scale)
    yield "the config of the base model", fingerprint_values(_relevant(config.to_diff_dict()))
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
