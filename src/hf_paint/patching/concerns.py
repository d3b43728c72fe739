"""What to know about a run before it starts: doubtful data, and settings that are valid but seldom what was meant."""

from collections.abc import Iterator, Mapping, Sequence

import torch

from hf_paint.data.samples import sample_splits
from hf_paint.data.splits import Split, load_splits
from hf_paint.data.summary import summarize_splits
from hf_paint.errors import warn_once
from hf_paint.patching.costs import Training, trainings_of
from hf_paint.patching.recipe import Recipe
from hf_paint.patching.run import PatchRun
from hf_paint.patching.timing import ZeroShot
from hf_paint.report.live_tower import multiplies_faster
from hf_paint.results.tables import in_points


MANY_EPOCHS = 100
"""PAINT trains for up to 75 epochs (its smallest data set, DTD, for 2000 steps of 128 images)."""


def train_splits(recipe: Recipe) -> dict[str, Split]:
    """Return task -> train split, for every task whose train split a run reads."""
    read = {task.name: task for task in (*recipe.trained_tasks, *recipe.tasks_to_read, *recipe.replayed_tasks)}
    return {name: load_splits(task, ("train",))["train"] for name, task in read.items()}


def warn_of_concerns(run: PatchRun) -> None:
    """Warn of each setting that deserves a second look and can be told without a measurement of accuracy."""
    if run.folder.write:
        train = train_splits(run.recipe)
        for line in concerns(run, train, trainings_of(run.recipe, train)):
            warn_once(line)


def concerns(
    run: PatchRun, train: Mapping[str, Split], trainings: Sequence[Training], zero_shot: Sequence[ZeroShot] = ()
) -> list[str]:
    """Return a sentence for each setting that deserves a second look.

    Args:
        run: Prepared run.
        train: Task -> train split.
        trainings: Every fine-tuning of the run.
        zero_shot: Zero-shot accuracy on samples.
    """
    found = [
        *_epochs(train, trainings),
        *_data(run, train),
        *_tolerance(run),
        *_precision(run, trainings),
        *_nothing_to_gain(run, zero_shot),
    ]
    return list(dict.fromkeys(found))


def _epochs(train: Mapping[str, Split], trainings: Sequence[Training]) -> Iterator[str]:
    for training in trainings:
        for task, epochs in training.epochs.items():
            if epochs > MANY_EPOCHS:
                steps = max(1, round(training.steps * MANY_EPOCHS / 4 / epochs))
                warmup = f" --warmup_steps {steps // 10}" if training.args.warmup_steps > steps / 10 else ""
                yield (
                    f"{task}: {training.steps} steps of {training.images} images are {epochs:.0f} epochs of its "
                    f"{len(train[task].rows)} pictures. {MANY_EPOCHS // 4} epochs would be --max_steps "
                    f"{steps}{warmup}."
                )


def _data(run: PatchRun, train: Mapping[str, Split]) -> Iterator[str]:
    """Yield what the summary of the data warns of, for the splits that the run reads; it compares images by itself."""
    for task in run.tasks:
        name, loaded = task.task.name, load_splits(task.task, tuple(task.images))
        own = {"train": train[name]} if name in train else {}
        summary = summarize_splits(own | sample_splits(loaded, run.options.max_eval_images), images=False)
        yield from (f"{name}: {warning}" for warning in summary.warnings)


def _tolerance(run: PatchRun) -> Iterator[str]:
    if run.rule.selection != "supported_within":
        return
    for task in run.tasks:
        count = len(task.images.get("validation", ())) if task.role == "supported" else 0
        if 0 < count * run.rule.tolerance < 1:
            yield (
                f"{task.task.name}: the tolerance of {in_points(run.rule.tolerance)} is less than one of its "
                f"{count} validation images ({100 / count:.1f} points)."
            )


def _precision(run: PatchRun, trainings: Sequence[Training]) -> Iterator[str]:
    if run.args.device.type != "cpu":
        return
    slow = "in bf16 takes more than twice as long as in fp32 on this processor. Set"
    if trainings and run.args.bf16 and not multiplies_faster(torch.bfloat16, times=0.5):
        yield f"Training {slow} `bf16: false`."
    if run.options.precision == "bf16" and not multiplies_faster(torch.bfloat16, times=0.5):
        yield f"Evaluation {slow} `precision: auto`."


def _nothing_to_gain(run: PatchRun, zero_shot: Sequence[ZeroShot]) -> Iterator[str]:
    patching = {task.name for task in run.recipe.patching_tasks}
    for sample in zero_shot:
        if sample.task in patching and sample.correct / sample.total >= 0.99:
            yield (
                f"{sample.task}: the model already classifies {sample.correct} of {sample.total} images correctly, so "
                "there is little to gain."
            )
