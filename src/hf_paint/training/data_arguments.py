"""Training arguments that say how images are drawn, augmented and fed to the device."""

from dataclasses import dataclass, field
from typing import Self

import torch
from transformers import TrainingArguments

from hf_paint.data.joint_images import TaskSampling
from hf_paint.data.transforms import Augmentation, AugmentationDevice


@dataclass
class DataArguments(TrainingArguments):
    """The part of `PaintTrainingArguments` that is about images.

    Attributes:
        chooses_workers: Whether a trainer chooses the number of workers, because none was given.
        whole: Arguments of the whole training, if these are those of a few of its steps.
    """

    augmentation: Augmentation = field(
        default="paint",
        metadata={"help": "`paint` (random crops of at least nine tenths of the image, without flips) or `none`."},
    )
    augmentation_device: AugmentationDevice = field(
        default="auto",
        metadata={
            "help": "Where crops are resized: `cpu` (one by one with Pillow), `cuda` (in batches on the training "
            "device, whatever its kind) or `auto` (`cuda` if that is a GPU and the pictures fit into the cache)."
        },
    )
    task_sampling: TaskSampling = field(
        default="proportional",
        metadata={
            "help": "How to sample from several tasks: `proportional` to their number of images, `uniform` or by "
            "`temperature`."
        },
    )
    sampling_temperature: float = field(
        default=2.0,
        metadata={"help": "With task_sampling `temperature`: n images have weight n ** (1 / sampling_temperature)."},
    )
    dataloader_num_workers: int | None = field(  # type: ignore[assignment]
        default=None,
        metadata={
            "help": "Number of worker processes that decode training images; default: chosen from the cores of the "
            "process if the training is long enough."
        },
    )

    def __post_init__(self) -> None:
        self.whole: Self | None = None
        self.chooses_workers: bool = self.dataloader_num_workers is None
        if self.dataloader_num_workers is None:
            self.dataloader_num_workers = 0
        super().__post_init__()  # type: ignore[no-untyped-call]

    @property
    def device(self) -> torch.device:
        """The device of this process; a CPU has no index, with which torch cannot load checkpoints."""
        device = super().device
        return torch.device("cpu") if device.type == "cpu" else device
