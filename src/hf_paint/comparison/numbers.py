"""The numbers of a comparison, as JSON holds them: fractions of 1, and null for what is undefined."""

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations
from typing import Any

from hf_paint.alphas import Alpha, alpha_to_json
from hf_paint.comparison.methods import Method, mean, specialised_of
from hf_paint.comparison.runs import Run
from hf_paint.comparison.tables import AVERAGED, Tasks, mean_columns
from hf_paint.weights.changes import WeightChanges


def method_numbers(method: Method, methods: Sequence[Method], tasks: Tasks) -> dict[str, Any]:
    """Return one row of the table of methods against tasks, and its distance to the specialised models."""
    compared = [task for role in AVERAGED for task in tasks.get(role, [])]
    means = mean_columns(tasks)
    numbers: dict[str, Any] = {
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
    distances = dict(zip(compared, method.distances(specialised, compared), strict=True))
    of_means = {title: _float(mean([distances[task] for task in names])) for title, names in means.items()}
    return numbers | {"distance_to_specialised": {t: _float(d) for t, d in distances.items()} | of_means}


def run_numbers(run: Run, split: str) -> dict[str, Any]:
    """Return what a run is, and its trade-off curve."""
    return {
        "run": run.name,
        "folder": str(run.folder),
        "strategy": run.strategy,
        "base": run.base,
        "model": run.recipe["model"],
        "chosen": _alpha(run.chosen),
        "curve": [
            {"alpha": _alpha(alpha), "supported": supported, "patching": patching}
            for alpha, supported, patching in run.trade_off(split)
        ],
    }


def change_numbers(base: str, changes: WeightChanges) -> list[dict[str, Any]]:
    """Return, for each fine-tuned model of a base, every measure of every layer."""
    measures = {"norm": changes.norm, "relative_norm": changes.relative_norm, "cosine": changes.cosine_to_base}
    numbers = []
    for model in changes.models:
        layers = {
            layer: {name: _float(measure(model, layer)) for name, measure in measures.items()}
            for layer in changes.products
        }
        numbers.append({"base": base, "run": model, "layers": layers})
    return numbers


def pair_numbers(base: str, changes: WeightChanges) -> list[dict[str, Any]]:
    """Return, for each pair of models of a base, the cosine similarity of their changes in every layer."""
    return [
        {
            "base": base,
            "runs": pair,
            "cosine": {layer: _float(changes.cosine(*pair, layer)) for layer in changes.products},
        }
        for pair in combinations(changes.models, 2)
    ]


def _alpha(alpha: Alpha | None) -> Any:
    return None if alpha is None else alpha_to_json(alpha)


def _float(value: Fraction | float | None) -> float | None:
    return None if value is None or math.isnan(value) else float(value)
