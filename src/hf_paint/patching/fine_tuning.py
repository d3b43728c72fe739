"""The fine-tunings of a run."""

from collections.abc import Sequence
from copy import deepcopy
from functools import partial
from typing import Any, cast

from accelerate import PartialState
from accelerate.utils import release_memory
from torch import nn
from transformers import PreTrainedModel

from hf_paint.adapters.lora import merge_lora, save_lora
from hf_paint.evaluation.prepared_task import prepare_task
from hf_paint.models.classifier import ClassificationHead, image_classifier, weights_of
from hf_paint.models.towers import image_tower_weights, with_weights
from hf_paint.patching.adapter import base_of_run
from hf_paint.patching.base import arguments_for
from hf_paint.patching.run import PatchRun, Weights
from hf_paint.patching.trained_head import train_head_alone
from hf_paint.results.run_folder import RunFolder
from hf_paint.sharding import is_sharded
from hf_paint.tasks.task import Task
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
    if not folder.theta_1.exists():
        weights = _train(run, tasks, folder, args)
        folder.save_folder(folder.theta_1, lambda path: run.save(path, weights))
        PartialState().wait_for_everyone()
        release_memory()  # a trainer is full of cycles, and holds gradients and optimizer
    return run.read(folder.theta_1)


def _train(run: PatchRun, tasks: Sequence[Task], folder: RunFolder, args: PaintTrainingArguments) -> Weights:
    """Return the weights of a copy of the model that is trained; of sharded ones only the main process gets any."""
    model = with_weights(run.model, {name: x.clone() for name, x in image_tower_weights(run.model).items()})
    head = deepcopy(run.head)
    if head is not None:
        folder.save_folder(folder.theta_0, lambda path: run.save(path, run.theta_0))
        classifier = image_classifier(model, head)
        cast(nn.Module, classifier).to(args.device)
        train_split = partial(prepare_task, tasks[0], model, run.processor, splits=("train",))
        train_head_alone(classifier, train_split, args, folder)
    if args.freeze_tower:
        return weights_of(model, head)
    return _train_tower(run, model, head, tasks=tasks, folder=folder, args=args)


def _train_tower(
    run: PatchRun,
    model: PreTrainedModel,
    head: ClassificationHead | None,
    *,
    tasks: Sequence[Task],
    folder: RunFolder,
    args: PaintTrainingArguments,
) -> Weights:
    """Train the image tower of a model, and the head with it where that is trained."""
    watched = [t.task for t in run.tasks if "validation" in t.images] if args.eval_strategy != "no" else []
    trainer = PaintTrainer(
        model,
        arguments_for(args, folder.path, head_steps=0),
        train_task=tasks,
        eval_tasks=watched,
        processing_class=run.processor,
        callbacks=run.method.callbacks(),
    )
    trained: Any = trainer.model
    if head is not None:
        trained.head.load_state_dict(head.state_dict())
    trainer.train(resume_from_checkpoint=folder.last_checkpoint())
    if args.use_peft:
        folder.save_folder(folder.adapter, lambda path: save_lora(trained, path, base_of_run(run)))
        merge_lora(trained)
    elif is_sharded(trainer.accelerator):
        accelerator: Any = trainer.accelerator
        return cast(Weights, accelerator.get_state_dict(trainer.model_wrapped))
    return weights_of(model, trained.head if head is not None else None)
