"""Runs that train the classification head too (WiSE-FT): which tasks share it, and the steps that train it alone."""

import logging
from collections.abc import Callable, Sequence
from typing import cast

from torch import nn

from hf_paint.errors import InputError
from hf_paint.evaluation.evaluator import Evaluator
from hf_paint.evaluation.prepared_task import PreparedTask
from hf_paint.models.classifier import ClassificationHead, ImageClassifier
from hf_paint.results.run_folder import RunFolder
from hf_paint.training.head_trainer import HeadTrainer
from hf_paint.training.training_args import PaintTrainingArguments, accelerator_for, arguments_for


HEAD_WARMUP = 0.1
"""The share of `head_steps` that warms up."""

logger = logging.getLogger(__name__)


def share_head(tasks: Sequence[PreparedTask]) -> tuple[ClassificationHead, list[PreparedTask]]:
    """Return the head of the patching task, to be trained, and the tasks as they are evaluated with it.

    It is the head of the patching task and of the shift tasks that have its classes, some of them or groups of them;
    every other task keeps its zero-shot head.

    Raises:
        InputError: If a class of the patching task has several names.
    """
    [patching] = [task for task in tasks if task.role == "patching"]
    if patching.task.class_groups is not None:
        raise InputError(
            f"The classes of task '{patching.task.name}' have several names each (`class_groups`); `train_head` "
            "trains one row per class."
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
    """Train the head on the embeddings of the train split: in all steps, in those before the others, or not at all.

    Args:
        classifier: The image tower, which stays as it is, with the head, which is trained in place.
        train_split: Returns the task with its train split.
        args: The training arguments of the run.
        folder: Where checkpoints are kept; those of `head_steps` in a folder of their own.
    """
    if not args.freeze_tower:
        if not args.head_steps or folder.last_checkpoint() is not None:
            return
        folder = folder.head
        rate = args.head_learning_rate or args.learning_rate
        steps = {"max_steps": args.head_steps, "learning_rate": rate, "warmup_steps": HEAD_WARMUP}
        args = arguments_for(args, folder.path, **steps, eval_strategy="no", load_best_model_at_end=False)
    evaluator = Evaluator(accelerator_for(args), batch_size=args.per_device_eval_batch_size)
    image_embeds, labels = evaluator.embed(cast(nn.Module, classifier).eval(), train_split(), "train")
    trainer = HeadTrainer(classifier.head, args, image_embeds=image_embeds, labels=labels)
    trainer.train(resume_from_checkpoint=folder.last_checkpoint())
