"""Checks that a run needs no labels of the splits that have none."""

from hf_paint.errors import InputError
from hf_paint.patching.recipe import Settings
from hf_paint.tasks.task import Task


def check_labels(settings: Settings) -> None:
    """Reject a run that would read labels of an unlabelled split.

    Raises:
        InputError: If it would; the message names the task, the split, and what needs the labels.
    """
    patching = {task.name for task in settings.patching_tasks}
    trained = {task.name: "it is trained on. Give a fine-tuned model in `thetas`" for task in settings.trained_tasks}
    trained |= {task.name: "it is replayed. Remove it from `replay_tasks`" for task in settings.replayed_tasks}
    for task in (*settings.patching_tasks, *settings.supported_tasks, *settings.replayed_tasks):
        method = _needed_by_method(settings) if task.name in patching else {}
        for split in task.unlabelled:
            needed = trained.get(task.name) if split == "train" else _needed_by_choice(settings)
            needed = needed or method.get(split)
            if needed:
                raise InputError(
                    f"The {split} split of task '{task.name}' is `unlabelled`, but {needed}, or label its images."
                )
        _check_accuracy(task)


def _needed_by_choice(settings: Settings) -> str:
    """Return what needs labels of validation images, and what to do about it; empty if nothing does."""
    if settings.strategy == "sequential" or settings.searches:
        what = "searches for coefficients" if settings.searches else "compares steps"
        return f"`strategy: {settings.strategy}` {what} by accuracy. Merge with a `method` like `tsv` or `regmean`"
    if settings.rule.selection in ("mean", "supported_within"):
        return f"`selection: {settings.rule.selection}` compares accuracies. Set `selection: entropy`"
    if settings.args.eval_strategy != "no":
        return "`eval_strategy` measures accuracy while training. Remove it"
    return ""


def _needed_by_method(settings: Settings) -> dict[str, str]:
    """Return split -> why the method needs its labels."""
    method = settings.method
    if not method.reads_labels:
        return {}
    needed = f"the method '{method.name}' compares predictions with labels. Use `regmean` or `adamerging`"
    return {
        split: needed
        for split, is_read in (("train", method.needs_train), ("validation", method.needs_validation))
        if is_read
    }


def _check_accuracy(task: Task) -> None:
    if "validation" in task.unlabelled and task.splits.test is None:
        raise InputError(
            f"Task '{task.name}' has no labelled images to measure accuracy on: its validation split is `unlabelled`, "
            "and it has no test split. Name one in `splits`."
        )
