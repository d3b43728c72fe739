"""The tables of a comparison, as Markdown."""

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from itertools import combinations

from hf_paint.alphas import format_alpha
from hf_paint.comparison.methods import Method, mean, specialised_of
from hf_paint.comparison.runs import Run
from hf_paint.results import Role
from hf_paint.weights.changes import WeightChanges


Tasks = Mapping[Role, Sequence[str]]
AVERAGED: tuple[Role, ...] = ("patching", "supported")
"""The roles over whose tasks a mean is taken, and whose tasks have a specialised model."""


def method_table(methods: Sequence[Method], tasks: Tasks) -> str:
    """Return accuracies in percent, one row per method; `~` marks what an adaptive sweep inferred.

    A mean is there where every task of its role was evaluated.
    """
    columns = {f"{task} ({role})": [task] for role, names in tasks.items() for task in names} | mean_columns(tasks)
    rows = [["base", "method", "alpha", *columns]]
    for method in methods:
        cells = [_percent(method.mean(names), exact=method.is_exact(names)) for names in columns.values()]
        rows.append([method.base, method.name, "" if method.alpha is None else format_alpha(method.alpha), *cells])
    return _markdown(rows)


def distance_table(methods: Sequence[Method], tasks: Tasks) -> str:
    """Return accuracy minus that of the specialised models in points, for the bases that have them."""
    columns = {task: [task] for role in AVERAGED for task in tasks.get(role, [])} | mean_columns(tasks)
    rows = [["base", "method", *columns]]
    for method in methods:
        specialised = specialised_of(methods, method.base)
        if specialised is not None and method is not specialised:
            distances = [mean(method.distances(specialised, names)) for names in columns.values()]
            rows.append([method.base, method.name, *map(_points, distances)])
    return _markdown(rows)


def size_table(
    runs: Sequence[Run], methods: Sequence[Method], changes: Mapping[str, WeightChanges], split: str
) -> str:
    """Return what depends on the size of a model, run by run (PAINT, scale analysis).

    How near the patched model is to specialised ones on its own patching tasks, its alpha, and how similar the weights
    are before and after fine-tuning.
    """
    rows = [["base", "run", "alpha", "to specialised, points", "cosine(theta_0, theta_1)"]]
    for run in runs:
        chosen = next(
            (m for m in methods if run.chosen is not None and (m.run, m.alpha) == (run.name, run.chosen)), None
        )
        specialised = specialised_of(methods, run.base)
        distance = cosine = None
        if chosen is not None and specialised is not None:
            distance = mean(chosen.distances(specialised, run.tasks("patching", split)))
        if run.base in changes and run.name in changes[run.base].models:
            cosine = changes[run.base].cosine_to_base(run.name)
        alpha = "" if run.chosen is None else format_alpha(run.chosen)
        rows.append([run.base, run.label, alpha, _points(distance), _number(cosine, ".6f")])
    return _markdown(rows)


def change_tables(changes: Mapping[str, WeightChanges]) -> dict[str, str]:
    """Return title -> table: each measure of `WeightChanges` for every run, and for pairs of runs, layer by layer."""
    layers = max((list(measured.products) for measured in changes.values()), key=len, default=[])
    measures: dict[str, tuple[Callable[[WeightChanges, str, str], float], str]] = {
        "Cosine similarity of theta_0 and theta_1": (WeightChanges.cosine_to_base, ".6f"),
        "Relative norm of the change, ||theta_1 - theta_0|| / ||theta_0||": (WeightChanges.relative_norm, ".5f"),
        "Norm of the change, ||theta_1 - theta_0||": (WeightChanges.norm, ".4f"),
    }
    tables = {}
    for title, (measure, form) in measures.items():
        rows = [["base", "run", *layers]]
        for base, measured in changes.items():
            for model in measured.models:
                values = {layer: measure(measured, model, layer) for layer in measured.products}
                rows.append([base, model, *(_number(values.get(layer), form) for layer in layers)])
        tables[title] = _markdown(rows)
    rows = [["base", "runs", *layers]]
    for base, measured in changes.items():
        for one, other in combinations(measured.models, 2):
            values = {layer: measured.cosine(one, other, layer) for layer in measured.products}
            rows.append([base, f"{one}, {other}", *(_number(values.get(layer), ".4f") for layer in layers)])
    tables["Cosine similarity of the changes of two runs"] = _markdown(rows)
    return {title: table for title, table in tables.items() if table}


def mean_columns(tasks: Tasks) -> dict[str, Sequence[str]]:
    """Return the title of each mean and the tasks that it is over."""
    return {f"mean {role}": tasks[role] for role in AVERAGED if tasks.get(role)}


def _percent(accuracy: Fraction | None, *, exact: bool) -> str:
    return "" if accuracy is None else f"{'' if exact else '~'}{100 * float(accuracy):.2f}"


def _points(distance: Fraction | None) -> str:
    return "" if distance is None else f"{100 * float(distance):+.2f}"


def _number(value: float | None, form: str) -> str:
    return "" if value is None or math.isnan(value) else format(value, form)


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    """Return a table whose first two columns are text; empty where there is nothing below the header."""
    if len(rows) < 2:
        return ""
    alignment = ["---", "---", *["---:"] * (len(rows[0]) - 2)]
    return "\n".join(
        f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in (rows[0], alignment, *rows[1:])
    )
