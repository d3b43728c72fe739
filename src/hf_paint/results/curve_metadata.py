"""Convert alpha curves to and from machine-readable model card metadata."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from hf_paint.documents.reading import Json
from hf_paint.errors import InputError
from hf_paint.results.alphas import Alpha, AlphaJson, Coefficients, alpha_from_json, alpha_to_json
from hf_paint.results.curve import AlphaCurve
from hf_paint.results.extra_metrics import EXTRA_METRICS
from hf_paint.results.records import ROLES, Result
from hf_paint.results.tables import INEXACT, marked


MISSING = "-"
ALWAYS = ("correct", "total")
OPTIONAL: Mapping[str, Callable[[str], float]] = {
    **{metric.key: metric.stored_as for metric in EXTRA_METRICS},
    "drawn_from": int,
}
"""Key -> type of what only some records have."""
FIELDS: Mapping[str, str] = {
    "task": "Name of the task.",
    "role": "`patching`, `supported`, `transfer` or `shift`.",
    "split": "`validation` or `test`.",
    "correct": f"Number of images classified correctly at each alpha; {INEXACT} marks one that was inferred in part.",
    "total": "Number of images at each alpha.",
    **{
        metric.key: f"{metric.label}{', as a number of images,' * (metric.stored_as is int)} at each alpha, if the "
        "task has this metric."
        for metric in EXTRA_METRICS
    },
    "drawn_from": "Number of images of the split, if those that were evaluated are a sample of it.",
    "answer_types": "For multiple choice: `correct` and `total` for each type of answer.",
}
"""What each key of a task in the curve says. Numbers are in the order of the alphas; `-` was not measured."""


def curve_to_metadata(curve: AlphaCurve) -> Json:
    """Return the counts of a curve as plain values. Each (task, split) has one line with a number for each alpha.

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


def curve_from_metadata(metadata: Json) -> AlphaCurve:
    """Read a curve, without per-image data, from metadata returned by `curve_to_metadata`.

    Raises:
        InputError: If the metadata does not contain a valid curve.
    """
    try:
        alphas = _read_alphas(metadata["alphas"])
        columns = [(entry, _columns(entry, (*ALWAYS, *OPTIONAL))) for entry in metadata["tasks"]]
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
                **_read_optional(counts, position),
            )
            for position, alpha in enumerate(alphas)
            for entry, counts in columns
            if counts["correct"][position] != MISSING
        )
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"The metadata of the model card contains no valid alpha curve ({error!r}).") from error


def _write_alphas(alphas: Sequence[Alpha]) -> str | list[AlphaJson]:
    """Return the alphas as one line of numbers, or as a list if any of them has coefficients."""
    if any(isinstance(alpha, Coefficients) for alpha in alphas):
        return [alpha_to_json(alpha) for alpha in alphas]
    return " ".join(map(str, alphas))


def _read_alphas(value: str | float | list[AlphaJson]) -> list[Alpha]:
    """Read the alphas. YAML parses a line with a single number as a number."""
    return [alpha_from_json(alpha) for alpha in (value if isinstance(value, list) else str(value).split())]


def _write_optional(results: Sequence[Result | None]) -> dict[str, str]:
    lines = {key: _line(getattr(result, key, None) for result in results) for key in OPTIONAL}
    return {key: line for key, line in lines.items() if set(line.split()) != {MISSING}}


def _read_optional(columns: Mapping[str, Sequence[str]], position: int) -> Json:
    texts = {key: columns[key][position] for key in OPTIONAL if key in columns}
    return {key: OPTIONAL[key](text) for key, text in texts.items() if text != MISSING}


def _columns(entry: Json, keys: Sequence[str]) -> dict[str, list[str]]:
    return {key: str(entry[key]).split() for key in keys if key in entry}


def _write_answer_types(results: Sequence[Result | None]) -> dict[str, dict[str, dict[str, str]]]:
    """Return two lines of numbers, `correct` and `total`, for each answer type."""
    counts = [(result and result.answer_types) or {} for result in results]
    kinds = dict.fromkeys(kind for count in counts for kind in count)
    lines = {
        kind: {
            key: _line(count[kind][place] if kind in count else None for count in counts)
            for place, key in enumerate(ALWAYS)
        }
        for kind in kinds
    }
    return {"answer_types": lines} if lines else {}


def _read_answer_types(entry: Json, position: int) -> dict[str, list[int]] | None:
    answer_types = {}
    for kind, lines in entry.get("answer_types", {}).items():
        counts = [column[position] for column in _columns(lines, ALWAYS).values()]
        if MISSING not in counts:
            answer_types[str(kind)] = [int(count) for count in counts]
    return answer_types or None


def _line(values: Iterable[float | None]) -> str:
    return " ".join(MISSING if value is None else str(round(value, 4)) for value in values)


def _count(result: Result | None) -> str:
    return MISSING if result is None else marked(str(result.correct), exact=result.exact)
