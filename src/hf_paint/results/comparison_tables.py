"""Tables of a run comparison, as Markdown and as plain numbers."""

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from itertools import combinations

from hf_paint.documents.reading import Json
from hf_paint.results.alphas import Alpha, AlphaJson, alpha_to_json, format_alpha
from hf_paint.results.compared_models import ComparedModel, mean, specialised_of
from hf_paint.results.published import Published
from hf_paint.results.records import Role
from hf_paint.results.runs import Run
from hf_paint.results.tables import markdown, marked, number, percent, points
from hf_paint.weights.changes import WeightChanges


Tasks = Mapping[Role, Sequence[str]]
AVERAGED: tuple[Role, ...] = ("patching", "supported")
"""Roles for which means over tasks and distances to specialised models are shown."""


def method_table(methods: Sequence[ComparedModel], tasks: Tasks) -> str:
    """Return a table of accuracies in percent, with one row per model.

    Numbers marked with `~` were inferred in part by an adaptive sweep. The mean for a role is left empty unless all
    tasks in the role were evaluated.
    """
    columns = {f"{task} ({role})": [task] for role, names in tasks.items() for task in names} | mean_columns(tasks)
    rows = [["base", "method", "alpha", *columns]]
    for method in methods:
        cells = [marked(percent(method.mean(names)), exact=method.is_exact(names)) for names in columns.values()]
        rows.append([method.base, method.name, "" if method.alpha is None else format_alpha(method.alpha), *cells])
    return _table(rows)


def distance_table(methods: Sequence[ComparedModel], tasks: Tasks) -> str:
    """Return a table of differences in accuracy from the specialised models, in points, for bases that have these."""
    return _table(_against_specialised(methods, tasks, ComparedModel.distances, points))


def normalised_table(methods: Sequence[ComparedModel], tasks: Tasks) -> str:
    """Return a table of accuracies divided by those of the specialised models, in percent, for bases that have these.

    Papers on model merging call this the normalised accuracy. Its mean is that of the quotients.
    """
    return _table(_against_specialised(methods, tasks, ComparedModel.normalised, percent))


def _against_specialised(
    methods: Sequence[ComparedModel],
    tasks: Tasks,
    compare: Callable[[ComparedModel, ComparedModel, Sequence[str]], list[Fraction | None]],
    form: Callable[[Fraction | None], str],
) -> list[list[str]]:
    columns = {task: [task] for role in AVERAGED for task in tasks.get(role, [])} | mean_columns(tasks)
    rows = [["base", "method", *columns]]
    for method in methods:
        specialised = specialised_of(methods, method.base)
        if specialised is not None and method is not specialised:
            values = [mean(compare(method, specialised, names)) for names in columns.values()]
            rows.append([method.base, method.name, *map(form, values)])
    return rows


def published_table(published: Sequence[tuple[str, Published]], tasks: Tasks) -> str:
    """Return a table of published accuracies in percent, as they were published, and their means."""
    columns = {task: [task] for names in tasks.values() for task in names} | mean_columns(tasks)
    columns = {
        title: names for title, names in columns.items() if any(names[0] in row.percent for _, row in published)
    }
    rows = [["base", "published", "source", *columns]]
    for base, row in published:
        means = [_published_mean(row, names) for names in columns.values()]
        rows.append([base, row.name, row.source, *map(number, means)])
    return markdown(rows, text_columns=3) if published else ""


def _published_mean(row: Published, tasks: Sequence[str]) -> float | None:
    known = [row.percent[task] for task in tasks if task in row.percent]
    return sum(known) / len(known) if len(known) == len(tasks) else None


