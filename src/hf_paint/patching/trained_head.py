"""Training the classification head too (WiSE-FT): the tasks that share it, and the steps that train it alone."""

import logging
from collections.abc import Callable, Sequence

from hf_paint.errors import InputError
from hf_paint.evaluation.evaluator import Evaluator
from hf_paint.evaluation.prepared_task import PreparedTask
from hf_paint.models.classifier import ClassificationHead, ImageClassifier
from hf_paint.results.run_folder import RunFolder
from hf_paint.training.head_trainer import HeadTrainer
from hf_paint.training.training_args import PaintTrainingArguments


HEAD_WARMUP = 0.1
"""The share of `head_steps` for the warm-up of the learning rate."""

logger = logging.getLogger(__name__)


def share_head(tasks: Sequence[PreparedTask]) -> tuple[ClassificationHead, list[PreparedTask]]:
    """Return the head of the patching task, for training, and the tasks for evaluation.

    Shift tasks share this head if all their classes, or the members of their groups, are classes of the patching task.
    All other tasks keep their zero-shot heads.

    Raises:
        InputError: If a class of the patching task has several names.
    """
    [patching] = [task for task in tasks if task.role == "patching"]
    if patching.task.class_groups is not None:
        raise InputError(
            f"Task '{patching.task.name}' has several names per class (`class_groups`), but `train_head` trains one "
            "row per class."
        )
    task, names = patching.task, patching.class_names
    head = ClassificationHead.from_zero_shot(patching.head, names, templates=task.templates, task=task.name)
    shared = [task.with_rows_of(names) if task.role in ("patching", "shift") else task for task in tasks]
    for other in shared:
        if other.role == "shift" and other.rows is None:
            logger.warning(
                f"Shift task '{other.task.name}' has classes that '{head.task}' lacks: it keeps its zero-shot head."
            )
    return head, shared


def train_head_alone(
    classifier: ImageClassifier,
    train_split: Callable[[], PreparedTask],
    args: PaintTrainingArguments,
    folder: RunFolder,
) -> None:
    """Train the head on the embeddings of the train split.

    With `freeze_tower`, all training steps train only the head. With `head_steps`, these steps come before the steps
    that also train the image tower, unless the latter have already begun. Otherwise nothing is trained.

    Args:
        classifier: The image tower, which is not changed, with the head, which is trained in place.
        train_split: Returns the task with its train split.
        args: The training arguments of the run.
        folder: The folder of the fine-tuning. The checkpoints of `head_steps` go to a subfolder.
    """
    if not args.freeze_tower:
        if not args.head_steps or folder.last_checkpoint() is not None:
            return
        folder = folder.head
        rate = args.head_learning_rate or args.learning_rate
        steps = {"max_steps": args.head_steps, "learning_rate": rate, "warmup_steps": HEAD_WARMUP}
        changes = {"output_dir": str(folder.path), "eval_strategy": "no", "load_best_model_at_end": False}
        args = args.with_changes(**steps, **changes)
    evaluator = Evaluator(args.make_accelerator(), batch_size=args.per_device_eval_batch_size)
    image_embeds, labels = evaluator.embed(classifier.train(mode=False), train_split(), "train")
    trainer = HeadTrainer(classifier.head, args, image_embeds=image_embeds, labels=labels)
    trainer.train(resume_from_checkpoint=folder.last_checkpoint())
