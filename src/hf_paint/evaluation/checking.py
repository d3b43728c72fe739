"""Check that a model keeps the accuracy of another on some tasks and gains on others, image by image."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from transformers import PreTrainedModel

from hf_paint.errors import InputError
from hf_paint.evaluation.evaluate import Evaluated, evaluate_each
from hf_paint.evaluation.evaluator import Evaluator
from hf_paint.evaluation.given_tasks import EvaluationSets, prepare_given
from hf_paint.models.given import load_given
from hf_paint.results.checks import Check, TaskCheck


def check_model(
    model: str | Path | PreTrainedModel,
    against: str | Path | PreTrainedModel,
    tasks: EvaluationSets = (),
    *,
    tolerance: float = 0.01,
    gains: Mapping[str, float] | None = None,
    split: str = "test",
    max_eval_images: int | None = None,
    evaluator: Evaluator | None = None,
) -> Check:
    """Check that a model keeps the accuracy of another on some tasks and gains on others.

    Both models are evaluated on the same images in float32, each with its own zero-shot heads. A task is told apart
    only if the whole 95 % interval of the paired difference is on one side of what is asked for.

    Args:
        model: Model to check: in memory, a folder, a run folder, a Hub repository id or `id@revision`.
        against: Model to compare with, usually the base.
        tasks: Tasks to keep, as in `evaluate_tasks`.
        tolerance: Accuracy that a task to keep may lose, as a fraction: 0.01 is one point.
        gains: Task -> accuracy that it must gain, as a fraction. The tasks may also be among `tasks`.
        split: Split to evaluate, `validation` or `test`.
        max_eval_images: Maximum number of images per task, drawn by class and always the same; by default, all.
        evaluator: Evaluator to use. By default, a new one is created.

    Returns:
        The comparison on each task; `verdict` and `exit_code` sum them up.

    Raises:
        InputError: If a model or task cannot be used, there are no tasks, or a tolerance or gain is not in [0, 1).

    Example:
        >>> check = check_model(model_folder, model_folder, [task], tolerance=0.1)
        >>> check.verdict, check.tasks[0].images_needed  # the models agree on all 40 images
        ('passed', None)
    """
    gains = gains or {}
    _check_bounds(tolerance, gains)
    evaluator = evaluator or Evaluator(Accelerator())
    loaded, bounds = [load_given(given) for given in (model, against)], dict[str, float]()
    both: list[dict[str, Evaluated]] = []
    for given, processor in loaded:
        prepare = partial(prepare_given, model=given, processor=processor, splits=(split,), max_images=max_eval_images)
        prepared = {task.task.name: task for task in prepare(tasks)}
        for name, gain in gains.items():
            own = [prepared[name]] if name in prepared else prepare(name)
            prepared |= {task.task.name: task for task in own}
            bounds |= {task.task.name: gain for task in own}
        if not prepared:
            raise InputError("There is nothing to check: pass tasks to keep, gains, or both.")
        evaluated = evaluate_each(given, list(prepared.values()), split, evaluator)
        both.append(dict(zip(prepared, evaluated, strict=True)))
    after, before = both
    return Check(
        model=_name(model),
        against=_name(against),
        split=split,
        tasks=[_compare(before[name], after[name], bounds.get(name), tolerance) for name in after],
    )


def _compare(before: Evaluated, after: Evaluated, gain: float | None, tolerance: float) -> TaskCheck:
    return TaskCheck(
        before=before.result,
        after=after.result,
        won=int(np.count_nonzero(after.correct & ~before.correct)),
        lost=int(np.count_nonzero(before.correct & ~after.correct)),
        rule="keep" if gain is None else "gain",
        bound=-tolerance if gain is None else gain,
    )


def _check_bounds(tolerance: float, gains: Mapping[str, float]) -> None:
    values = {"The tolerance": tolerance} | {f"The gain of '{name}'": gain for name, gain in gains.items()}
    for name, value in values.items():
        if not 0 <= value < 1:
            raise InputError(f"{name} must be a fraction from 0 to 1, got {value}: 0.01 is one point.")


def _name(model: str | Path | PreTrainedModel) -> str:
    if isinstance(model, PreTrainedModel):
        return str(model.name_or_path) or f"a {type(model).__name__} in memory"
    return str(model)
