"""What to know about a run before it starts: settings that are valid but seldom what was meant."""

import math
from collections.abc import Iterator, Mapping, Sequence

from hf_paint.data.splits import Split
from hf_paint.patching.costs import Training
from hf_paint.patching.run import PatchRun
from hf_paint.patching.timing import ZeroShot


MANY_EPOCHS = 100
"""PAINT trains for up to 75 epochs (its smallest data set, DTD, for 2000 steps of 128 images)."""
WIDE = 0.05
"""Half the width of a 95 % interval above which a validation split says little about alpha."""
NUM_SHOWN = 3


def concerns(
    run: PatchRun, train: Mapping[str, Split], trainings: Sequence[Training], zero_shot: Sequence[ZeroShot]
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
        *_missing_classes(run, train),
        *_small_validation(run),
        *_tolerance(run),
        *_nothing_to_gain(run, zero_shot),
    ]
    return list(dict.fromkeys(found))


def _epochs(train: Mapping[str, Split], trainings: Sequence[Training]) -> Iterator[str]:
    for training in trainings:
        for task, epochs in training.epochs.items():
            if epochs > MANY_EPOCHS:
                advice = max(1, round(training.steps * MANY_EPOCHS / 4 / epochs))
                yield (
                    f"{task}: {training.steps} steps of {training.images} images are {epochs:.0f} epochs of its "
                    f"{len(train[task].rows)} pictures. {MANY_EPOCHS // 4} epochs would be --max_steps {advice}."
                )


def _missing_classes(run: PatchRun, train: Mapping[str, Split]) -> Iterator[str]:
    for task in run.tasks:
        split = train.get(task.task.name)
        if split is None or split.task.streaming or split.choices is not None:
            continue
        sides = {"train": set(split.labels().tolist())}
        sides |= {name: set(images.labels.tolist()) for name, images in task.images.items()}
        for name, labels in sides.items():
            missing = [task.class_names[label] for label in sorted(set().union(*sides.values()) - labels)]
            if missing:
                shown = ", ".join(missing[:NUM_SHOWN]) + ", ..." * (len(missing) > NUM_SHOWN)
                number = "1 class has" if len(missing) == 1 else f"{len(missing)} classes have"
                yield f"{task.task.name}: {number} no pictures in {name}: {shown}."


def _small_validation(run: PatchRun) -> Iterator[str]:
    if run.rule.selection == "none":
        return
    for task in run.tasks:
        count = len(task.images.get("validation", ()))
        width = 1.96 * math.sqrt(0.25 / count) if count else 0.0
        if width > WIDE:
            yield (
                f"{task.task.name}: alpha is chosen on {count} validation images, whose accuracy is only known to "
                f"+-{100 * width:.0f} points (95 % interval at 50 %)."
            )


def _tolerance(run: PatchRun) -> Iterator[str]:
    if run.rule.selection != "supported_within":
        return
    for task in run.tasks:
        count = len(task.images.get("validation", ())) if task.role == "supported" else 0
        if 0 < count * run.rule.tolerance < 1:
            yield (
                f"{task.task.name}: the tolerance of {100 * run.rule.tolerance:g} points is less than one of its "
                f"{count} validation images ({100 / count:.1f} points)."
            )


def _nothing_to_gain(run: PatchRun, zero_shot: Sequence[ZeroShot]) -> Iterator[str]:
    patching = {task.name for task in run.recipe.patching_tasks}
    for sample in zero_shot:
        if sample.task in patching and sample.correct / sample.total >= 0.99:
            yield (
                f"{sample.task}: the model already classifies {sample.correct} of {sample.total} images correctly, so "
                "there is little to gain."
            )
