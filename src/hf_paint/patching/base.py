"""The base model of a run: theta_0, its processor and, with `train_head`, the trained head."""

from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import torch
from transformers import PreTrainedModel, ProcessorMixin

from hf_paint.adapters.lora_files import base_of_adapter
from hf_paint.errors import InputError
from hf_paint.fingerprints import fingerprint_weights
from hf_paint.merging.interpolation import Weights
from hf_paint.merging.recorded import IN_MEMORY
from hf_paint.models.classifier import ClassificationHead, tower_of, weights_of
from hf_paint.models.given import load_given
from hf_paint.models.loading import load_clip, save_clip
from hf_paint.models.stored import StoredTower
from hf_paint.models.towers import ImageTower, move, with_weights
from hf_paint.patching.options import PatchOptions
from hf_paint.repositories import absolute, cached, commit_of, is_repo_id
from hf_paint.weights.headers import HEAD_WEIGHT


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Base:
    """The base model of a run, in float32 on the CPU. The run trains, evaluates and saves copies of it.

    Attributes:
        name: Hub repository id or absolute path.
        revision: Branch, tag or commit on the Hub.
        model: CLIP model.
        processor: Processor of the model.
        dtype: Dtype of the stored weights.
        theta_0: Weights of the image tower and, if it is trained, of the head; they share memory with the modules.
        fingerprint: Fingerprint of the image tower.
        head: Classification head that is trained with the image tower, if any.
    """

    name: str
    revision: str
    model: PreTrainedModel
    processor: ProcessorMixin
    dtype: torch.dtype
    theta_0: Weights
    fingerprint: str
    head: ClassificationHead | None = None

    @classmethod
    def load(cls, model: str | Path | PreTrainedModel, options: PatchOptions) -> Self:
        """Load a model from the Hub or a folder, or copy a model in memory.

        Raises:
            InputError: If the model cannot be read, has no processor, or does not match `options.base_fingerprint`.
        """
        loaded, processor, dtype = _load(model, options)
        theta_0 = weights_of(loaded, None)
        fingerprint = fingerprint_weights(theta_0)
        if options.base_fingerprint not in (None, fingerprint):
            raise InputError(
                f"The base has changed: the fingerprint of its image tower is {fingerprint}, expected "
                f"{options.base_fingerprint}."
            )
        name = model.name_or_path if isinstance(model, PreTrainedModel) else str(model)
        return cls(
            name=absolute(name) if name else f"{IN_MEMORY} ({fingerprint})",
            revision=options.model_revision,
            model=loaded,
            processor=processor,
            dtype=dtype,
            theta_0=theta_0,
            fingerprint=fingerprint,
        )

    def with_head(self, head: ClassificationHead) -> Self:
        """Return this base with a trainable head."""
        return replace(self, head=head, theta_0=weights_of(self.model, head))

    def tower(self) -> ImageTower:
        """Return the image tower, including the head if it is trained, without copying parameters."""
        return tower_of(self.model, self.head)

    def read(self, folder: Path) -> Weights:
        """Return the weights of a saved model, including the head if it is trained."""
        weights = dict(StoredTower(folder))  # memory-maps the files instead of reading them
        return weights if self.head is None else weights | {HEAD_WEIGHT: ClassificationHead.load(folder).weight.data}

    def save(self, folder: Path, weights: Weights, dtype: torch.dtype = torch.float32) -> None:
        """Save the model with new weights, plus the head if it is trained, rounded once to `dtype`."""
        save_clip(with_weights(self.model, weights, dtype), self.processor, folder)
        if self.head is not None:
            with_weights(self.head, {"weight": weights[HEAD_WEIGHT]}, dtype).save(folder, dtype=dtype)

    def on_hub(self, model_id: str | None) -> tuple[str | None, str | None]:
        """Return the Hub repository id and the commit of the base; each is None if unknown.

        Args:
            model_id: Hub repository id of a base that was loaded from a folder.

        Raises:
            InputError: If `model_id` is not a valid repository id.
        """
        if not is_repo_id(self.name):
            return base_of_adapter({}, model_id)
        config = cached(self.name, "config.json", self.revision)
        return self.name, commit_of(config.parent) if config else self.revision


def _load(
    model: str | Path | PreTrainedModel, options: PatchOptions
) -> tuple[PreTrainedModel, ProcessorMixin, torch.dtype]:
    if not isinstance(model, PreTrainedModel):
        return load_clip(model, revision=options.model_revision)
    model, processor = load_given(model, options.processor)
    copied = deepcopy(model)
    move(copied, "cpu", torch.float32)
    return copied.eval(), processor, model.dtype
