"""Training the classification head (WiSE-FT): the tasks that share it, and the steps that train it alone."""

import logging
from collections.abc import Callable, Sequence

from hf_paint.errors import InputError
from hf_paint.evaluation.evaluator import Evaluator
from hf_paint.evaluation.prepared_task import PreparedTask
from hf_paint.models.classifier import ClassificationHead, ImageClassifier
from hf_paint.patching.tracking import own_reports, track_training
from hf_paint.results.run_folder import RunFolder
from hf_paint.training.callbacks import CallbackLike
from hf_paint.training.head_trainer import HeadTrainer
from hf_paint.training.progress import show_one_bar
from hf_paint.training.regularization import weights_in_use
from hf_paint.training.training_args import PaintTrainingArguments


HEAD_WARMUP = 0.1
"""Fraction of `head_steps` used for learning rate warm-up."""

logger: logging.Logger = logging.getLogger(__name__)


def share_head(tasks: Sequence[PreparedTask]) -> tuple[ClassificationHead, list[PreparedTask]]:
    """Return a trainable head for the patching task, and the tasks prepared for evaluation with it.

    A shift task is evaluated with this head if all its classes, or all members of its class groups, are classes of the
    patching task. All other tasks use their zero-shot heads.

    Raises:
        InputError: If a class of the patching task has several names.
    """
    [patching] = [task for task in tasks if task.role == "patching"]
    if patching.task.class_groups is not None:
        raise InputError(
            f"Task '{patching.task.name}' has several names per class (`class_groups`), but `train_head` supports "
            "only one name per class."
        )
    task, names = patching.task, patching.class_names
    head = ClassificationHead.from_zero_shot(patching.head, names, templates=task.templates, task=task.name)
    shared = [task.with_rows_of(names) if task.role in ("patching", "shift") else task for task in tasks]
    for other in shared:
        if other.role == "shift" and other.rows is None:
            logger.warning(
                f"Shift task '{other.task.name}' has classes that '{head.task}' lacks, so its zero-shot head is used."
            )
    return head, shared


def train_head_alone(
    classifier: ImageClassifier,
    train_split: Callable[[], PreparedTask],
    args: PaintTrainingArguments,
    folder: RunFolder,
    *,
    callbacks: Sequence[CallbackLike] = (),
) -> None:
    """Train the head on the embeddings of the train split.

    With `freeze_tower`, all training steps train only the head. With `head_steps`, the head is trained alone for that
    many steps before joint training. If joint training has already begun, its checkpoints contain the head, so this is
    skipped unless `l2_sp` compares with the head that joint training started from. Without either argument, nothing
    is trained.

    Args:
        classifier: Image tower, which is left unchanged, with the head, which is trained in place.
        train_split: Called as `train_split()`; returns the task with its train split.
        args: Training arguments of the run.
        folder: Folder of this fine-tuned model. Checkpoints of `head_steps` go to a subfolder.
        callbacks: Callbacks of the training.
    """
    if not args.freeze_tower:
        has_begun = folder.last_checkpoint(best=args.load_best_model_at_end) is not None
        if not args.head_steps or (has_begun and "l2_sp" not in weights_in_use(args.regularization)):
            return
        folder = folder.head
        rate = args.head_learning_rate or args.learning_rate
        steps = {"max_steps": args.head_steps, "learning_rate": rate, "warmup_steps": HEAD_WARMUP}
        changes = {"output_dir": str(folder.path), "eval_strategy": "no", "load_best_model_at_end": False}
        args = args.with_changes(**steps, **changes)
    evaluator = Evaluator(args.make_accelerator(), batch_size=args.given_eval_batch_size, onednn=args.onednn)
    image_embeds, labels = evaluator.embed(classifier.train(mode=False), train_split(), "train")
    args = args.with_changes(report_to=own_reports(args))
    trainer = HeadTrainer(classifier.head, args, image_embeds=image_embeds, labels=labels, callbacks=callbacks)
    show_one_bar(trainer)
    track_training(trainer)
    trainer.train(resume_from_checkpoint=trainer.last_checkpoint())
