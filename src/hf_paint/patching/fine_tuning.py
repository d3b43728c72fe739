"""Computing theta_1: fine-tune one model, or merge several fine-tuned models."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

from accelerate.utils import release_memory
from transformers import PreTrainedModel

from hf_paint.adapters.lora import merge_lora, save_lora
from hf_paint.evaluation.prepared_task import prepare_task
from hf_paint.files import remove_any
from hf_paint.fingerprints import fingerprint_weights
from hf_paint.merging.interpolation import Weights
from hf_paint.models.classifier import ClassificationHead, image_classifier, weights_of
from hf_paint.models.stored import StoredTower, find_tower
from hf_paint.models.towers import image_tower_weights, move, with_weights
from hf_paint.patching.base import Base
from hf_paint.patching.ingredients import ingredient_arguments
from hf_paint.patching.measurements import RunMeasurements
from hf_paint.patching.processes import make_once
from hf_paint.patching.run import PatchRun
from hf_paint.patching.stages import count
from hf_paint.patching.tracking import own_reports, track_training
from hf_paint.patching.trained_head import train_head_alone
from hf_paint.results.identity import bind
from hf_paint.results.progress import begin_stage
from hf_paint.results.run_folder import RunFolder
from hf_paint.tasks.task import Task
from hf_paint.training.batch_size import describe_step, keep_batch_size
from hf_paint.training.callbacks import CallbackLike
from hf_paint.training.progress import show_one_bar
from hf_paint.training.sharding import is_sharded
from hf_paint.training.trainer import PaintTrainer
from hf_paint.training.training_args import PaintTrainingArguments
from hf_paint.weights.compatibility import check_compatible


ONLY_THETA = "fine-tuned"
"""Name of the fine-tuned model when a merging method gets only one."""


def make_theta_1(run: PatchRun, tasks: Sequence[Task]) -> Weights:
    """Return theta_1 for the tasks: one fine-tuned model, or the merged `ingredients` and `thetas` of the run."""
    make_once(run.folder.theta_1, partial(_make_theta_1, run, tasks))
    return bound_theta_1(run, run.folder)


def bound_theta_1(run: PatchRun, folder: RunFolder) -> Weights:
    """Read the theta_1 of a run or of one of its fine-tuned models, after binding the run to it.

    Raises:
        InputError: If theta_1 does not fit the base, or the run has records or scores of another theta_1.
    """
    theta_1 = run.base.read(folder.theta_1)
    check_compatible(run.base.theta_0, theta_1)
    bind(run.folder, folder.theta_1.relative_to(run.folder.path).as_posix(), fingerprint_weights(theta_1))
    return theta_1


def _make_theta_1(run: PatchRun, tasks: Sequence[Task]) -> None:
    options = run.options
    if not (run.method.merges or options.ingredients or options.thetas):
        return fine_tune(run, tasks, run.folder, run.args)
    folders = {name: find_tower(theta) for name, theta in options.thetas.items()}
    trainings = ingredient_arguments(run.args, options.ingredients)
    if not (folders or trainings):
        trainings = {ONLY_THETA: run.args}
    for name, args in trainings.items():
        folder = run.folder.theta(name)
        fine_tune(run, tasks, folder, args)
        bound_theta_1(run, folder)
        folders[name] = folder.theta_1
    return merge(run, folders)


def merge(run: PatchRun, folders: Mapping[str, Path]) -> None:
    """Merge fine-tuned models with the method of the run and save theta_1, unless it exists.

    Args:
        run: Patching run.
        folders: Mapping from name to the folder of each fine-tuned model.
    """

    def save() -> None:
        begin_stage("merge", f"{count(len(folders), 'model')}, {run.method.name}")
        theta_0 = run.base.theta_0
        thetas = {name: StoredTower(folder, theta_0) for name, folder in folders.items()}
        theta_1 = run.method.merge(theta_0, thetas, RunMeasurements(run))
        run.folder.save_folder(run.folder.theta_1, lambda folder: run.base.save(folder, theta_1))

    make_once(run.folder.theta_1, save)
    if run.folder.write:
        remove_any(run.folder.grams)  # gigabytes, which only an interrupted merge would read again


def fine_tune(run: PatchRun, tasks: Sequence[Task], folder: RunFolder, args: PaintTrainingArguments) -> None:
    """Fine-tune on tasks and save theta_1 unless it exists, resuming from the last checkpoint if there is one.

    Each step has as many images as when the run was started, whatever the number of processes is now. With
    `train_head`, theta_0 is saved too, together with the initial head.

    Args:
        run: Patching run.
        tasks: Tasks to train on; several tasks are trained jointly.
        folder: Folder for the checkpoints and theta_1.
        args: Training arguments.
    """

    def save() -> None:
        kept = keep_batch_size(args, run.recipe.num_processes)
        what = ", ".join(task.name for task in tasks) if folder.path == run.folder.path else folder.path.name
        begin_stage("train", f"{what}, {describe_step(kept, kept.world_size)} per step")
        weights = _train(run, tasks, folder, kept)
        folder.save_folder(folder.theta_1, lambda path: run.base.save(path, weights))
        release_memory()  # reference cycles keep the trainer's gradients and optimizer alive

    make_once(folder.theta_1, save)


def _train(run: PatchRun, tasks: Sequence[Task], folder: RunFolder, args: PaintTrainingArguments) -> Weights:
    """Train a copy of the model and return its weights; sharded weights are returned on the main process only."""
    base = run.base
    model, head = trained_copy(base)
    if head is not None:
        folder.save_folder(folder.theta_0, lambda path: base.save(path, base.theta_0))
        classifier = image_classifier(model, head)
        move(classifier, args.device)
        train_split = partial(prepare_task, tasks[0], model, base.processor, splits=("train",))
        train_head_alone(classifier, train_split, args, folder, callbacks=run.options.callbacks)
    if args.freeze_tower:
        return weights_of(model, head)
    return _train_tower(run, model, head, tasks=tasks, folder=folder, args=args)


def trained_copy(base: Base) -> tuple[PreTrainedModel, ClassificationHead | None]:
    """Return a copy of the base model, whose image tower can be trained, and a copy of its head if it has one."""
    model = with_weights(base.model, {name: x.clone() for name, x in image_tower_weights(base.model).items()})
    return model, deepcopy(base.head)


def make_trainer(
    run: PatchRun,
    model: PreTrainedModel,
    head: ClassificationHead | None,
    *,
    tasks: Sequence[Task],
    args: PaintTrainingArguments,
    callbacks: Sequence[CallbackLike],
) -> PaintTrainer:
    """Return a trainer for the image tower of a model, together with the head if one is given."""
    args = args.with_changes(report_to=own_reports(args))
    evaluated = [t for t in run.tasks if "validation" in t.images] if args.eval_strategy != "no" else []
    trainer = PaintTrainer(
        model,
        args,
        train_task=tasks,
        replay_tasks=run.recipe.replayed_tasks,
        eval_tasks=evaluated,
        processing_class=run.base.processor,
        callbacks=callbacks,
    )
    if head is not None:
        tower: Any = trainer.model
        tower.head.load_state_dict(head.state_dict())
    show_one_bar(trainer)
    track_training(trainer)
    return trainer


def _train_tower(
    run: PatchRun,
    model: PreTrainedModel,
    head: ClassificationHead | None,
    *,
    tasks: Sequence[Task],
    folder: RunFolder,
    args: PaintTrainingArguments,
) -> Weights:
    """Train the image tower of a model, together with the head if one is given."""
    changed = args.with_changes(output_dir=str(folder.path), head_steps=0)
    callbacks = [*run.method.callbacks(), *run.options.callbacks]
    trainer = make_trainer(run, model, head, tasks=tasks, args=changed, callbacks=callbacks)
    tower: Any = trainer.model
    trainer.train(resume_from_checkpoint=trainer.last_checkpoint())
    if args.use_peft:
        base = run.base.on_hub(run.options.base_model_id)
        folder.save_folder(folder.adapter, lambda path: save_lora(tower, path, base, run.base.fingerprint))
        merge_lora(tower)
    elif is_sharded(trainer.accelerator):
        gathered: Weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)
        return gathered
    return weights_of(model, None if head is None else tower.head)
