"""An alpha curve as the metadata of a card: what the table of the card says, for programs."""

from collections.abc import Mapping, Sequence
from typing import Any

from hf_paint.alphas import Alpha, Coefficients, alpha_from_json, alpha_to_json
from hf_paint.curve import AlphaCurve
from hf_paint.errors import InputError
from hf_paint.results import ROLES, Result


MISSING = "-"


def curve_to_metadata(curve: AlphaCurve) -> dict[str, Any]:
    """Return the counts of a curve as plain values: one line of numbers over the alphas for each (task, split).

    Example:
        >>> curve = AlphaCurve.from_accuracies([0.0, 1.0], patching={"mnist": [0.5, 0.75]}, supported={})
        >>> curve_to_metadata(curve)["tasks"][0]["correct"]
        '1 3'
    """
    tasks = []
    for role in ROLES:
        for task in curve.tasks.get(role, []):
            for split in sorted(curve.splits(role)):
                results = [curve.get(alpha, role, task, split) for alpha in curve.alphas]
                if any(results):
                    correct = " ".join(_count(result) for result in results)
                    total = " ".join(str(result.total) if result else MISSING for result in results)
                    entry = {"task": task, "role": role, "split": split, "correct": correct, "total": total}
                    tasks.append(entry | _write_attack_success(results))
    return {"alphas": _write_alphas(curve.alphas), "tasks": tasks}


def curve_from_metadata(metadata: Mapping[str, Any]) -> AlphaCurve:
    """Return the curve that `curve_to_metadata` wrote down.

    Raises:
        InputError: If the metadata holds no curve.
    """
    try:
        alphas = _read_alphas(metadata["alphas"])
        keys = ("correct", "total", "attack_success")
        columns = [(entry, {k: str(entry[k]).split() for k in keys if k in entry}) for entry in metadata["tasks"]]
        return AlphaCurve(
            Result(
                alpha=alpha,
                task=entry["task"],
                role=entry["role"],
                split=entry["split"],
                correct=int(counts["correct"][position].removeprefix("~")),
                total=int(counts["total"][position]),
                attack_success=_read_attack_success(counts, position),
                exact=not counts["correct"][position].startswith("~"),
            )
            for position, alpha in enumerate(alphas)
            for entry, counts in columns
            if counts["correct"][position] != MISSING
        )
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"The metadata of the card holds no alpha curve ({error!r}).") from error


def _write_alphas(alphas: Sequence[Alpha]) -> str | list[float | dict[str, float]]:
    """Return numbers as one line, which is short, and anything with coefficients as a list."""
    if any(isinstance(alpha, Coefficients) for alpha in alphas):
        return [alpha_to_json(alpha) for alpha in alphas]
    return " ".join(map(str, alphas))


def _read_alphas(written: Any) -> list[Alpha]:
    return [alpha_from_json(alpha) for alpha in (written if isinstance(written, list) else str(written).split())]


def _write_attack_success(results: Sequence[Result | None]) -> dict[str, str]:
    counts = [result.attack_success if result is not None else None for result in results]
    if all(count is None for count in counts):
        return {}
    return {"attack_success": " ".join(MISSING if count is None else str(count) for count in counts)}


def _read_attack_success(counts: Mapping[str, Sequence[str]], position: int) -> int | None:
    count = counts["attack_success"][position] if "attack_success" in counts else MISSING
    return None if count == MISSING else int(count)


def _count(result: Result | None) -> str:
    return MISSING if result is None else f"{'' if result.exact else '~'}{result.correct}"
