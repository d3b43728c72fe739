"""Tables of a report: models by task, coefficients, steps, averaged models, learned coefficients, task orders."""

from fractions import Fraction

from hf_paint.documents.shapes import read_shaped
from hf_paint.report.contents import Table
from hf_paint.report.reading import Recorded
from hf_paint.report.shifts import robustness_rows
from hf_paint.results.alphas import Coefficients, format_alpha
from hf_paint.results.compared_models import mean, models_of, specialised_of, tasks_of
from hf_paint.results.comparison_tables import AVERAGED, mean_columns
from hf_paint.results.run_folder import RunFolder
from hf_paint.results.stored import AGAIN
from hf_paint.results.tried_methods import reached, read_tried, rule_of_recipe


Cells = list[str | float | None]


def tables_of(recorded: Recorded, means: dict[str, list[float | None]]) -> list[Table]:
    """Return the tables of a run, whichever its strategy and method have."""
    found = [
        _models(recorded),
        _normalised(recorded),
        _coefficients(recorded, means) if recorded.is_search else None,
        _steps(recorded),
        _averaged(recorded),
        _learned(recorded),
        _tried(recorded),
    ]
    return [table for table in found if table is not None] + robustness_rows(recorded)


def _models(recorded: Recorded) -> Table | None:
    """Return the accuracy of each model on each task, for a run with several patching tasks."""
    run, split = recorded.run, recorded.curve.reported_split
    if len(run.curve.tasks.get("patching", [])) < 2:
        return None
    tasks = tasks_of([run], split)
    columns = {name: [name] for listed in tasks.values() for name in listed} | mean_columns(tasks)
    rows: list[Cells] = []
    for model in models_of([run], tasks, split):
        accuracies = [model.mean(names) for names in columns.values()]
        rows.append([model.name, "" if model.alpha is None else format_alpha(model.alpha), *map(_float, accuracies)])
    title = f"Accuracy of each model on {split} images"
    return Table(title=title, columns=["model", "alpha", *columns], percent=list(columns), rows=rows)


def _normalised(recorded: Recorded) -> Table | None:
    """Return the accuracies divided by those of the specialised models, if the run combined and evaluated these."""
    run, split = recorded.run, recorded.curve.reported_split
    tasks = tasks_of([run], split)
    models = models_of([run], tasks, split)
    specialised = specialised_of(models, run.base)
    if specialised is None or run.strategy != "parallel":
        return None
    columns = {name: [name] for role in AVERAGED for name in tasks.get(role, [])} | mean_columns(tasks)
    rows: list[Cells] = [
        [model.name, *(_float(mean(model.normalised(specialised, names))) for names in columns.values())]
        for model in models
        if model is not specialised
    ]
    title = f"Normalised accuracy on {split} images: divided by that of the specialised models"
    return Table(title=title, columns=["model", *columns], percent=list(columns), rows=rows)


def _float(value: Fraction | None) -> float | None:
    return None if value is None else float(value)


def _coefficients(recorded: Recorded, means: dict[str, list[float | None]]) -> Table:
    """Return the combinations that a search evaluated, in the order of the search."""
    names = list(next(alpha for alpha in recorded.points if isinstance(alpha, Coefficients)))
    rows: list[Cells] = []
    for i, alpha in enumerate(recorded.points):
        values = [alpha.get(name, 0.0) if isinstance(alpha, Coefficients) else 0.0 for name in names]
        rows.append([*values, *(column[i] for column in means.values())])
    title = f"Coefficients and mean accuracies on {recorded.split} images, in the order of the search"
    return Table(title=title, columns=[*names, *means], percent=list(means), rows=rows)


def _steps(recorded: Recorded) -> Table | None:
    """Return the alpha that each step of sequential patching chose."""
    last = next((a for a in reversed(recorded.points) if isinstance(a, Coefficients)), None)
    if recorded.run.strategy != "sequential" or last is None:
        return None
    rows: list[Cells] = [[f"step {i}", name, format_alpha(value)] for i, (name, value) in enumerate(last.items(), 1)]
    return Table(title="Steps", columns=["step", "task", "alpha"], percent=[], rows=rows)


def _averaged(recorded: Recorded) -> Table | None:
    """Return the validation scores of the averaged models that a method like `greedy_soup` compared."""
    scores = read_shaped(recorded.files.scores, dict[str, float], advice=AGAIN)
    if not scores:
        return None
    rows: list[Cells] = [[models, score] for models, score in scores.items()]
    title = "Averaged models and their scores on validation images"
    return Table(title=title, columns=["models", "score"], percent=["score"], rows=rows)


def _learned(recorded: Recorded) -> Table | None:
    """Return the coefficients that a method like `adamerging` learned, by group of tensors."""
    coefficients = recorded.files.load_coefficients()
    models = list(dict.fromkeys(model for values in coefficients.values() for model in values))
    rows: list[Cells] = [[group, *(values.get(model) for model in models)] for group, values in coefficients.items()]
    return Table(title="Learned coefficients", columns=["tensors", *models], percent=[], rows=rows) if rows else None


def _tried(recorded: Recorded) -> Table | None:
    """Return what each merge reached among which `method: auto` chose."""
    tried = read_tried(recorded.files.path)
    if tried is None:
        return None
    found = reached(tried, rule_of_recipe(recorded.run.recipe))
    sides, by_entropy = ["patching", "supported"], recorded.run.recipe.get("selection") == "entropy"
    rows: list[Cells] = [
        [r.method, format_alpha(r.alpha), *map(_float, r.sides or (None, None)), *([r.entropy] if by_entropy else [])]
        for r in found
    ]
    columns = ["merge", "alpha", *sides, *(["entropy"] if by_entropy else [])]
    title = "Merges that were tried, at their best alphas: mean accuracies on validation images"
    return Table(title=title, columns=columns, percent=sides, rows=rows)


def averaged_orders(folder: RunFolder) -> list[Table]:
    """Return the averages over several task orders; empty for a folder without them."""
    summary = folder.load_orders()
    if summary is None:
        return []
    names = ["zero-shot", "after all steps", "standard deviation"]
    title = f"{len(summary['orders'])} task orders: means and standard deviations on {summary['split']} images"
    rows: list[Cells] = [
        [row["task"], row["role"], row["zero_shot"], row["mean"], row["std"]] for row in summary["tasks"]
    ]
    return [Table(title=title, columns=["task", "role", *names], percent=names, rows=rows)]
