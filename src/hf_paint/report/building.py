"""The contents of a report, from run folders alone: no model is run and no image is read but the run's examples."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hf_paint import __version__
from hf_paint.report.contents import Point, Report, Run
from hf_paint.report.layers import layers_of
from hf_paint.report.reading import Recorded, read_recorded
from hf_paint.report.shifts import ensemble_of, scatter_of
from hf_paint.report.snippets import snippets_of
from hf_paint.report.tables import averaged_orders, tables_of
from hf_paint.report.tasks import means_of, tasks_of
from hf_paint.report.words import choice_of, claim_of, facts_of, notes_of
from hf_paint.results.alphas import Alpha, Coefficients, format_alpha
from hf_paint.results.public_recipe import public_recipe
from hf_paint.results.run_folder import RunFolder
from hf_paint.results.tables import FINE_TUNED


if TYPE_CHECKING:
    from hf_paint.merging.registry import MethodLike


def report_of(folders: Sequence[str | Path]) -> Report:
    """Return the contents of a report on one or several runs.

    Args:
        folders: Run folders; one with several task orders stands for the runs in it.

    Raises:
        InputError: If a folder contains no run with records.
    """
    recorded = read_recorded(folders)
    runs = [_run(each) for each in recorded]
    if len(runs) > 1:
        for run, each in zip(runs, recorded, strict=True):
            run["title"] = each.run.name
    title = runs[0]["title"] if len(runs) == 1 else f"{len(runs)} runs"
    orders = [table for folder in folders for table in averaged_orders(RunFolder(folder))]
    return Report(title=title, made_by=f"hf_paint {__version__}", runs=runs, tables=orders)


def _run(recorded: Recorded) -> Run:
    run, tasks = recorded.run, tasks_of(recorded)
    means = means_of(recorded, tasks)
    method = run.recipe.get("method", "interpolate")
    line = not recorded.is_search and run.strategy != "sequential"
    verb = "not patched" if recorded.outcome is not None and recorded.outcome.is_unpatched else "patched"
    return Run(
        title=f"{run.base} {verb} on {', '.join(run.curve.tasks.get('patching', []))}",
        claim=claim_of(recorded),
        model=run.base,
        strategy=run.strategy,
        method=method if isinstance(method, str) else next(iter(method)),
        split=recorded.split,
        points=[_point(*pair) for pair in zip(recorded.points, recorded.branches, strict=True)],
        connected=not recorded.is_search,
        zero_shot=recorded.zero_shot,
        fine_tuned=recorded.points.index(1.0) if line and 1.0 in recorded.points else None,
        fine_tuned_label=_end(method),
        chosen=recorded.chosen,
        tasks=tasks,
        means=means,
        choice=choice_of(recorded),
        snippets=snippets_of(recorded),
        layers=layers_of(recorded),
        scatter=scatter_of(recorded),
        ensemble=ensemble_of(recorded),
        tables=tables_of(recorded, means),
        recipe=public_recipe(run.recipe, recorded.facts.get("base_model_id")),
        facts=list(facts_of(recorded)),
        notes=notes_of(recorded),
    )


def _point(alpha: Alpha, branch: str) -> Point:
    number, coefficients = (None, dict(alpha)) if isinstance(alpha, Coefficients) else (alpha, None)
    return Point(label=format_alpha(alpha), alpha=number, coefficients=coefficients, revision=branch)


def _end(method: "MethodLike") -> str:
    """Return the name of theta_1; the registry of methods needs torch, so only a method that has a name of its own."""
    if method == "interpolate":
        return FINE_TUNED
    from hf_paint.merging.registry import read_method

    return read_method(method).end