def size_table(
    runs: Sequence[Run], methods: Sequence[ComparedModel], changes: Mapping[str, WeightChanges], split: str
) -> str:
    """Return a table of quantities that depend on model size, with one row per run (PAINT, Section 4).

    The columns are the alpha of the patched model, its difference in accuracy from the specialised models on the run's
    patching tasks, and the cosine similarity of the weights before and after fine-tuning.
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
        rows.append([run.base, run.label, alpha, points(distance), number(cosine, ".6f")])
    return _table(rows)


def change_tables(changes: Mapping[str, WeightChanges]) -> dict[str, str]:
    """Return title -> table with a measure from `WeightChanges` for each layer and each run or pair of runs."""
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
                rows.append([base, model, *(number(values.get(layer), form) for layer in layers)])
        tables[title] = _table(rows)
    rows = [["base", "runs", *layers]]
    for base, measured in changes.items():
        for one, other in combinations(measured.models, 2):
            values = {layer: measured.cosine(one, other, layer) for layer in measured.products}
            rows.append([base, f"{one}, {other}", *(number(values.get(layer), ".4f") for layer in layers)])
    tables["Cosine similarity of the changes of two runs"] = _table(rows)
    return {title: table for title, table in tables.items() if table}


def mean_columns(tasks: Tasks) -> dict[str, Sequence[str]]:
    """Return column title -> tasks to average over."""
    return {f"mean {role}": tasks[role] for role in AVERAGED if tasks.get(role)}


def method_numbers(method: ComparedModel, methods: Sequence[ComparedModel], tasks: Tasks) -> Json:
    """Return a model's accuracies and their differences from the specialised models."""
    compared = [task for role in AVERAGED for task in tasks.get(role, [])]
    means = mean_columns(tasks)
    numbers: Json = {
        "base": method.base,
        "method": method.name,
        "run": method.run,
        "alpha": _alpha(method.alpha),
        "accuracies": {
            task: {"correct": r.correct, "total": r.total, "accuracy": r.accuracy, "exact": r.exact}
            for task, r in method.results.items()
        },
        "means": {title: _float(method.mean(names)) for title, names in means.items()},
    }
    specialised = specialised_of(methods, method.base)
    if method is specialised:
        return numbers | {"fine_tuned_in": dict(method.sources)}
    if specialised is None:
        return numbers
    for key, values in (
        ("distance_to_specialised", method.distances(specialised, compared)),
        ("normalised_accuracy", method.normalised(specialised, compared)),
    ):
        of_tasks = dict(zip(compared, values, strict=True))
        of_means = {title: _float(mean([of_tasks[task] for task in names])) for title, names in means.items()}
        numbers[key] = {task: _float(value) for task, value in of_tasks.items()} | of_means
    return numbers


def run_numbers(run: Run, split: str) -> Json:
    """Return the origin of a run and its trade-off curve."""
    return {
        "run": run.name,
        "folder": str(run.files.path),
        "strategy": run.strategy,
        "base": run.base,
        "model": run.recipe["model"],
        "chosen": _alpha(run.chosen),
        "curve": [
            {"alpha": _alpha(alpha), "supported": supported, "patching": patching}
            for alpha, supported, patching in run.trade_off(split)
        ],
    }


def change_numbers(base: str, changes: WeightChanges) -> list[Json]:
    """Return all measures for all layers, for each model fine-tuned from a base."""
    measures = {"norm": changes.norm, "relative_norm": changes.relative_norm, "cosine": changes.cosine_to_base}
    numbers = []
    for model in changes.models:
        layers = {
            layer: {name: _float(measure(model, layer)) for name, measure in measures.items()}
            for layer in changes.products
        }
        numbers.append({"base": base, "run": model, "layers": layers})
    return numbers


def pair_numbers(base: str, changes: WeightChanges) -> list[Json]:
    """Return the cosine similarity of the changes in all layers, for each pair of models fine-tuned from a base."""
    return [
        {
            "base": base,
            "runs": pair,
            "cosine": {layer: _float(changes.cosine(*pair, layer)) for layer in changes.products},
        }
        for pair in combinations(changes.models, 2)
    ]


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Return a table whose first two columns are text, or an empty string if there is only a header."""
    return markdown(rows, text_columns=2) if len(rows) > 1 else ""


def _alpha(alpha: Alpha | None) -> AlphaJson | None:
    return None if alpha is None else alpha_to_json(alpha)


def _float(value: Fraction | float | None) -> float | None:
    return None if value is None or math.isnan(value) else float(value)
