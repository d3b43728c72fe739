"""The shortest way to patch a model from Python."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from hf_paint.errors import InputError, did_you_mean
from hf_paint.models.given import ModelLike
from hf_paint.models.loading import model_name
from hf_paint.patching.joint import patch_joint
from hf_paint.patching.options import PatchOptions, PatchResult
from hf_paint.patching.parallel import patch_parallel
from hf_paint.patching.recipe import Strategy
from hf_paint.patching.sequential import patch_sequential
from hf_paint.patching.single import patch_single
from hf_paint.results.run_names import default_run_folder
from hf_paint.tasks.registry import TaskLike, get_tasks
from hf_paint.training.training_args import PaintTrainingArguments


RULE = ("alphas", "selection", "tolerance")
"""Keyword arguments of every strategy that say which alphas to evaluate and how to choose one."""
SEVERAL: Mapping[str, Callable[..., PatchResult]] = {
    "joint": patch_joint,
    "sequential": patch_sequential,
    "parallel": patch_parallel,
}


def patch(
    model: ModelLike,
    data: TaskLike | Iterable[TaskLike],
    keep: TaskLike | Iterable[TaskLike] = (),
    output_dir: str | Path | None = None,
    *,
    strategy: Strategy | None = None,
    **options: Any,
) -> PatchResult:
    """Patch a CLIP model: learn a task from `data`, and keep what the model does on the tasks in `keep`.

    Everything is saved in the run folder. Repeating the call resumes an interrupted run, and reads a finished one.

    Args:
        model: Model to patch: a Hub repository id, a folder, or a model in memory, which is left unchanged.
        data: Task to improve, or several: whatever `get_task` makes a task of, like the path to a folder of pictures,
            a `datasets.Dataset`, a `DatasetDict`, or a list of (image, label) pairs.
        keep: Tasks whose accuracy must be preserved.
        output_dir: Run folder; by default, `runs/<model>-<tasks>`.
        strategy: `single`, `joint`, `sequential` or `parallel` (see `patch_single` etc.); by default, `single` for one
            task and `joint` for several.
        options: Any field of `PaintTrainingArguments` and `PatchOptions`, and `alphas`, `selection` and `tolerance`.

    Returns:
        The chosen alpha, the curve, the run folder and the patched model.

    Raises:
        InputError: If an argument is unknown or invalid. Raised before training whenever possible.

    Example:
        >>> result = patch(model_folder, task, [other_task], tmp_path, max_steps=2, warmup_steps=1, use_cpu=True)
        >>> result.alpha in result.curve.alphas
        True
    """
    training, others, rule = _sorted(options)
    tasks, supported = get_tasks(data), get_tasks(keep)
    if not supported and options.get("selection") != "none":
        raise InputError(
            "Nothing says what the model must not unlearn, so no alpha can be chosen. Pass the tasks to `keep`, like "
            "keep=['cifar10'], or set `selection='none'`."
        )
    chosen = _strategy(strategy, len(tasks))
    name = (model.name_or_path or "model") if isinstance(model, PreTrainedModel) else model_name(model)
    folder = output_dir or default_run_folder(name, [task.name for task in tasks], chosen)
    args = PaintTrainingArguments.read({"output_dir": str(folder), **training})
    if chosen == "single":
        return patch_single(model, tasks[0], supported, args, options=PatchOptions(**others), **rule)
    return SEVERAL[chosen](model, tasks, supported, args, options=PatchOptions(**others), **rule)


def _strategy(given: str | None, num_tasks: int) -> str:
    """Return the strategy: by default, `single` for one task and `joint` for several.

    Raises:
        InputError: If it is unknown, or does not suit the number of tasks.
    """
    if not num_tasks:
        raise InputError(
            "`data` names no task. Pass a folder of pictures, a `datasets.Dataset` or the name of a task."
        )
    names = ("single", *SEVERAL)
    if given is not None and given not in names:
        raise InputError(f"`strategy` must be one of {', '.join(names)}, got '{given}'.{did_you_mean(given, names)}")
    if given == "single" and num_tasks > 1:
        raise InputError(f"`strategy: single` takes one task, got {num_tasks}. Set it to {', '.join(SEVERAL)}.")
    return given or ("single" if num_tasks == 1 else "joint")


def _sorted(given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the training arguments, the options and the rule among the keyword arguments.

    Raises:
        InputError: If a name is unknown; the closest one is suggested.
    """
    training = [f.name for f in fields(PaintTrainingArguments) if f.init]
    kinds = [training, [f.name for f in fields(PatchOptions)], RULE]
    known = {name for kind in kinds for name in kind}
    for name in given:
        if name not in known:
            raise InputError(f"`patch` has no argument '{name}'.{did_you_mean(name, known)}")
    return [{name: given[name] for name in kind if name in given} for kind in kinds]
