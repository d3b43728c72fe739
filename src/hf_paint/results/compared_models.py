"""Methods against tasks: zero-shot, specialised models, and each run at its alpha and at its fine-tuned end."""

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
class Method:
    """One model, or for the specialised models one per task, on every task.

    Attributes:
        base: The base of the model.
        name: What tables call it.
        results: Task -> its record; tasks that were not evaluated are not there.
        run: The name of the run that it comes from; None for zero-shot and specialised models.
        alpha: Its alpha; None for the specialised models.
        sources: For the specialised models, task -> the run in which it was fine-tuned.
    """

    base: str
    name: str
    results: Mapping[str, Result]
    run: str | None = None
    alpha: Alpha | None = None
    sources: Mapping[str, str] = field(default_factory=dict)

    def accuracy(self, task: str) -> Fraction | None:
        """Return the accuracy on a task, or None."""
        return self.results[task].exact_accuracy if task in self.results else None

    def mean(self, tasks: Sequence[str]) -> Fraction | None:
        """Return the mean over tasks, or None where one of them is missing."""
        return mean([self.accuracy(task) for task in tasks])

    def is_exact(self, tasks: Sequence[str]) -> bool:
        """Say whether no number of an adaptive sweep is among the tasks."""
        return all(self.results[task].exact for task in tasks if task in self.results)

    def distances(self, specialised: "Method", tasks: Sequence[str]) -> list[Fraction | None]:
        """Return, task by task, this accuracy minus that of the specialised model; negative is worse."""
        pairs = [(self.accuracy(task), specialised.accuracy(task)) for task in tasks]
        return [None if own is None or other is None else own - other for own, other in pairs]


def mean(values: Sequence[Fraction | None]) -> Fraction | None:
    """Return the mean, or None where a value is missing or there is none."""
    known = [value for value in values if value is not None]
    return sum(known, Fraction(0)) / len(known) if known and len(known) == len(values) else None


def specialised_of(methods: Sequence[Method], base: str) -> Method | None:
    """Return the specialised models of a base, or None where no run holds one."""
    return next((method for method in methods if method.base == base and method.sources), None)


def tasks_of(runs: Sequence[Run], split: str) -> dict[Role, list[str]]:
    """Return the tasks of each role; a task that has several is what it is first in `ROLES`.

    Raises:
        InputError: If a task is not the same in all runs: another number of images.
    """
    tasks: dict[Role, list[str]] = {}
    seen: set[str] = set()
    for role in ROLES:
        found = dict.fromkeys(task for run in runs for task in run.tasks(role, split))
        tasks[role] = [task for task in found if task not in seen]
        seen.update(found)
    for task in chain(*tasks.values()):
        _check_same_task(task, runs, split)
    return {role: names for role, names in tasks.items() if names}


def methods_of(runs: Sequence[Run], tasks: Mapping[Role, Sequence[str]], split: str) -> list[Method]:
    """Return the rows of the comparison, base by base in the order of the runs."""
    names = [task for role in ROLES for task in tasks.get(role, [])]
    methods = []
    for base in dict.fromkeys(run.base for run in runs):
        siblings = [run for run in runs if run.base == base]
        zero_shot = _zero_shot(base, siblings, names, split)
        specialised = _specialised(base, siblings, tasks, split, zero_shot)
        methods += [zero_shot, *([specialised] if specialised.sources else [])]
        methods += [method for run in siblings for method in _rows(run, names, split)]
    return methods


def notes_of(runs: Sequence[Run], methods: Sequence[Method], split: str) -> list[str]:
    """Return what a reader of the rows must know, a line each.

    Raises:
        InputError: If a run has nothing to show.
    """
    notes = []
    for method in methods:
        if method.sources:
            where = ", ".join(f"{task} from {run}" for task, run in method.sources.items())
            notes.append(f"Specialised models of {method.base}: {where}; for supported tasks the zero-shot model.")
        if not method.is_exact(list(method.results)):
            notes.append(f"~: {method.name} was swept adaptively, and its numbers there are not exact.")
    shown = {method.run for method in methods} | {run for m in methods for run in m.sources.values()}
    zero_shot = {method.base: method for method in methods if method.name == ZERO_SHOT}
    for run in runs:
        if run.name not in shown:
            raise InputError(
                f"{run.name} has neither a chosen alpha nor its fine-tuned end among its {split} records. Let "
                "`hf-paint patch` finish it."
            )
        if run.chosen is None:
            notes.append(f"{run.name} chose no alpha (not finished, or `selection: none`).")
        own = _results(run, 0.0, list(zero_shot[run.base].results), split)
        differing = [task for task in own if own[task].correct != zero_shot[run.base].results[task].correct]
        if differing:
            notes.append(
                f"{run.name} found other zero-shot accuracies than the runs before it, which are shown: "
                f"{', '.join(differing)}. Are its prompts or its precision others?"
            )
    return notes


def _zero_shot(base: str, runs: Sequence[Run], tasks: Sequence[str], split: str) -> Method:
    results: dict[str, Result] = {}
    for run in runs:
        results = _results(run, 0.0, tasks, split) | results
    return Method(base=base, name=ZERO_SHOT, results=results, alpha=0.0)


def _specialised(
    base: str, runs: Sequence[Run], tasks: Mapping[Role, Sequence[str]], split: str, zero_shot: Method
) -> Method:
    """Return theta_1 of each patching task; for supported tasks the specialised model is the zero-shot one."""
    results: dict[str, Result] = {}
    sources: dict[str, str] = {}
    as_fine_tuned_first = sorted(runs, key=lambda run: bool(run.recipe.get("method")))
    for run in as_fine_tuned_first:
        for alpha in run.curve.alphas:
            task = run.specialised_in(alpha)
            result = run.get(alpha, task, split) if task is not None else None
            if result is not None and result.task not in results:
                results[result.task], sources[result.task] = result, run.name
    kept = {task: zero_shot.results[task] for task in tasks.get("supported", []) if task in zero_shot.results}
    return Method(base=base, name=SPECIALISED, results=kept | results, sources=sources)


def _rows(run: Run, tasks: Sequence[str], split: str) -> Iterator[Method]:
    rows = [] if run.chosen is None else [(run.chosen, run.label)]
    if run.chosen != 1.0 and 1.0 in run.curve.alphas:
        rows.append((1.0, f"{run.label}, fine-tuned"))
    for alpha, name in rows:
        results = _results(run, alpha, tasks, split)
        yield Method(base=run.base, name=name, results=results, run=run.name, alpha=alpha)


def _results(run: Run, alpha: Alpha, tasks: Sequence[str], split: str) -> dict[str, Result]:
    found = {task: run.get(alpha, task, split) for task in tasks}
    return {task: result for task, result in found.items() if result is not None}


def _check_same_task(task: str, runs: Sequence[Run], split: str) -> None:
    """Refuse one name for two tasks. Images are counted: fingerprints differ from machine to machine."""
    first, *others = [
        (run.name, result.total)
        for run in runs
        for result in run.curve.results
        if (result.task, result.split) == (task, split)
    ]
    for name, total in others:
        if total != first[1]:
            raise InputError(
                f"Task '{task}' is not the same in all runs: {first[1]} images in {first[0]}, {total} in {name}. "
                "Leave out one of the two."
            )
