"""Sweep: evaluate all alphas on all tasks, without evaluating the same (weights, task) twice (PAINT, Section 2)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from torch import Tensor, nn

from hf_paint.evaluation.carrier import Carrier
from hf_paint.evaluation.evaluator import Evaluator
from hf_paint.evaluation.predictions import Predictions, details_of, score
from hf_paint.evaluation.prepared_task import PreparedTask, num_images
from hf_paint.results.alphas import Alpha, canonical, canonical_alpha, format_alpha
from hf_paint.results.curve import AlphaCurve
from hf_paint.results.records import Result
from hf_paint.results.result_log import ResultLog
from hf_paint.weights.compatibility import check_alpha


def sweep_alphas(
    theta_0: Mapping[str, Tensor],
    theta_1: Mapping[str, Tensor],
    alphas: Iterable[float],
    tasks: Sequence[PreparedTask],
    *,
    model: nn.Module,
    log: ResultLog | None = None,
    evaluator: Evaluator | None = None,
    extrapolate: bool = False,
) -> AlphaCurve:
    """Evaluate every alpha on every split of every task, except for evaluations that are already in the log.

    Args:
        theta_0: Image tower weights before fine-tuning, name -> tensor.
        theta_1: Image tower weights after fine-tuning.
        alphas: Alphas to evaluate. 0, the zero-shot model, is always added for comparison.
        tasks: Tasks to evaluate, from `prepare_task`.
        model: Image tower (`hf_paint.models.image_tower`). It is copied once, and weights are loaded into the copy.
        log: Log that each record is added to immediately. Defaults to a log in memory.
        evaluator: Evaluator that runs the model. The default one uses float32.
        extrapolate: Allow alphas outside [0, 1].

    Returns:
        Curve over these alphas and tasks.

    Raises:
        InputError: If an alpha is out of range, or the weights are not compatible.

    Example:
        >>> theta_0 = image_tower_weights(model)
        >>> theta_1 = {name: 1.01 * tensor for name, tensor in theta_0.items()}
        >>> prepared = [prepare_task(task, model, processor, role="patching")]
        >>> sweep_alphas(theta_0, theta_1, [0.5, 1.0], prepared, model=image_tower(model)).alphas
        (0.0, 0.5, 1.0)
    """
    ordered = sorted_alphas(alphas, extrapolate=extrapolate)
    carrier = Carrier.on_line(theta_0, theta_1, model, evaluator)
    return sweep_path(carrier, ordered, tasks, log=log or ResultLog(None))


def sweep_path(
    carrier: Carrier, alphas: Sequence[float], tasks: Sequence[PreparedTask], *, log: ResultLog
) -> AlphaCurve:
    """Version of `sweep_alphas` for any path: evaluate every alpha on every split of every task.

    Args:
        carrier: Carrier for the path.
        alphas: Alphas to evaluate, sorted and including 0 (see `sorted_alphas`).
        tasks: Tasks to evaluate.
        log: Log that each record is added to immediately.
    """
    evaluations = [(alpha, task, split) for alpha in alphas for task in tasks for split in task.images]
    results = []
    total = len(alphas) * num_images(tasks)
    with carrier.passes(total), carrier.evaluator.progress.over(total, "Sweeping alpha"):
        for alpha, task, split in evaluations:
            carrier.evaluator.progress.note(f"alpha {format_alpha(alpha)}, {task.task.name} {split}")
            results.append(evaluate_at(carrier, alpha, task, split, log=log))
    return AlphaCurve(results, folder=log.folder)


def evaluate_at(carrier: Carrier, alpha: Alpha, task: PreparedTask, split: str, *, log: ResultLog) -> Result:
    """Return the record for one alpha on one split. If it is not in the log, evaluate it and add it to the log.

    If the log contains a record for the same weights under another alpha, e.g. after a step without effect, that
    record is copied and nothing is evaluated.
    """
    alpha, evaluator = canonical(alpha), carrier.evaluator
    pending = evaluator.pending(task, split, alpha=alpha, weights=carrier.fingerprint(alpha))
    logged = recall(pending, log=log)
    if logged is not None:
        evaluator.progress.skip(len(task.images[split]))
        return logged
    return record(evaluator.predict(carrier.at(alpha), task, split), pending, task, log=log)


def recall(pending: Result, *, log: ResultLog) -> Result | None:
    """Return the record of an evaluation from the log, or None if these weights have not been evaluated.

    A record for the same weights under another alpha is copied under this one, so that no alpha is missing.
    """
    if (result := log.find(pending.key, pending.alpha)) is not None:
        if not log.is_current(result):  # a run on other images came between; the last record says which ones count
            log.append(result)
        return result
    if (twin := log.find(pending.key)) is None:
        return None
    result = replace(twin, alpha=pending.alpha)
    log.append(result)
    return result


def sorted_alphas(alphas: Iterable[float], *, extrapolate: bool = False) -> list[float]:
    """Return the alphas in their canonical form, in ascending order, without duplicates and including 0.

    Raises:
        InputError: If an alpha is out of range.
    """
    numbers = [canonical_alpha(alpha) for alpha in alphas]
    for alpha in numbers:
        check_alpha(alpha, extrapolate=extrapolate)
    return sorted({0.0, *numbers})


def record(predictions: Predictions, pending: Result, task: PreparedTask, *, log: ResultLog) -> Result:
    """Score predictions, and add the record to the log along with its details and what was classified correctly."""
    scores = score(predictions, task, pending.split)
    correct_file = pending.correct_file if log.folder is not None else None
    result = replace(pending, **scores.to_dict(), correct_file=correct_file)
    details = details_of(predictions, task, pending.split) if result.exact and log.on_disk else None
    log.append(result, predictions.correct, details)
    return result
