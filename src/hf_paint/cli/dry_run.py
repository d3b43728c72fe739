"""`hf-paint patch --dry_run`: print what a run is about to do."""

import os
import shlex
import sys
from collections.abc import Iterator, Sequence

from hf_paint.cli.tables import print_table
from hf_paint.data.images import CachedImages
from hf_paint.errors import RANK
from hf_paint.patching.costs import num_alphas
from hf_paint.patching.method_choice import num_trials, tried_labels
from hf_paint.patching.plan import Plan
from hf_paint.patching.timing import ZeroShot
from hf_paint.results.tables import percent


def print_plan(plan: Plan, flags: Sequence[str]) -> None:
    """Print a plan, and the command that carries it out.

    Args:
        plan: Plan to print.
        flags: Arguments of `hf-paint patch` with which it was made.
    """
    run = plan.run
    parameters = sum(x.numel() for x in run.base.model.parameters()) / 1e6
    tower = sum(x.numel() for x in run.base.theta_0.values()) / 1e6
    _print(
        f"Model: {run.base.name} ({run.base.model.config.model_type}, {parameters:.1f} million parameters, of which "
        f"{tower:.1f} in the image tower)"
    )
    print_table(_tasks(plan))
    for line in (*_training(plan), *_evaluation(plan), *_costs(plan)):
        _print(line)
    for line in plan.progress:
        _print(f"Reused: {line}")
    for line in plan.concerns:
        _print(f"Warning: {line}")
    _print(f"Nothing was trained or written. To start the run:\n  {_command(flags)}")


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def _tasks(plan: Plan) -> list[list[str]]:
    rows = [["task", "role", "train", "validation", "test", "classes", "zero-shot accuracy", "prompts"]]
    for task, zero_shot in zip(plan.run.tasks, plan.zero_shot, strict=True):
        train = plan.train.get(task.task.name)
        rows.append(
            [
                task.task.name,
                task.role,
                "-" if train is None else "a stream" if train.task.streaming else str(len(train.rows)),
                *(_number(task.images.get(split)) for split in ("validation", "test")),
                str(len(task.class_names)),
                _accuracy(zero_shot),
                " | ".join(task.task.templates[:2]) + " | ..." * (len(task.task.templates) > 2),
            ]
        )
    return rows


def _number(images: CachedImages | None) -> str:
    """Return the number of images to evaluate and, of a sample, of those that it is drawn from."""
    if images is None:
        return "-"
    return f"{len(images)} of {images.drawn_from}" if images.drawn_from else str(len(images))


def _accuracy(sample: ZeroShot) -> str:
    """Return the accuracy on a sample or on a whole split, with its interval."""
    low, high = sample.interval
    accuracy = percent(sample.correct / sample.total, digits=1)
    bounds = f"{percent(low, digits=1)} to {percent(high, digits=1)}"
    images = f"all {sample.total}" if sample.total == sample.num_images else f"{sample.total} of {sample.num_images}"
    return f"{accuracy} ({bounds}) on {images} {sample.split} images"


def _training(plan: Plan) -> Iterator[str]:
    if not plan.trainings:
        yield "Training: none; every model is given in `thetas`"
    lines = []
    for training in plan.trainings:
        passes = ", ".join(f"{_round(number)} epochs of {name}" for name, number in training.epochs.items())
        length = f"{training.steps} steps of up to {training.images} images ({passes or 'a stream'})"
        replayed = [name for name in training.epochs if name not in training.tasks]
        mixed = f", mixed with {', '.join(replayed)}" if replayed else ""
        lines.append(f"Training on {', '.join(training.tasks)}{mixed}: {length}")
    yield from dict.fromkeys(lines)
    if len(plan.trainings) > 1:
        yield f"Models to fine-tune: {len(plan.trainings)}"


def _round(number: float) -> str:
    """Return a number with three digits, or more if it is a thousand or above: 0.123, 2.5 and 2000."""
    return f"{number:.3g}" if number < 1000 else f"{number:.0f}"


def _evaluation(plan: Plan) -> Iterator[str]:
    run = plan.run
    per_alpha = sum(len(images) for task in run.tasks for images in task.images.values())
    what = "combinations of coefficients" if run.recipe.searches else "alphas"
    most = "at most " if run.options.sweep == "adaptive" else ""
    total = f"{most}{plan.num_images} images in all"
    trials = num_trials(run.recipe)
    if trials:
        yield f"Choosing the method: {trials} models on the validation images: {', '.join(tried_labels(run.recipe))}"
    if plan.method.num_images:
        yield f"Method {run.method.name}: {plan.method.num_images} images to measure before the evaluation"
    if run.tasks_alone:
        yield f"Single models: {len(run.tasks_alone)}, each on the test images of its own task"
    yield f"Evaluation: {num_alphas(run)} {what}, {per_alpha} images for all splits; {total}"


def _costs(plan: Plan) -> Iterator[str]:
    training = "nothing to train"
    if plan.seconds_per_step:
        training = f"training {_time(plan.training_seconds)} ({plan.seconds_per_step:.2g} s per step, "
        training += f"measured on {plan.timed_steps} steps)"
    elif plan.training_seconds:
        training = f"training the head {_time(plan.training_seconds)}"
    evaluation = f"evaluation {_time(plan.evaluation_seconds)}"
    if plan.method_seconds:
        training += f", what {plan.run.method.name} measures {_time(plan.method_seconds)}"
    opening = f"opening the data {_time(plan.opening_seconds)}"
    total = plan.opening_seconds + plan.training_seconds + plan.method_seconds + plan.evaluation_seconds
    timed = sum(sample.total for sample in plan.zero_shot)
    yield (
        f"Expected time from the start: {_time(total)}: {opening}, {training}, {evaluation} "
        f"({_round(plan.images_per_second)} images/s, measured on {timed} images)"
    )
    parts = ", ".join(f"{name} {_size(size)}" for name, size in plan.disk.items())
    yield f"Expected disk space: {_size(sum(plan.disk.values()))}: {parts}"


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _size(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.1f} MB"


def _command(flags: Sequence[str]) -> str:
    if any(name in os.environ for name in RANK):
        return "the same launch command without --dry_run"
    return shlex.join(["hf-paint", "patch", *flags])
