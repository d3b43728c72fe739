"""`PaintTrainer`, `HeadTrainer` and their training arguments."""

from hf_paint.training.head_trainer import HeadTrainer
from hf_paint.training.trainer import PaintTrainer
from hf_paint.training.training_args import PaintTrainingArguments


__all__ = ["HeadTrainer", "PaintTrainer", "PaintTrainingArguments"]
