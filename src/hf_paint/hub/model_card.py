"""The card of a patched model, whose numbers all come from the results of the run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from hf_paint.hub.card import Accuracy, Card, Examples, Robustness, Training, Usage, citations_of, environment
from hf_paint.hub.card_choice import choice_section
from hf_paint.hub.card_metadata import metadata
from hf_paint.hub.card_plots import accuracy_plots
from hf_paint.hub.card_source import CardSource
from hf_paint.hub.card_tables import answer_types_table, normalised_table
from hf_paint.hub.card_text import (
    branches_sentence,
    introduction,
    limits,
    other_alpha_sentence,
    robustness_caption,
    row_name,
    table_notes,
    training_sentence,
)
from hf_paint.models.families import Family
from hf_paint.results.alphas import Alpha, Coefficients, canonical, format_alpha, is_unpatched
from hf_paint.results.bootstrap import NUM_RESAMPLES
from hf_paint.results.choice_text import before_and_after, claim, claim_of_selected, sample_note
from hf_paint.results.curve_table import curve_rows
from hf_paint.results.markdown import Markdown, code_span, hub_link
from hf_paint.results.outcome import Outcome
from hf_paint.results.public_recipe import public_recipe
from hf_paint.results.robustness_table import RobustnessTable
from hf_paint.results.run_files import example_plot
from hf_paint.results.tables import percent, points, table
from hf_paint.tasks.task import Task


MODEL_ID = "path/or/id/of/this/model"
"""Placeholder for the id of a model that has not been published yet."""


def render_model_card(
    source: CardSource,
    *,
    alpha: Alpha | None = None,
    repo_id: str | None = None,
    branches: Mapping[str, Alpha] = MappingProxyType({}),
    delta: str | None = None,
    report: str | None = None,
) -> str:
    """Return the text of the card, including metadata.

    Args:
        source: Content of the card.
        alpha: Alpha of this model; by default, the selected alpha.
        repo_id: Hub repository id of the model.
        branches: Mapping from the repository's branches, without `main`, to their alphas.
        delta: Fingerprint of the patch, if the repository contains `theta_1 - theta_0` instead of a model.
        report: File name of the run's report, if it stands beside the card.

    Raises:
        InputError: If the curve lacks a result that the card needs.
    """
    model = _Model(
        source=source,
        alpha=source.selected if alpha is None else canonical(alpha),
        repo_id=repo_id or MODEL_ID,
        branches=branches,
        delta=delta,
        report=report,
    )
    return Card(
        metadata=metadata(source, model.name, model.alpha, delta),
        title=model.name,
        claim=_claim(model),
        introduction=_introduction(model),
        usage=_usage(model),
        accuracy=_accuracy(model),
        examples=_examples(source),
        robustness=_robustness(model),
        selection=choice_section(source),
        training=Training(
            summary=training_sentence(source, model.task_names, code_span(model.tasks[0].example_prompt)),
            recipe=public_recipe(source.recipe, source.base_model_id).strip(),
            versions=source.versions or environment(),
        ),
        tasks=source.tasks,
        licence=licence_sentences(model.base, source.base_license, "patched"),
        limits=limits(source),
        citations=citations_of([*source.tasks, *source.replay_tasks]),
    ).render()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Model:
    """One model of a run and its repository."""

    source: CardSource
    alpha: Alpha
    repo_id: str
    branches: Mapping[str, Alpha] = field(default_factory=dict)
    delta: str | None = None
    report: str | None = None

    @property
    def tasks(self) -> list[Task]:
        """Tasks on which the model was patched; for a step of sequential patching, the tasks up to this step."""
        names: Sequence[str] = self.source.curve.tasks.get("patching", [])
        if self.source.strategy == "sequential" and isinstance(self.alpha, Coefficients):
            names = list(self.alpha)
        return [task for task in self.source.tasks if task.name in names]

    @property
    def task_names(self) -> list[str]:
        return [task.name for task in self.tasks]

    @property
    def name(self) -> str:
        base = (self.source.base_model_id or self.source.family.name).split("/")[-1]
        verb = "not patched" if is_unpatched(self.alpha) else "patched"
        return f"{base} {verb} on {', '.join(self.task_names)}"

    @property
    def base(self) -> Markdown:
        return base_link(self.source.base_model_id, self.source.family)

    @property
    def rows(self) -> str:
        return row_name(self.source.strategy, self.source.selected)


def _claim(model: _Model) -> str:
    """Return what happened: for the selected model also why it was selected."""
    source = model.source
    if model.alpha != source.selected:
        return claim(source.curve, model.alpha, source.split)
    outcome = Outcome.of(source.curve, source.selection, source.recipe)
    return claim_of_selected(outcome, source.curve, source.split)


def _introduction(model: _Model) -> Markdown:
    source, alpha = model.source, model.alpha
    text = introduction(source, model.task_names, alpha, is_patch=model.delta is not None, base=model.base)
    if alpha == source.selected:
        return text
    other = other_alpha_sentence(source.selected, has_branches=bool(model.branches))
    return Markdown("{}\n\n{}").format(text, other)


def _usage(model: _Model) -> Usage:
    source = model.source
    branches = {name: alpha for name, alpha in model.branches.items() if alpha == model.alpha != source.selected}
    patch = None
    if model.delta is not None:
        patch = (str(source.base_model_id), format_alpha(model.alpha))
    return Usage(
        model_id=model.repo_id,
        revision=next(iter(branches), None),
        class_names=source.class_names[:3],
        template=model.tasks[0].templates[0],
        trained_head_tasks=", ".join(model.task_names) if source.trains_head else "",
        patch=patch,
        listed_task=model.task_names[0] if source.lists_tasks and not source.trains_head and patch is None else "",
        branches=branches_sentence(model.rows, list(model.branches), source.family.model),
    )


def _accuracy(model: _Model) -> Accuracy:
    source = model.source
    caption = f"Top-1 accuracy in percent on the {source.split} images, by {model.rows}. This model is in bold."
    rows = curve_rows(source.curve, source.split, selected=model.alpha, fine_tuned_label=source.method.end)
    accuracies = table(rows)
    return Accuracy(
        caption=_with_note(caption, source, source.split),
        table=accuracies,
        notes=table_notes(accuracies),
        plots=accuracy_plots(source),
        report=model.report,
        gains=_gains(model),
        intervals=f"Intervals are from {NUM_RESAMPLES} paired bootstrap resamples of the {source.split} images; they "
        "do not account for variation across seeds.",
        normalised=normalised_table(source, model.alpha),
        answer_types=answer_types_table(source, model.alpha),
    )


def _with_note(text: str, source: CardSource, split: str) -> str:
    """Return a text on the images of a split, followed by a note if samples of them were evaluated."""
    return " ".join(filter(None, [text, sample_note(source.curve, split)]))


def _gains(model: _Model) -> str:
    """Return a table of each task before and after patching, with intervals."""
    curve, split = model.source.curve, model.source.split
    rows = [["task", "role", f"{split} images", "zero-shot", "patched", "gain in points (95 % interval)"]]
    for gain in curve.gains(model.alpha, split):
        records = before_and_after(curve, gain, model.alpha)
        if records is not None:
            before, after = records
            accuracies = [percent(before.accuracy), percent(after.accuracy)]
            rows.append([gain.task, gain.role, after.num_images, *accuracies, points(gain.gain, gain.interval)])
    return table(rows, text_columns=2)


def _examples(source: CardSource) -> Examples | None:
    if not source.examples:
        return None
    return Examples(
        caption=f"The most probable candidates for a few images, with their probabilities in percent, "
        f"according to the unpatched model and the selected model at {format_alpha(source.selected)}. The images "
        "show what changed, not how often.",
        plots=[(task, caption, example_plot(task)) for task, caption in source.examples.items()],
    )


def _robustness(model: _Model) -> Robustness | None:
    tables = {name: RobustnessTable.from_dict(table) for name, table in model.source.robustness.items() if table}
    if "weights" not in tables:
        return None
    return Robustness(
        caption=robustness_caption(tables["weights"]),
        table=table(tables["weights"].shown_rows(selected=model.alpha)),
        ensemble=table(tables["ensemble"].shown_rows()) if "ensemble" in tables else "",
    )


def base_link(base_model_id: str | None, family: Family) -> Markdown:
    """Return the base as part of a sentence, linked if it is on the Hub."""
    unpublished = Markdown("{} that is not on the Hub").format(family.any_model)
    return unpublished if base_model_id is None else hub_link(base_model_id)


def licence_sentences(base: Markdown, base_license: str | None, kind: str) -> Markdown:
    """Return sentences on the licence of the base, which also covers a model of this `kind` made from it."""
    return Markdown(
        "Base model: {}. Licence of the base model: {}. A {} model is subject to the terms of its base model."
    ).format(base, base_license or "not stated", kind)
