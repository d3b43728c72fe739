"""Training arguments that keep what a model knew while it learns a task."""

from dataclasses import dataclass, field

from hf_paint.training.data_arguments import DataArguments
from hf_paint.training.regularization import read_weights


@dataclass
class KeepingArguments(DataArguments):
    """The part of `PaintTrainingArguments` that protects what the model knew."""

    regularization: dict[str, float] | str | None = field(
        default=None,
        metadata={
            "help": "Penalties in the loss, with their weights: {ldifs: 10} for changed features of the training "
            "images, {l2_sp: 0.01} for changed weights, or both."
        },
    )

    replay_share: float = field(
        default=0.25,
        metadata={"help": "With replay_tasks: their share of the images of an epoch, drawn at random."},
    )

    def __setattr__(self, name: str, value: object) -> None:
        """Set a field; `regularization` is read, whatever its form."""
        super().__setattr__(name, read_weights(value) if name == "regularization" else value)
