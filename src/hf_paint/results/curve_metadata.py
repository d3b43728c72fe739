"""An alpha curve as the metadata of a card: what the table of the card says, for programs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from hf_paint.errors import InputError
from hf_paint.results.alphas import Alpha, Coefficients, alpha_from_json, alpha_to_json
from hf_paint.results.curve import AlphaCurve
from hf_paint.results.records import ROLES, Result
from hf_paint.results.tables import INEXACT, marked


MISSING = "-"
OPTIONAL: Mapping[str, Callable[[str], Any]] = {"attack_success": int, "mean_absolute_error": float}
"""What only some tasks have, and how it is read."""


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
                    total = _line(None if result is None else result.total for result in results)
                    entry = {"task": task, "role": role, "split": split, "correct": correct, "total": total}
                    tasks.append(entry | _write_optional(results) | _write_answer_types(results))
    return {"alphas": _write_alphas(curve.alphas), "tasks": tasks}


def curve_from_metadata(metadata: Mapping[str, Any]) -> AlphaCurve:
    """Return the curve that `curve_to_metadata` wrote down.

    Raises:
        InputError: If the metadata holds no curve.
    """
    try:
        alphas = _read_alphas(metadata["alphas"])
        keys = ("correct", "total", *OPTIONAL)
        columns = [(entry, {k: str(entry[k]).split() for k in keys if k in entry}) for entry in metadata["tasks"]]
        return AlphaCurve(
            Result(
                alpha=alpha,
                task=entry["task"],
                role=entry["role"],
                split=entry["split"],
                correct=int(counts["correct"][position].removeprefix(INEXACT)),
                total=int(counts["total"][position]),
                answer_types=_read_answer_types(entry, position),
                exact=not counts["correct"][position].startswith(INEXACT),
                **{key: _read(counts, key, position, kind) for key, kind in OPTIONAL.items()},
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


def _write_optional(results: Sequence[Result | None]) -> dict[str, str]:
    lines = {key: _line(getattr(result, key, None) for result in results) for key in OPTIONAL}
    return {key: line for key, line in lines.items() if set(line.split()) != {MISSING}}


def _read(lines: Mapping[str, Sequence[str]], key: str, position: int, kind: Callable[[str], Any]) -> Any:
    written = lines[key][position] if key in lines else MISSING
    return None if written == MISSING else kind(written)


def _write_answer_types(results: Sequence[Result | None]) -> dict[str, dict[str, dict[str, str]]]:
    """Return two lines of numbers for each type of answer: what was right, and of how many."""
    counts = [(result and result.answer_types) or {} for result in results]
    kinds = dict.fromkeys(kind for count in counts for kind in count)
    lines = {
        kind: {
            key: _line(count[kind][place] if kind in count else None for count in counts)
            for place, key in enumerate(("correct", "total"))
        }
        for kind in kinds
    }
    return {"answer_types": lines} if lines else {}


def _read_answer_types(entry: Mapping[str, Any], position: int) -> dict[str, list[int]] | None:
    found = {}
    for kind, lines in entry.get("answer_types", {}).items():
        counts = [str(lines[key]).split()[position] for key in ("correct", "total")]
        if MISSING not in counts:
            found[str(kind)] = [int(count) for count in counts]
    return found or None


def _line(values: Iterable[float | None]) -> str:
    return " ".join(MISSING if value is None else str(round(value, 4)) for value in values)


def _count(result: Result | None) -> str:
    return MISSING if result is None else marked(str(result.correct), exact=result.exact)
