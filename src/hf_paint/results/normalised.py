"""The normalised accuracy of papers on model merging: accuracy divided by that of the model of one task alone."""

from fractions import Fraction

from hf_paint.results.alphas import Alpha
from hf_paint.results.compared_models import mean
from hf_paint.results.curve import AlphaCurve
from hf_paint.results.records import Result
from hf_paint.results.single_models import alone
from hf_paint.results.tables import percent


NORMALISED_CAPTION = (
    "Normalised accuracy, in percent: the accuracy of this model divided by that of the model fine-tuned on this task "
    "alone or, for a supported task, by the zero-shot accuracy. The mean is that of the quotients."
)
Share = Fraction | None


def normalised_rows(curve: AlphaCurve, single_models: AlphaCurve, alpha: Alpha, split: str) -> list[list[str]]:
    """Return a table with the normalised accuracy of each task and its mean over the tasks of a role, in percent.

    Args:
        curve: Records of the run.
        single_models: Records at `alone(task)`, from `read_single_models`.
        alpha: Alpha of the model.
        split: Split to show.

    Returns:
        A header and the rows; empty if no model was evaluated on its own task.
    """
    table, is_known = [["task", "role", "zero-shot", "fine-tuned alone", "this model", "normalised"]], False
    for role in ("patching", "supported"):
        rows: list[list[Share]] = []
        for task in curve.tasks.get(role, []):
            zero_shot, model = (_share(curve.get(a, role, task, split)) for a in (0.0, alpha))
            own = _share(single_models.get(alone(task), role, task, split)) if role == "patching" else None
            rows.append([zero_shot, own, model, _quotient(model, own if role == "patching" else zero_shot)])
            table.append([task, role, *map(percent, rows[-1])])
            is_known = is_known or own is not None
        if len(rows) > 1:
            table.append(["mean", role, *(percent(mean(column)) for column in zip(*rows, strict=True))])
    return table if is_known else []


def _share(result: Result | None) -> Share:
    return None if result is None else result.exact_accuracy


def _quotient(share: Share, whole: Share) -> Share:
    return share / whole if share is not None and whole else None
