"""The sweep: every alpha on every task, each (weights, task) evaluated once (PAINT, Section 2)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from torch import Tensor, nn
from tqdm.auto import tqdm

from hf_paint.evaluation.carrier import Carrier
from hf_paint.evaluation.evaluator import Evaluator
from hf_paint.evaluation.predictions import Predictions, score
from hf_paint.evaluation.prepared_task import PreparedTask
from hf_paint.results.alphas import Alpha, format_alpha
from hf_paint.results.curve import AlphaCurve
from hf_paint.results.records import Result, ResultLog
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
    """Evaluate every alpha on every split of every task, unless the log has the record already.

    Args:
        theta_0: The image tower before fine-tuning, name -> tensor.
        theta_1: The image tower after fine-tuning.
        alphas: The alphas; 0, the zero-shot model, is always added for comparison.
        tasks: The tasks (`prepare_task`).
        model: An image tower (`hf_paint.models.image_tower`); it is copied once, and the copy carries the weights.
        log: Receives each record as soon as it is known; in memory by default.
        evaluator: Runs the model; the default runs in float32.
        extrapolate: Allow alphas outside [0, 1].

    Returns:
        The curve of these alphas and tasks.

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
    """Evaluate every alpha of a path on every split of every task; `sweep_alphas` on any path.

    Args:
        carrier: The models on the path.
        alphas: The alphas, sorted and with 0 among them (`sorted_alphas`).
        tasks: The tasks.
        log: Receives each record as soon as it is known.
    """
    evaluations = [(alpha, task, split) for alpha in alphas for task in tasks for split in task.images]
    results = []
    main = carrier.evaluator.accelerator.is_local_main_process
    with tqdm(evaluations, "Sweeping alpha", unit="evaluation", disable=not main) as progress:
        for alpha, task, split in progress:
            progress.set_postfix_str(f"alpha {format_alpha(alpha)}, {task.task.name} {split}")
            results.append(evaluate_at(carrier, alpha, task, split, log=log))
    return AlphaCurve(results, folder=log.folder)


def evaluate_at(carrier: Carrier, alpha: Alpha, task: PreparedTask, split: str, *, log: ResultLog) -> Result:
    """Return the record of one alpha on one split: from the log, or else evaluated and appended to it.

    If the log has a record of the same weights at another alpha, for instance after a step without effect, that record
    is copied under this alpha, and nothing is evaluated.
    """
    evaluator = carrier.evaluator
    pending = evaluator.pending(task, split, alpha=alpha, weights=carrier.fingerprint(alpha))
    result = log.find(pending.key, alpha)
    if result is not None:
        return result
    twin = log.find(pending.key)
    if twin is None:
        return record(evaluator.predict(carrier.at(alpha), task, split), pending, task, log=log)
    result = replace(twin, alpha=alpha)
    log.append(result)
    return result


def sorted_alphas(alphas: Iterable[float], *, extrapolate: bool = False) -> list[float]:
    """Return the alphas in ascending order, without duplicates and with 0 among them.

    Raises:
        InputError: If an alpha is out of range.
    """
    numbers = [float(alpha) for alpha in alphas]
    for alpha in numbers:
        check_alpha(alpha, extrapolate=extrapolate)
    return sorted({0.0, *numbers})


def record(predictions: Predictions, pending: Result, task: PreparedTask, *, log: ResultLog) -> Result:
    """Score predictions, and append the record and the correctness of each image to the log."""
    scores = score(predictions, task, pending.split)
    correct_file = pending.correct_file if log.folder is not None else None
    result = replace(pending, **scores.to_dict(), correct_file=correct_file)
    log.append(result, predictions.correct)
    return result
