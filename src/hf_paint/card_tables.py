"""Tables of a card."""

from typing import Any

from hf_paint.results.alphas import Alpha
from hf_paint.results.curve import AlphaCurve
from hf_paint.results.records import ROLES


def answer_type_rows(curve: AlphaCurve, alpha: Alpha, split: str) -> list[dict[str, Any]]:
    """Return, for each type of answer of the multiple-choice tasks, the accuracies at alpha 0 and at alpha."""
    rows = []
    for role in ROLES:
        for task in curve.tasks.get(role, []):
            before, after = (curve.get(point, role, task, split) for point in (0.0, alpha))
            if before is None or after is None or before.answer_types is None or after.answer_types is None:
                continue
            for kind, (correct, total) in after.answer_types.items():
                percent = {"before": 100 * before.answer_types[kind][0] / total, "after": 100 * correct / total}
                rows.append({"task": task, "type": kind, "total": total} | percent)
    return rows
