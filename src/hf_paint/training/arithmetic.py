"""What is said about the arithmetic of a training."""

from transformers.utils.import_utils import is_torch_tf32_available

from hf_paint.errors import inform_once
from hf_paint.training.training_args import PaintTrainingArguments


def say_tf32(args: PaintTrainingArguments) -> None:
    """Say once that this GPU would train several times as fast with less exact products, if it would."""
    exact = not (args.bf16 or args.fp16 or args.tf32)
    if args.device.type == "cuda" and exact and is_torch_tf32_available():
        inform_once(
            "Training in float32, with exact products. On this GPU, `bf16: true` or `tf32: true` is several times as "
            "fast and rounds the inputs of products."
        )
