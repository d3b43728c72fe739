"""The sweep: every alpha on every task, each (weights, task) evaluated once (PAINT, Section 2)."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace

from accelerate import Accelerator
from torch import Tensor, nn
from tqdm.auto import tqdm

from hf_paint.curve import AlphaCurve
from hf_paint.evaluation import Evaluator, PreparedTask, score
from hf_paint.fingerprints import fingerprint_interpolation, fingerprint_weights
from hf_paint.interpolation import check_alpha, interpolated
from hf_paint.results import Result, ResultLog, format_alpha


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
        model: An image tower (`hf_paint.modeling.image_tower`) to carry the weights; it has its own weights again
            afterwards.
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
    theta_0 = {name: tensor.clone() for name, tensor in theta_0.items()}  # the model may share them and is overwritten
    alphas = sorted({0.0, *map(float, alphas)})
    for alpha in alphas:
        check_alpha(alpha, extrapolate=extrapolate)
    ends = fingerprint_weights(theta_0), fingerprint_weights(theta_1)
    wanted = [(task, split) for task in tasks for split in task.images]
    results = []
    main = evaluator.accelerator.is_local_main_process
    with tqdm(total=len(alphas) * len(wanted), desc="Sweeping alpha", unit="evaluation", disable=not main) as progress:
        for alpha in alphas:
            weights = fingerprint_interpolation(*ends, alpha)
            pending = [evaluator.pending(task, split, alpha=alpha, weights=weights) for task, split in wanted]
            known = [log.find(result.key) for result in pending]
            carried = interpolated(model, theta_0, theta_1, alpha, extrapolate=extrapolate)
            with nullcontext(model) if all(known) else carried as tower:
                for (task, split), result, found in zip(wanted, pending, known, strict=True):
                    progress.set_postfix_str(f"alpha {format_alpha(alpha)}, {task.task.name} {split}")
                    results.append(found or _evaluate(tower, task, split, result, log, evaluator))
                    progress.update()
    return AlphaCurve(results, folder=log.folder)


def _evaluate(
    tower: nn.Module, task: PreparedTask, split: str, pending: Result, log: ResultLog, evaluator: Evaluator
) -> Result:
    predictions = evaluator.predict(tower, task, split)
    result = score(predictions, pending if log.folder is not None else replace(pending, examples=None))
    log.append(result, predictions.correct)
    return result
