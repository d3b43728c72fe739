"""Models in a run comparison: zero-shot, specialised, and for each run the patched and the fine-tuned model."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain

from hf_paint.errors import InputError
from hf_paint.results.alphas import Alpha
from hf_paint.results.records import ROLES, Result, Role
from hf_paint.results.runs import Run


ZERO_SHOT = "zero-shot"
SPECIALISED = "specialised models"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ComparedModel:
    """Row of the comparison: one model on all tasks, or the specialised model for each task.

    Attributes:
        base: Name of the base model.
        name: Name used in tables.
        results: Task -> record, for the tasks that were evaluated.
        run: Name of the run. None for zero-shot and specialised models.
        alpha: Alpha of the model. None for specialised models.
        sources: For specialised models, task -> name of the run that fine-tuned the model.
    """

    base: str
    name: str
    results: Mapping[str, Result]
    run: str | None = None
    alpha: Alpha | None = None
    sources: Mapping[str, str] = field(default_factory=dict)

    def accuracy(self, task: str) -> Fraction | None:
        """Return the accuracy on a task, or None if it was not evaluated."""
        return self.results[task].exact_accuracy if task in self.results else None

    def mean(self, tasks: Sequence[str]) -> Fraction | None:
        """Return the mean accuracy over tasks, or None if one of them was not evaluated."""
        return mean([self.accuracy(task) for task in tasks])

    def is_exact(self, tasks: Sequence[str]) -> bool:
        """Return whether all images of these tasks were evaluated."""
        return all(self.results[task].exact for task in tasks if task in self.results)

    def distances(self, specialised: "ComparedModel", tasks: Sequence[str]) -> list[Fraction | None]:
        """Return the accuracy on each task minus that of its specialised model; negative means worse."""
        pairs = [(self.accuracy(task), specialised.accuracy(task)) for task in tasks]
        return [None if own is None or other is None else own - other for own, other in pairs]

    def normalised(self, specialised: "ComparedModel", tasks: Sequence[str]) -> list[Fraction | None]:
        """Return the accuracy on each task divided by that of its specialised model, if that is above 0."""
        pairs = [(self.accuracy(task), specialised.accuracy(task)) for task in tasks]
        return [own / other if own is not None and other else None for own, other in pairs]


def mean(values: Sequence[Fraction | None]) -> Fraction | None:
    """Return the mean, or None if a value is missing or there are no values."""
    known = [value for value in values if value is not None]
    return sum(known, Fraction(0)) / len(known) if known and len(known) == len(values) else None


def specialised_of(models: Sequence[ComparedModel], base: str) -> ComparedModel | None:
    """Return the row with the specialised models for a base, or None if no run contains any."""
    return next((model for model in models if model.base == base and model.sources), None)


def tasks_of(runs: Sequence[Run], split: str) -> dict[Role, list[str]]:
    """Return role -> tasks. If a task has different roles in the runs, the role that comes first in `ROLES` is used.

    Raises:
        InputError: If a task does not have the same number of images in all runs.
    """
    tasks: dict[Role, list[str]] = {}
    seen: set[str] = set()
    for role in ROLES:
        names = dict.fromkeys(task for run in runs for task in run.tasks(role, split))
        tasks[role] = [task for task in names if task not in seen]
        seen.update(names)
    for task in chain(*tasks.values()):
        _check_same_task(task, runs, split)
    return {role: listed for role, listed in tasks.items() if listed}


def models_of(runs: Sequence[Run], tasks: Mapping[Role, Sequence[str]], split: str) -> list[ComparedModel]:
    """Return the rows of the comparison, grouped by base in the order of the runs."""
    names = [task for role in ROLES for task in tasks.get(role, [])]
    models = []
    for base in dict.fromkeys(run.base for run in runs):
        siblings = [run for run in runs if run.base == base]
        zero_shot = _zero_shot(base, siblings, names, split)
        specialised = _specialised(base, siblings, tasks, split, zero_shot)
        models += [zero_shot, *([specialised] if specialised.sources else [])]
        models += [model for run in siblings for model in _rows(run, names, split)]
    return models


def check_comparable(runs: Sequence[Run], models: Sequence[ComparedModel], split: str) -> None:
    """Check that every run contributes a model to the comparison.

    Raises:
        InputError: If a run has records neither for a selected alpha nor for its fine-tuned model.
    """
    shown = {model.run for model in models} | {run for model in models for run in model.sources.values()}
    for run in runs:
        if run.name not in shown:
            raise InputError(
                f"{run.name} has no {split} records for a selected alpha or for the fine-tuned model. Run "
                "`hf-paint patch` again to finish it."
            )


def notes_of(runs: Sequence[Run], models: Sequence[ComparedModel], split: str) -> list[str]:
    """Return notes to show below the tables, one line each."""
    notes = [note for model in models for note in _notes_of_model(model)]
    sampled = {r.task: r.num_images for model in models for r in model.results.values() if r.sample is not None}
    notes += [f"Of {task}, only a sample was evaluated: {number} {split} images." for task, number in sampled.items()]
    zero_shot = {model.base: model.results for model in models if model.name == ZERO_SHOT}
    for base in dict.fromkeys(run.base for run in runs):
        if specialised_of(models, base) is None:
            notes.append(
                f"No run of {base} evaluated a model that was fine-tuned on one task, so no accuracy is normalised. "
                "Add runs on one task each, or a `parallel` run."
            )
    for run in runs:
        if run.chosen is None:
            notes.append(f"{run.name} has no selected alpha (not finished, or `selection: none`).")
        shown = zero_shot[run.base]
        own = _results(run, 0.0, list(shown), split)
        differing = [task for task in own if own[task].correct != shown[task].correct]
        if differing:
            notes.append(
                f"{run.name} and the earlier runs have different zero-shot accuracies; the earlier ones are shown: "
                f"{', '.join(differing)}. Check whether its prompts or its precision differ."
            )
    return notes


def _notes_of_model(model: ComparedModel) -> Iterator[str]:
    if model.sources:
        sources = ", ".join(f"{task} from {run}" for task, run in model.sources.items())
        yield f"Specialised models of {model.base}: {sources}; for supported tasks the zero-shot model."
    if not model.is_exact(list(model.results)):
        yield f"~: {model.name} was swept adaptively, and its marked numbers are not exact."


def _zero_shot(base: str, runs: Sequence[Run], tasks: Sequence[str], split: str) -> ComparedModel:
    results: dict[str, Result] = {}
    for run in runs:
        results = _results(run, 0.0, tasks, split) | results
    return ComparedModel(base=base, name=ZERO_SHOT, results=results, alpha=0.0)


def _specialised(
    base: str, runs: Sequence[Run], tasks: Mapping[Role, Sequence[str]], split: str, zero_shot: ComparedModel
) -> ComparedModel:
    """Return theta_1 for each patching task. For supported tasks, the zero-shot model counts as specialised."""
    results: dict[str, Result] = {}
    sources: dict[str, str] = {}
    ordinary_first = sorted(runs, key=lambda run: bool(run.recipe.get("method")))
    for run in ordinary_first:
        for alpha in [*run.curve.alphas, *run.single_models.alphas]:
            task = run.specialised_in(alpha)
            result = run.get(alpha, task, split) if task is not None else None
            if result is not None and result.task not in results:
                results[result.task], sources[result.task] = result, run.name
    supported = {task: zero_shot.results[task] for task in tasks.get("supported", []) if task in zero_shot.results}
    return ComparedModel(base=base, name=SPECIALISED, results=supported | results, sources=sources)


def _rows(run: Run, tasks: Sequence[str], split: str) -> Iterator[ComparedModel]:
    rows = [] if run.chosen is None else [(run.chosen, run.label)]
    if run.chosen != 1.0 and 1.0 in run.curve.alphas:
        rows.append((1.0, f"{run.label}, {run.end}"))
    for alpha, name in rows:
        results = _results(run, alpha, tasks, split)
        yield ComparedModel(base=run.base, name=name, results=results, run=run.name, alpha=alpha)


def _results(run: Run, alpha: Alpha, tasks: Sequence[str], split: str) -> dict[str, Result]:
    results = {task: run.get(alpha, task, split) for task in tasks}
    return {task: result for task, result in results.items() if result is not None}


def _check_same_task(task: str, runs: Sequence[Run], split: str) -> None:
    """Check that a task has the same number of images in all runs; fingerprints would differ between machines."""
    first, *others = [
        (run.name, result.num_images)
        for run in runs
        for result in run.curve.results
        if (result.task, result.split) == (task, split)
    ]
    for name, num_images in others:
        if num_images != first[1]:
            raise InputError(
                f"Task '{task}' is not the same in all runs: it has {first[1]} images in {first[0]}, but "
                f"{num_images} in {name}. Remove one of these runs from the comparison."
            )
