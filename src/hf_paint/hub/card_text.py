"""Sentences in the card of a patched model: introduction, branches, training and limits."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from hf_paint.hub.card_source import CardSource
from hf_paint.merging.base import LINE
from hf_paint.results.alphas import Alpha, Coefficients, alpha_phrase, format_alpha
from hf_paint.results.choice_text import limit_of_choice
from hf_paint.results.extra_metrics import notes_on
from hf_paint.results.markdown import Markdown, hub_link
from hf_paint.results.robustness_table import RobustnessTable
from hf_paint.results.tables import INEXACT, INEXACT_NOTE, enumerated


SPAN = "`theta_0 + sum_i a_i (theta_i - theta_0)`"
REPLAY_SHARE = 0.25
"""Default of `replay_share`, which a recipe omits."""
PENALTIES = {
    "ldifs": Markdown("of features ([LDIFS](https://arxiv.org/abs/2308.13320))"),
    "l2_sp": Markdown("of weights ([L2-SP](https://arxiv.org/abs/1802.01483))"),
}
FROZEN_HEAD = "a frozen zero-shot head made of text embeddings"


def row_name(strategy: str, alpha: Alpha) -> str:
    """Return what a row of the accuracy table stands for."""
    if not isinstance(alpha, Coefficients):
        return "alpha"
    return "step" if strategy == "sequential" else "combination of coefficients"


def introduction(
    source: CardSource, tasks: Sequence[str], alpha: Alpha, *, is_patch: bool, base: Markdown
) -> Markdown:
    """Return the introduction: what kind of model it is and how it was made.

    Args:
        source: Content of the card.
        tasks: Names of the tasks on which the model was patched.
        alpha: Alpha of the model.
        is_patch: Whether the repository contains `theta_1 - theta_0` instead of a model.
        base: Name of the base, with a link.
    """
    model = f"an ordinary {source.family.name} model"
    opening = Markdown("This is {}. Use it like its base model: it still recognises new classes by name.").format(
        model
    )
    if is_patch:
        opening = Markdown(
            "This is a *patch*: it contains only the changes that fine-tuning made to the image tower of {}. Applied "
            "to that model, it gives {}, which still recognises new classes by name."
        ).format(base, model)
    return Markdown(
        "{}\n\nThe model was *patched* ([PAINT](https://arxiv.org/abs/2208.05592)): {} The text tower is unchanged."
    ).format(opening, _method(source, tasks, alpha))


def _method(source: CardSource, tasks: Sequence[str], alpha: Alpha) -> Markdown:
    """Return the sentences on fine-tuning and interpolation."""
    if source.trains_head:
        return Markdown(" ").join(filter(None, [_trained_head(source.recipe, tasks, alpha), _kept(source)]))
    sentences = [
        _strategy(source, tasks, alpha),
        _given_thetas(source.thetas),
        source.method.sentence(),
        _coefficients(source.coefficients),
        _adapter(source.recipe),
        _kept(source),
    ]
    return Markdown(" ").join(filter(None, sentences))


def _coefficients(coefficients: Mapping[str, Mapping[str, float]]) -> Markdown:
    """Return the learned coefficient of each model: its mean over the layers and its range, if there are several."""
    if not coefficients:
        return Markdown()
    layers, listed = [*coefficients.values()], []
    for model in layers[0]:
        values = [layer[model] for layer in layers if model in layer]
        spread = f" ({min(values):.2f} to {max(values):.2f})" if len(values) > 1 else ""
        listed.append(f"{model} {fmean(values):.2f}{spread}")
    over = ", means over the layers and their ranges" if len(layers) > 1 else ""
    return Markdown("The learned coefficients{}: {}.").format(over, ", ".join(listed))


def _trained_head(recipe: Mapping[str, Any], tasks: Sequence[str], alpha: Alpha) -> Markdown:
    order = "together with the image tower"
    if recipe.get("freeze_tower"):
        order = "while the image tower was frozen"
    elif recipe.get("head_steps"):
        order = f"first alone, for {recipe['head_steps']} steps, and then together with the image tower"
    return Markdown(
        "a classification head, initialised with text embeddings, was trained on {} {} "
        "([WiSE-FT](https://arxiv.org/abs/2109.01903)), and the weights of both were interpolated with their original "
        "values, {}, at alpha {}."
    ).format(", ".join(tasks), order, LINE, format_alpha(alpha))


def _projection(alpha: Coefficients) -> Markdown:
    return Markdown(
        "the image tower was fine-tuned on one task after another ({}), each time from the original weights and "
        "against {}. The change for each task was added without the directions of those before it "
        "([OPCM](https://arxiv.org/abs/2501.09522)), and the sum was scaled to the mean norm of the changes. After "
        "each step, the original weights were interpolated with the merged ones, {}, with the alphas {}; the model is "
        "that of the last step."
    ).format(", ".join(alpha), FROZEN_HEAD, LINE, format_alpha(alpha))


def _strategy(source: CardSource, tasks: Sequence[str], alpha: Alpha) -> str:
    names, method = enumerated(tasks), source.method
    if isinstance(alpha, Coefficients) and source.recipe.get("merge") == "projection":
        return _projection(alpha)
    if isinstance(alpha, Coefficients) and source.strategy == "sequential":
        return (
            f"the image tower was fine-tuned on one task after another ({', '.join(alpha)}), against {FROZEN_HEAD}, "
            f"and after each step its weights were interpolated with those before the step, {LINE}, with the alphas "
            f"{format_alpha(alpha)}."
        )
    if source.strategy == "parallel" and method.takes == "one":
        return (
            f"the image tower was fine-tuned on each task separately ({names}), against {FROZEN_HEAD}, and the weight "
            f"changes were added, {SPAN}, with the coefficients {format_alpha(alpha)}."
        )
    several = " several times" if method.takes == "several" else ""
    target = f"each task separately ({names})," if source.strategy == "parallel" else f"{names}{several}"
    formula = f", {method.formula}," if method.formula else ""
    return (
        f"the image tower was fine-tuned on {target} against {FROZEN_HEAD}, and its weights were interpolated with "
        f"the original weights{formula} at alpha {format_alpha(alpha)}."
    )


def _given_thetas(thetas: Mapping[str, str | None]) -> str:
    links = [Markdown("{} ({})").format(name, hub_link(repo)) if repo else name for name, repo in thetas.items()]
    return Markdown("Existing fine-tuned models were used for {}.").format(Markdown(", ").join(links)) if links else ""


def _adapter(recipe: Mapping[str, Any]) -> str:
    if not recipe.get("use_peft"):
        return ""
    kind = "DoRA" if recipe.get("use_dora") else "LoRA"
    return f"A {kind} adapter of rank {recipe.get('lora_r', 16)} was trained and merged into these weights."


def _kept(source: CardSource) -> Markdown:
    names = [task.name for task in source.replay_tasks]
    share = float(source.recipe.get("replay_share", REPLAY_SHARE))
    return kept_sentences(names, share, source.recipe.get("regularization") or {})


def kept_sentences(replayed: Sequence[str], share: float, regularization: Mapping[str, float]) -> Markdown:
    """Return how fine-tuning was kept from changing too much; nothing if it was not.

    Args:
        replayed: Names of the tasks whose train images were mixed in.
        share: Share of their images.
        regularization: Penalty -> weight.
    """
    sentences, weights = [], {name: weight for name, weight in regularization.items() if weight}
    if replayed:
        sentences.append(
            Markdown(
                "In training, {} of the images were train images of {}, each compared with the classes of its task."
            ).format(f"{100 * share:g} %", ", ".join(replayed))
        )
    if weights:
        shown = Markdown(" and ").join(
            Markdown("{}, with weight {}").format(PENALTIES[name], f"{weight:g}") for name, weight in weights.items()
        )
        sentences.append(Markdown("The loss also penalised changes {}.").format(shown))
    return Markdown(" ").join(sentences)


def training_sentence(source: CardSource, tasks: Sequence[str], prompt: Markdown) -> Markdown:
    """Return a sentence on the tasks that this run trained on, followed by an introduction to the recipe."""
    trained = _trained_tasks(source, tasks)
    summary = "This run did not train any model: it used existing fine-tuned models."
    if trained:
        processes = f" by {source.num_processes} processes" if source.num_processes > 1 else ""
        where = f"on the train split of {', '.join(trained)}"
        summary = Markdown("Trained{} {} with the prompts of each task ({}).").format(processes, where, prompt)
    return Markdown("{} Recipe (all other settings are PAINT defaults):").format(summary)


def _trained_tasks(source: CardSource, tasks: Sequence[str]) -> list[str]:
    if source.strategy == "parallel":
        return [task for task in tasks if task not in source.thetas]
    return [] if source.thetas and not source.recipe.get("ingredients") else list(tasks)


def branches_sentence(rows: str, branches: Sequence[str], model_class: str) -> str:
    """Return which branches the repository has, if any; `rows` is the `row_name` of the table."""
    if not branches:
        return ""
    subject, model = "The unpatched model", "it"
    if rows in ("alpha", "step"):
        subject, model = f"Every {rows}", "one"
    return (
        f"{subject} has a branch in this repository with a complete model: "
        f'{", ".join(f"`{branch}`" for branch in branches)}. Load {model} with `revision="{branches[0]}"`, in '
        f"`pipeline` or in `{model_class}.from_pretrained`."
    )


def other_alpha_sentence(selected: Alpha, *, has_branches: bool) -> str:
    """Return where to find the selected model, for the card of a different alpha."""
    place = ", on the branch `main`" if has_branches else ""
    return f"This is one of several models. The selected one has {alpha_phrase(selected)}{place}."


def table_notes(table: str) -> list[str]:
    """Return explanations of the marks and columns in an accuracy table."""
    return [*([INEXACT_NOTE] if INEXACT in table else []), *notes_on(table)]


def robustness_caption(table: RobustnessTable) -> Markdown:
    """Return a caption that defines the columns of a robustness table."""
    num_shifts, effective = len(table.shift_tasks), Markdown()
    shifts = f"{num_shifts} distribution shift{'s' if num_shifts > 1 else ''}"
    if table.baseline is not None:
        line = f"{table.baseline.slope:.3f} · logit(reference) {table.baseline.intercept:+.3f}"
        effective = Markdown(
            "; *effective robustness* is the accuracy under shift minus the accuracy that a baseline predicts from "
            "the reference ([Taori et al., 2020](https://arxiv.org/abs/2007.00644)): in logits, {}"
        ).format(line)
    return Markdown(
        "Accuracy in percent on the reference ({}, {} images), and its mean over {} (test images). *Relative "
        "robustness* is the gain in that mean over the unpatched model, in points{}. 95 % bootstrap intervals are in "
        "parentheses."
    ).format(", ".join(table.reference_tasks), table.reference_split, shifts, effective)


def limits(source: CardSource) -> list[str]:
    """Return the limitations of the model and of the numbers in the card."""
    precision = " and ".join(sorted({result.precision for result in source.curve.results}))
    runs = " of each" if source.strategy in ("sequential", "parallel") else ""
    return [
        "Only the tasks in the table were measured. Accuracy on other tasks may have changed, and tasks unlike "
        "the supported ones may lose more accuracy.",
        f"Accuracies were measured in {precision} arithmetic, before the weights were rounded to {source.save_dtype}.",
        limit_of_choice(source.selection["rule"], f"after one training run{runs}"),
        "The patched model likely inherits its base model's biases and failure modes.",
    ]
