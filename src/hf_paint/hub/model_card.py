"""The card of a patched model: every number in it comes from the records of the run."""

import platform
from collections.abc import Collection, Mapping
from importlib.metadata import version
from importlib.resources import files
from types import MappingProxyType

from huggingface_hub import ModelCard

from hf_paint.hub.card_metadata import _metadata, dataset_id, public_recipe
from hf_paint.hub.card_source import CardSource
from hf_paint.hub.card_text import (
    _gain_rows,
    _method,
    _trained,
    answer_type_rows,
    claim,
    points,
    selection_sentence,
)
from hf_paint.models.families import Family
from hf_paint.results.alphas import Alpha, Coefficients, format_alpha
from hf_paint.results.bootstrap import NUM_RESAMPLES
from hf_paint.results.robustness_table import RobustnessTable
from hf_paint.results.run_folder import example_plot
from hf_paint.tasks.task import Task


TEMPLATE = files("hf_paint.hub") / "model_card_template.md"
VERSIONED = ("hf-paint", "torch", "transformers", "accelerate", "datasets", "huggingface_hub")


def render_model_card(
    source: CardSource,
    *,
    alpha: Alpha | None = None,
    repo_id: str | None = None,
    branches: Mapping[str, Alpha] = MappingProxyType({}),
    delta: str | None = None,
) -> str:
    """Return the text of the card, metadata included.

    Args:
        source: What the card is made of.
        alpha: The alpha of this model; the one that was chosen by default.
        repo_id: Where the model will be on the Hub.
        branches: The branches of that repository that hold alphas, `main` not among them.
        delta: The fingerprint of the patch, for the card of a repository that holds `theta_1 - theta_0` alone.

    Raises:
        InputError: If the curve lacks a record that the card needs.
    """
    alpha = source.selected if alpha is None else alpha
    patching = _patched_tasks(source, alpha)
    base = (source.base_model_id or source.family.name).split("/")[-1]
    name = f"{base} patched on {', '.join(task.name for task in patching)}"
    card = ModelCard.from_template(
        _metadata(source, name, alpha, delta),
        template_str=TEMPLATE.read_text(encoding="utf-8"),
        title=name,
        split=source.split,
        claim=claim(source.curve, alpha, source.split),
        method=_method(source, [task.name for task in patching], alpha),
        trained_head=source.trains_head,
        points=points(source.strategy, source.selected),
        strategy=source.strategy,
        trained=", ".join(_trained(source, [task.name for task in patching])),
        patching_names=", ".join(task.name for task in patching),
        alpha=format_alpha(alpha),
        selected_row=alpha,
        selected=format_alpha(source.selected),
        is_selected=alpha == source.selected,
        model_id=repo_id or "path/or/id/of/this/model",
        revision=next((name for name, held in branches.items() if held == alpha != source.selected), None),
        branches=list(branches),
        delta=delta is not None,
        base_model_id=source.base_model_id,
        example_labels=repr(list(source.class_names[:3])),
        example_template=repr(patching[0].templates[0]),
        example_prompt=patching[0].example_prompt,
        table=source.curve.to_markdown(source.split, selected=alpha, fine_tuned_label=source.method.end),
        plot=source.plot,
        examples=[(task, caption, example_plot(task)) for task, caption in source.examples.items()],
        gains=_gain_rows(source.curve, alpha, source.split),
        answer_types=answer_type_rows(source.curve, alpha, source.split),
        num_resamples=NUM_RESAMPLES,
        robustness={name: RobustnessTable.from_dict(held) for name, held in source.robustness.items() if held},
        selection=selection_sentence(source.strategy, source.selection),
        recipe=public_recipe(source).strip(),
        versions=list((source.versions or environment()).items()),
        sources=[source_row(task) for task in source.tasks],
        base=base_link(source.base_model_id, source.family),
        family=source.family,
        base_license=source.base_license or "not stated",
        precision=" and ".join(sorted({result.precision for result in source.curve.results})),
        save_dtype=source.save_dtype,
        citations=list(dict.fromkeys(task.citation.strip() for task in source.tasks if task.citation)),
    )
    return str(card)


def base_link(base_model_id: str | None, family: Family) -> str:
    """Return the base as a sentence says it: with a link if it is on the Hub."""
    if base_model_id is None:
        return f"{family.any_model} that is not on the Hub"
    return f"[{base_model_id}](https://huggingface.co/{base_model_id})"


def environment() -> dict[str, str]:
    """Return the versions of what a run depends on."""
    return {package: version(package) for package in VERSIONED} | {"python": platform.python_version()}


def _patched_tasks(source: CardSource, alpha: Alpha) -> list[Task]:
    """Return the tasks on which a model was patched: a step of sequential patching knows none of those after it."""
    names: Collection[str] = source.curve.tasks.get("patching", [])
    if source.strategy == "sequential" and isinstance(alpha, Coefficients):
        names = alpha
    return [task for task in source.tasks if task.name in names]


def source_row(task: Task) -> dict[str, str]:
    """Return the row of a task in the table of data sets and licences."""
    on_the_hub = dataset_id(task)
    link = f"[{on_the_hub}](https://huggingface.co/datasets/{on_the_hub})" if on_the_hub else "local files"
    return {
        "task": task.name,
        "dataset": task.homepage or link if not on_the_hub else link,
        "license": task.license or "not stated",
    }
