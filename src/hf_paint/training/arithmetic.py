"""The arithmetic of a training: which library computes it on a CPU, and what is said about it on a GPU."""

from typing import Any

from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState
from transformers.utils.import_utils import is_torch_tf32_available

from hf_paint.errors import inform_once
from hf_paint.models.linear_layers import choose_onednn
from hf_paint.training.training_args import PaintTrainingArguments


def say_tf32(args: PaintTrainingArguments) -> None:
    """Say once that this GPU would train several times as fast with less exact products, if it would."""
    exact = not (args.bf16 or args.fp16 or args.tf32)
    if args.device.type == "cuda" and exact and is_torch_tf32_available():
        inform_once(
            "Training in float32, with exact products. On this GPU, `bf16: true` or `tf32: true` is several times as "
            "fast and rounds the inputs of products."
        )


class LinearLayers(TrainerCallback, ExportableState):
    """Lets oneDNN compute the linear layers of a float32 training on a CPU, if it is faster or `onednn` says so.

    Checkpoints record the choice, because a resumed training that rounded products differently would not give the
    weights of an uninterrupted one.

    Args:
        wanted: What the training arguments say; None leaves it to a measurement.

    Attributes:
        onednn: The choice; None before training.
    """

    def __init__(self, wanted: bool | None) -> None:
        self.wanted = wanted
        self.onednn: bool | None = None

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        **kwargs: object,
    ) -> None:
        """Choose, or follow the checkpoint that the training resumes from."""
        wanted, recorded, exact = self.wanted, self._recorded(state), not (args.bf16 or args.fp16)
        if wanted is None and state.global_step:
            wanted = recorded
        self.onednn = model is not None and exact and choose_onednn(model, wanted, args.device)

    def _recorded(self, state: TrainerState) -> bool:
        """Return the choice in a checkpoint. One of an earlier version has none, and was trained without oneDNN."""
        states: Any = state.stateful_callbacks
        stored = states.setdefault(type(self).__name__, {})  # `Trainer` cannot save a state without an entry
        return bool(stored.get("attributes", {}).get("onednn"))

    def state(self) -> dict[str, dict[str, bool | None]]:
        """Return what a checkpoint records, from which `Trainer` can make this callback again."""
        return {"args": {"wanted": self.wanted}, "attributes": {"onednn": self.onednn}}
