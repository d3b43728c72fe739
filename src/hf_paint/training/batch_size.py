"""The number of images in a training step, which does not depend on how many processes resume a run; and in a run."""

from hf_paint.errors import InputError
from hf_paint.training.training_args import PaintTrainingArguments


def images_per_step(args: PaintTrainingArguments, num_processes: int) -> int:
    """Return the number of images that processes with these arguments train on in one step."""
    return num_processes * args.per_device_train_batch_size * args.gradient_accumulation_steps


def images_of_run(args: PaintTrainingArguments, num_images: int) -> float:
    """Return on how many images all processes train with these arguments, given the number of images of an epoch."""
    args = args.whole or args
    if (args.max_steps or 0) > 0:
        return float((args.max_steps or 0) * images_per_step(args, args.world_size))
    return num_images * (args.num_train_epochs or 0.0)


def describe_step(args: PaintTrainingArguments, num_processes: int) -> str:
    """Describe the number of images in a step.

    Example:
        >>> describe_step(PaintTrainingArguments(output_dir=tmp_path, use_cpu=True), 2)
        '256 images (2 processes x per_device_train_batch_size 128 x gradient_accumulation_steps 1)'
    """
    total, accumulated = f"{images_per_step(args, num_processes)} images", args.gradient_accumulation_steps
    if num_processes == accumulated == 1:
        return total
    processes = "1 process" if num_processes == 1 else f"{num_processes} processes"
    return (
        f"{total} ({processes} x per_device_train_batch_size "
        f"{args.per_device_train_batch_size} x gradient_accumulation_steps {accumulated})"
    )


def keep_batch_size(args: PaintTrainingArguments, num_processes: int) -> PaintTrainingArguments:
    """Return arguments with which the current processes take steps of as many images as `num_processes` processes.

    The micro-batch of a process stays the same if possible, and never grows; the rest is accumulated. Training then
    gives the same weights, because the images of a step do not depend on how they are spread (see `BaseTrainer`).

    Args:
        args: Training arguments.
        num_processes: Number of processes that the run was started with.

    Raises:
        InputError: If the images of a step cannot be shared equally by the current processes.
    """
    if args.world_size == num_processes:
        return args
    share, rest = divmod(images_per_step(args, num_processes), args.world_size)
    largest = min(args.per_device_train_batch_size, share)
    size = next((n for n in range(largest, 0, -1) if share % n == 0), 0)
    # a checkpoint stores the size found by `auto_find_batch_size`, which replaces that of the arguments
    if rest or (args.auto_find_batch_size and size != args.per_device_train_batch_size):
        raise InputError(
            f"This run was started with {describe_step(args, num_processes)} in each training step, which cannot be "
            f"kept when {args.world_size} processes share them. Resume it with as many processes as before, or choose "
            "another output_dir."
        )
    return args.with_changes(per_device_train_batch_size=size, gradient_accumulation_steps=share // size)
