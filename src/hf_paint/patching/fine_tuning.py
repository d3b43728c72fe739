"""The fine-tunings of a run."""

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

from accelerate import PartialState

from hf_paint.classifier import ImageClassifier
from hf_paint.lora import merge_lora, save_lora
from hf_paint.patching.adapter import base_of_run
from hf_paint.patching.base import arguments_for, load_base
from hf_paint.patching.run import PatchRun, Weights
from hf_paint.patching.trained_head import train_head_alone
from hf_paint.prepared_task import prepare_task
from hf_paint.run_folder import RunFolder
from hf_paint.sharding import is_sharded
from hf_paint.tasks import Task
from hf_paint.trainer import PaintTrainer
from hf_paint.training_args import PaintTrainingArguments


def fine_tune(
    run: PatchRun, tasks: Sequence[Task], folder: RunFolder | None = None, args: PaintTrainingArguments | None = None
) -> Weights:
    """Return theta_1: train the image tower on tasks, go on where a run stopped, or read what it saved.

    With `train_head` the weights of the head are part of theta_1, and theta_0 is saved with its head too.

    Args:
        run: The run.
        tasks: The tasks; several are trained on jointly.
        folder: Where checkpoints and theta_1 are kept, instead of the folder of the run.
        args: Other training arguments than those of the run.
    """
    folder, args = folder or run.folder, args or run.args
    if folder.theta_1.exists():
        return run.read(folder.theta_1)
    tower = run.tower()
    if run.head is not None:
        folder.save_folder(folder.theta_0, run.save)
        train_split = partial(prepare_task, tasks[0], run.model, run.processor, splits=("train",))
        train_head_alone(cast(ImageClassifier, tower), train_split, args, folder)
    if not args.freeze_tower:
        _train_tower(run, tasks, folder, args)
    folder.save_folder(folder.theta_1, run.save)
    PartialState().wait_for_everyone()
    return run.read(folder.theta_1)


def _train_tower(run: PatchRun, tasks: Sequence[Task], folder: RunFolder, args: PaintTrainingArguments) -> None:
    """Train the image tower, and the head with it where that is trained."""
    watched = [t.task for t in run.tasks if "validation" in t.images] if args.eval_strategy != "no" else []
    trainer = PaintTrainer(
        run.model,
        arguments_for(args, folder.path, head_steps=0),
        train_task=tasks,
        eval_tasks=watched,
        processing_class=run.processor,
        callbacks=run.method.callbacks(),
    )
    trained: Any = trainer.model
    if run.head is not None:
        trained.head.load_state_dict(run.head.state_dict())
    trainer.train(resume_from_checkpoint=folder.last_checkpoint())
    if args.use_peft:
        folder.save_folder(folder.adapter, lambda path: save_lora(trained, path, base_of_run(run)))
        merge_lora(trained)
    elif is_sharded(trainer.accelerator):
        _gather(run, trainer)
    if run.head is not None:
        run.head.load_state_dict(trained.head.state_dict())


def _gather(run: PatchRun, trainer: PaintTrainer) -> None:
    """Give the run a whole model again, on the main process with the weights that the processes shared."""
    accelerator: Any = trainer.accelerator
    weights = accelerator.get_state_dict(trainer.model_wrapped)  # the others get nothing
    run.model = load_base(run.given, run.options)[0]
    run.carry(weights or {})
