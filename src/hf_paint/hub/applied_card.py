"""The card of a model to which patches were applied: what was applied, and that the result was not evaluated."""

from collections.abc import Sequence
from dataclasses import dataclass

from huggingface_hub import ModelCard, ModelCardData

from hf_paint.files import expand
from hf_paint.hub.card_source import license_of
from hf_paint.repositories import is_repo_id, split_revision
from hf_paint.results.alphas import format_alpha
from hf_paint.results.markdown import Markdown, code_span, fenced, front_matter, hub_link
from hf_paint.results.tables import table


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """Patches that were applied to a base.

    Attributes:
        base: Hub repository id, `id@revision` or folder of the base.
        base_fingerprint: Fingerprint of the base's image tower.
        patches: (Hub repository id, `id@revision` or folder, alpha) for each patch.
        tasks: Names of the tasks that the patches were made for.
    """

    base: str
    base_fingerprint: str
    patches: Sequence[tuple[str, float]]
    tasks: Sequence[str] = ()


TEMPLATE = Markdown("""\
---
{metadata}
---

# {title} with {number} patch{es} applied

The image tower is that of {base} with {added} added, `{formula}`. The text
tower is unchanged, so the model is used like its base.

{patches}

**This {result} was not evaluated.**{tasks} To compare it with its base, image by image:

{command}

A patched model is subject to the terms of its base model and of the patches.
""")


def applied_card(applied: Applied) -> str:
    """Return the text of the card. It contains no local paths."""
    base_id = _repo_id(applied.base)
    base = _link(applied.base)
    metadata = ModelCardData(
        base_model=base_id,
        base_model_relation="merge" if base_id else None,
        library_name="transformers",
        pipeline_tag="zero-shot-image-classification",
        license=license_of(applied.base),
        tags=["hf_paint", "merge", "paint"],
        hf_paint={
            "base_fingerprint": applied.base_fingerprint,
            "applied": [{"patch": _repo_id(name), "alpha": alpha} for name, alpha in applied.patches],
        },
    )
    several = len(applied.patches) > 1
    formula = "theta_0 + sum_i alpha_i (theta_i - theta_0)" if several else "theta_0 + alpha (theta_1 - theta_0)"
    patches = table(
        [["patch", "alpha"], *([_link(name), format_alpha(alpha)] for name, alpha in applied.patches)], text_columns=1
    )
    tasks = f" The tasks of the patches are in `tasks.json`: {', '.join(applied.tasks)}." if applied.tasks else ""
    against = base_id or "BASE"
    text = TEMPLATE.format(
        metadata=front_matter(metadata.to_yaml()),
        title=against.split("/")[-1] if base_id else "CLIP",
        number=len(applied.patches),
        es="es" if several else "",
        base=base,
        added="these patches" if several else "this patch",
        formula=formula,
        patches=patches,
        result="combination" if several else "model",
        tasks=tasks,
        command=fenced(f"hf-paint check THIS_MODEL --against {against} --tasks TASK ...", "bash"),
    )
    return str(ModelCard(text))


def _repo_id(name: str) -> str | None:
    """Return the Hub repository id in a name, or None for a folder."""
    repo_id, _ = split_revision(name)
    return repo_id if is_repo_id(repo_id) and not expand(name).exists() else None


def _link(name: str) -> Markdown:
    repo_id, revision = _repo_id(name), split_revision(name, "")[1]
    if repo_id is None:
        return Markdown("a local folder")
    return hub_link(repo_id) + (Markdown(" at {}").format(code_span(revision)) if revision else "")
