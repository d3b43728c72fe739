"""What a run costs, counted from its recipe: steps, images to evaluate and bytes on disk."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hf_paint.data.joint_images import images_per_epoch, replayed_per_epoch
from hf_paint.data.pixel_cache import default_cache_dir
from hf_paint.data.splits import Split
from hf_paint.data.transforms import PixelTransform
from hf_paint.evaluation.prepared_task import num_images
from hf_paint.evaluation.sweep import sorted_alphas
from hf_paint.patching.ingredients import ingredient_arguments
from hf_paint.patching.method_choice import num_trials
from hf_paint.patching.recipe import Recipe
from hf_paint.patching.run import PatchRun
from hf_paint.training.augmenting import make_train_images
from hf_paint.training.batch_size import images_per_step
from hf_paint.training.training_args import PaintTrainingArguments


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """One fine-tuning of a run.

    Attributes:
        tasks: Names of the tasks that are trained together.
        args: Training arguments.
        steps: Number of optimizer steps.
        images: Number of images in a step, over all processes.
        epochs: Task -> how often each of its images is seen, replayed tasks last; empty for a stream.
    """

    tasks: tuple[str, ...]
    args: PaintTrainingArguments
    steps: int
    images: int
    epochs: Mapping[str, float]


def trainings_of(recipe: Recipe, train: Mapping[str, Split]) -> list[Training]:
    """Return every fine-tuning of a run, in order.

    Args:
        recipe: Recipe of the run.
        train: Task -> train split.
    """
    names = [task.name for task in recipe.trained_tasks]
    if not names:
        return []
    if recipe.strategy in ("sequential", "parallel"):
        return [_training(recipe, train, [name], recipe.args) for name in names] * recipe.options.num_orders
    several = ingredient_arguments(recipe.args, recipe.options.ingredients).values()
    return [_training(recipe, train, names, args) for args in several or [recipe.args]]


def _training(
    recipe: Recipe, train: Mapping[str, Split], names: Sequence[str], args: PaintTrainingArguments
) -> Training:
    images = images_per_step(args, recipe.num_processes)
    sizes = {name: len(train[name].rows) for name in names if not train[name].task.streaming}
    replayed = {task.name: len(train[task.name].rows) for task in recipe.replayed_tasks}
    again = replayed_per_epoch(sum(sizes.values()), len(replayed), args.replay_share)
    total = sum(sizes.values()) + sum(again)
    steps = int(args.max_steps or 0)
    if steps <= 0:  # `check_stream` requires max_steps for a stream
        steps = math.ceil((args.num_train_epochs or 0.0) * _steps_per_epoch(args, total, images))
    shares, passes = dict[str, int](), 0.0
    if sizes:
        drawn = images_per_epoch([*sizes.values()], args.task_sampling, temperature=args.sampling_temperature)
        sizes |= replayed
        shares = dict(zip(sizes, [*drawn, *again], strict=True))
        passes = _passes(steps, _steps_per_epoch(args, total, images), images, total)
    epochs = {name: passes * shares[name] / size for name, size in sizes.items()}
    return Training(tasks=tuple(names), args=args, steps=steps, images=images, epochs=epochs)


def _steps_per_epoch(args: PaintTrainingArguments, total: int, images: int) -> int:
    """Return the number of steps of an epoch; the last one may have fewer images than the others, or be left out."""
    return max(1, total // images if args.dataloader_drop_last else math.ceil(total / images))


def _passes(steps: int, per_epoch: int, images: int, total: int) -> float:
    """Return how many times the images of an epoch are seen."""
    complete, begun = divmod(steps, per_epoch)
    return (complete * min(total, per_epoch * images) + begun * images) / total


def num_alphas(run: PatchRun) -> int:
    """Return how many alphas a sweep evaluates, or how many combinations a search of several tasks does."""
    if run.recipe.searches and len(run.recipe.patching_tasks) > 1:
        return run.options.search_budget + 1
    return len(sorted_alphas(run.rule.alphas, extrapolate=run.options.extrapolate))


def images_to_evaluate(run: PatchRun) -> int:
    """Return how many images a run passes through the image tower to evaluate it, beside what its method measures."""
    alphas, everything = num_alphas(run), num_images(run.tasks)
    validation, alone = num_images(run.tasks, "validation"), num_images(run.tasks_alone, "test")
    if run.recipe.searches:
        return alphas * validation + 2 * num_images(run.tasks, "test") + alone
    if run.recipe.strategy != "sequential":
        ensemble = 2 * everything if run.options.compare_ensemble else 0
        return alphas * everything + ensemble + num_trials(run.recipe) * validation + alone
    names = [task.name for task in run.recipe.patching_tasks]
    supported = [task for task in run.tasks if task.role == "supported"]
    patching = {task.task.name: task for task in run.tasks if task.role == "patching"}
    steps = [
        num_images([*supported, *(patching[name] for name in names[:number])], "validation")
        for number in range(1, len(names))
    ]
    last = num_images([*supported, *patching.values()])
    return (alphas * (sum(steps) + last) + (len(names) + 1) * everything) * run.options.num_orders


def bytes_on_disk(run: PatchRun, trainings: Sequence[Training], train: Mapping[str, Split]) -> dict[str, int]:
    """Return what a run writes -> bytes. Pixels and pictures are in the cache, everything else in the run folder.

    Args:
        run: The run.
        trainings: Its trainings.
        train: Task -> train split.
    """
    recipe, num_parameters = run.recipe, sum(x.numel() for x in run.base.model.parameters())
    saved = num_parameters * recipe.save_dtype.itemsize
    checkpoint = 4 * num_parameters + 8 * sum(x.numel() for x in run.base.theta_0.values())  # Adam keeps two moments
    sizes = {
        "theta_1": 4 * num_parameters * (len(trainings) + _num_merged(recipe)),
        "checkpoints": 0 if recipe.args.use_peft else checkpoint * sum(map(_num_checkpoints, trainings)),
        "patched": saved * recipe.options.num_orders if recipe.chooses else 0,
        "patched in each step": 4 * num_parameters * len(trainings) if recipe.strategy == "sequential" else 0,
        "variants": saved * num_alphas(run) if run.options.save_variants else 0,
        "pictures to train on, in the cache": sum(_pictures_kept(run, trainings, train).values()),
        "pixel cache": sum(images.pixels.nbytes for task in run.tasks for images in task.images.values()),
    }
    return {name: size for name, size in sizes.items() if size}


def _num_merged(recipe: Recipe) -> int:
    """Return how many models a run merges from others and saves."""
    options = recipe.options
    if recipe.strategy == "sequential":
        steps = len(recipe.patching_tasks) - 1 if options.merge == "projection" else 0
        return steps * options.num_orders
    if recipe.strategy == "parallel":
        return int(not recipe.searches)
    return int(bool(recipe.method.merges or options.ingredients or options.thetas))


def _pictures_kept(run: PatchRun, trainings: Sequence[Training], train: Mapping[str, Split]) -> dict[str, int]:
    """Return task -> bytes of the pictures that its trainings decode into the cache."""
    transform, cache_dir = PixelTransform(run.recipe.base.processor), default_cache_dir()
    sizes: dict[str, int] = {}
    for training in trainings:
        if training.args.augmentation == "none" or training.args.freeze_tower:
            continue
        for split in (train[name] for name in training.epochs):
            pictures = make_train_images(split, transform, training.args, cache_dir=cache_dir).pictures
            if pictures.cache_dir is not None:
                sizes[split.task.name] = pictures.num_bytes
    return sizes


def _num_checkpoints(training: Training) -> int:
    """Return how many checkpoints a training keeps."""
    args = training.args
    if args.save_strategy == "no":
        return 0
    every = args.save_steps if args.save_steps >= 1 else args.save_steps * training.steps
    written = math.ceil(training.steps / max(1, every))
    if args.save_strategy == "epoch":
        written = math.ceil(max(training.epochs.values(), default=1))
    return min(written, args.save_total_limit or written)
