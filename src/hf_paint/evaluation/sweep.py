"""The sweep: every alpha on every task, each (weights, task) evaluated once (PAINT, Section 2)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from accelerate import Accelerator
from torch import Tensor, nn
from tqdm.auto import tqdm

from hf_paint.evaluation.carrier import Models, weight_line
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
    """Evaluate every alpha on every split of every task; what the log knows is not evaluated again.

    Args:
        theta_0: The image tower before fine-tuning, name -> tensor.
        theta_1: The image tower after fine-tuning.
        alphas: The alphas; 0 is always added, as the zero-shot row that everything is compared with.
        tasks: The tasks, made by `prepare_task`.
        model: An image tower (`hf_paint.modeling.image_tower`); it is copied once, and the copy carries the weights.
        log: Where each record goes as soon as it is known; in memory by default.
        evaluator: Runs the model; one in float32 is made by default.
        extrapolate: Allow alphas outside [0, 1].

    Returns:
        The curve of these alphas and tasks.

    Raises:
        InputError: If an alpha is out of range, or the weights do not fit together.

    Example:
        >>> theta_0 = image_tower_weights(model)
        >>> theta_1 = {name: 1.01 * tensor for name, tensor in theta_0.items()}
        >>> prepared = [prepare_task(task, model, processor, role="patching")]
        >>> sweep_alphas(theta_0, theta_1, [0.5, 1.0], prepared, model=image_tower(model)).alphas
        (0.0, 0.5, 1.0)
    """
    log, evaluator = log or ResultLog(None), evaluator or Evaluator(Accelerator())
    ordered = sorted_alphas([*alphas], extrapolate=extrapolate)
    return sweep_models(weight_line(theta_0, theta_1, model, evaluator), ordered, tasks, log=log, evaluator=evaluator)


def sweep_models(
    models: Models, alphas: Sequence[float], tasks: Sequence[PreparedTask], *, log: ResultLog, evaluator: Evaluator
) -> AlphaCurve:
    """Evaluate the models of all alphas, which are in order, on every split of every task: `sweep_alphas`."""
    results = []
    main = evaluator.accelerator.is_local_main_process
    total = len(alphas) * sum(len(task.images) for task in tasks)
    with tqdm(total=total, desc="Sweeping alpha", unit="evaluation", disable=not main) as progress:
        for alpha in alphas:
            for task in tasks:
                for split in task.images:
                    progress.set_postfix_str(f"alpha {format_alpha(alpha)}, {task.task.name} {split}")
                    results.append(evaluate_at(models, alpha, task, split, log=log, evaluator=evaluator))
                    progress.update()
    return AlphaCurve(results, folder=log.folder)


def evaluate_at(
    models: Models,
    at: Alpha,
    task: PreparedTask,
    split: str,
    *,
    log: ResultLog,
    evaluator: Evaluator,
    alpha: Alpha | None = None,
) -> Result:
    """Return the record of one model on one split: from the log, or else evaluated.

    Weights that are known under another alpha, such as those of a step that changed nothing, get a record of their own
    without being evaluated again.

    Args:
        models: The models.
        at: Which of them.
        task: The task.
        split: The split.
        log: Where the record is or goes.
        evaluator: Runs the model.
        alpha: What the record calls it, instead of `at`.
    """
    alpha = at if alpha is None else alpha
    pending = evaluator.pending(task, split, alpha=alpha, weights=models.fingerprint(at))
    found = log.find(pending.key, alpha)
    if found is None and (known := log.find(pending.key)):
        found = replace(known, alpha=alpha)
        log.append(found)
    return found or record(evaluator.predict(models.at(at), task, split), pending, task, log=log)


def sorted_alphas(alphas: Sequence[float], *, extrapolate: bool = False) -> list[float]:
    """Return the alphas in order, each once, 0 among them.

    Raises:
        InputError: If one is out of range.
    """
    for alpha in alphas:
        check_alpha(alpha, extrapolate=extrapolate)
    return sorted({0.0, *map(float, alphas)})


def record(predictions: Predictions, pending: Result, task: PreparedTask, *, log: ResultLog) -> Result:
    """Score predictions and append the record to the log, with which images were right."""
    result = score(predictions, pending if log.folder is not None else replace(pending, correct_file=None), task)
    log.append(result, predictions.correct)
    return result
