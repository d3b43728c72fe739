"""The fine-tunings of a run."""

import logging
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import fields
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, cast

from accelerate import PartialState
from accelerate.utils import release_memory
from torch import nn
from transformers import PreTrainedModel

from hf_paint.adapters.lora import merge_lora, save_lora
from hf_paint.errors import InputError, did_you_mean
from hf_paint.evaluation.prepared_task import prepare_task
from hf_paint.hub.card_metadata import PUBLIC_KEYS
from hf_paint.models.classifier import ClassificationHead, image_classifier, weights_of
from hf_paint.models.stored import StoredTower, find_tower
from hf_paint.models.towers import image_tower_weights, with_weights
from hf_paint.patching.base import Weights
from hf_paint.patching.lora import base_of_run
from hf_paint.patching.measurements import RunBench
from hf_paint.patching.run import PatchRun
from hf_paint.patching.trained_head import train_head_alone
from hf_paint.results.run_folder import RunFolder
from hf_paint.tasks.task import Task
from hf_paint.training.sharding import is_sharded
from hf_paint.training.trainer import PaintTrainer
from hf_paint.training.training_args import PaintTrainingArguments, arguments_for


FINE_TUNED = "fine-tuned"
"""The name of the only fine-tuning, where a method makes theta_1 of it."""

logger = logging.getLogger(__name__)


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


def ingredient_arguments(
    args: PaintTrainingArguments, ingredients: Sequence[Mapping[str, Any]]
) -> dict[str, PaintTrainingArguments]:
    """Return the training arguments of each fine-tuning by its name.

    Args:
        args: The arguments that they share.
        ingredients: Training field -> its value. A list of values stands for one fine-tuning each, several lists for
            all combinations.

    Raises:
        InputError: If a field is unknown or decides nothing about the weights, a value cannot be used, or two
            fine-tunings are the same.
    """
    found: dict[str, PaintTrainingArguments] = {}
    for ingredient in ingredients:
        values = {key: value if isinstance(value, list) else [value] for key, value in _checked(ingredient).items()}
        for combination in product(*values.values()):
            changes = {key: _value(key, value) for key, value in zip(values, combination, strict=True)}
            name = re.sub(r"[^\w.=,-]", "_", ",".join(f"{key}={value}" for key, value in changes.items()))
            made = _arguments(args, changes)
            if twin := next((other for other, theirs in found.items() if other == name or theirs == made), None):
                raise InputError(f"The ingredient '{name}' is the same fine-tuning as '{twin}'.")
            found[name] = made
    return found


def _checked(ingredient: Mapping[str, Any]) -> Mapping[str, Any]:
    known = {f.name for f in fields(PaintTrainingArguments)} & set(PUBLIC_KEYS) - {"train_head"}
    if not isinstance(ingredient, Mapping) or not ingredient:
        raise InputError(f"An ingredient maps training fields to values, such as {{seed: [0, 1]}}; got {ingredient}.")
    for key in ingredient:
        if key not in known:
            raise InputError(
                f"'{key}' is no training field that ingredients differ in.{did_you_mean(str(key), known)}"
            )
    return ingredient


def _value(key: str, value: Any) -> Any:
    """Return a value in the type of the field's default; YAML reads `1e-5` as text."""
    default = next(f.default for f in fields(PaintTrainingArguments) if f.name == key)
    try:
        return float(value) if isinstance(default, float) else value
    except (TypeError, ValueError) as error:
        raise InputError(f"The ingredient's `{key}` must be a number, got {value!r}.") from error


def _arguments(args: PaintTrainingArguments, changes: Mapping[str, Any]) -> PaintTrainingArguments:
    given = args.given() | {"push_to_hub": False, "output_dir": args.output_dir}
    try:
        return PaintTrainingArguments(**given | dict(changes))
    except (TypeError, ValueError) as error:
        raise InputError(f"The ingredient {dict(changes)} cannot be used: {error}") from error


def make_theta_1(run: PatchRun, tasks: Sequence[Task]) -> Weights:
    """Return theta_1 by fine-tuning on tasks, as often as the ingredients say, and by the method of the run."""
    if not (run.method.merges or run.options.ingredients or run.options.thetas):
        return fine_tune(run, tasks)
    if run.folder.theta_1.exists():
        return run.read(run.folder.theta_1)
    folders = {name: find_tower(given) for name, given in run.options.thetas.items()}
    trained = ingredient_arguments(run.args, run.options.ingredients)
    for name, args in (trained or ({} if folders else {FINE_TUNED: run.args})).items():
        logger.info(f"Fine-tuning: {name}")
        fine_tune(run, tasks, run.folder.theta(name), args)
        folders[name] = run.folder.theta(name).theta_1
    return merge(run, folders)


def merge(run: PatchRun, folders: Mapping[str, Path]) -> Weights:
    """Return what the method of the run makes of fine-tuned models; it is made once and kept as theta_1."""
    made = run.folder.theta_1.exists()
    PartialState().wait_for_everyone()  # all look before one of them makes it
    if not made:
        thetas = {name: StoredTower(folder, run.theta_0) for name, folder in folders.items()}
        theta_1 = run.method.merge(run.theta_0, thetas, RunBench(run))
        run.folder.save_folder(run.folder.theta_1, lambda folder: run.save(folder, theta_1))
        PartialState().wait_for_everyone()
    return run.read(run.folder.theta_1)
