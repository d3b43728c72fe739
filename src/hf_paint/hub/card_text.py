"""What a card says in words: what was done, how alpha was chosen, what was gained and what it cost."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from hf_paint.hub.card_source import CardSource
from hf_paint.merging.base import LINE, Method
from hf_paint.results.alphas import Alpha, Coefficients, alpha_from_json, format_alpha
from hf_paint.results.curve import AlphaCurve, Gain
from hf_paint.results.records import ROLES


SPAN = "`theta_0 + sum_i a_i (theta_i - theta_0)`"


def points(strategy: str, alpha: Alpha) -> str:
    """Return what the rows of the table are."""
    if not isinstance(alpha, Coefficients):
        return "alpha"
    return "step" if strategy == "sequential" else "combination of coefficients"


def where(alpha: Alpha) -> str:
    """Return an alpha with its noun."""
    noun = "the coefficients" if isinstance(alpha, Coefficients) else "alpha"
    return f"{noun} {format_alpha(alpha)}"


def trained_head_sentence(recipe: Mapping[str, Any], tasks: Sequence[str], alpha: Alpha) -> str:
    """Return what was done where the head was trained too."""
    trained = "with the image tower"
    if recipe.get("freeze_tower"):
        trained = "while the image tower was frozen"
    elif recipe.get("head_steps"):
        trained = f"first alone, for {recipe['head_steps']} steps, and then with the image tower"
    return (
        f"a classification head that starts as text embeddings was trained on {', '.join(tasks)} {trained} "
        f"([WiSE-FT](https://arxiv.org/abs/2109.01903)), and the weights of both were interpolated with those from "
        f"before, {LINE}, at alpha {format_alpha(alpha)}."
    )


def method_sentence(
    strategy: str,
    tasks: Sequence[str],
    alpha: Alpha,
    method: Method,
    thetas: Mapping[str, str | None] = MappingProxyType({}),
) -> str:
    """Return what was done to the image tower, by the strategy and the method; `thetas` were fine-tuned by others."""
    sentences = [_strategy_sentence(strategy, tasks, alpha, method), _taken(thetas), method.sentence()]
    return " ".join(filter(None, sentences))


def _strategy_sentence(strategy: str, tasks: Sequence[str], alpha: Alpha, method: Method) -> str:
    names, head = ", ".join(tasks), "a frozen head made of text embeddings"
    if isinstance(alpha, Coefficients) and strategy == "sequential":
        return (
            f"task after task ({', '.join(alpha)}), the image tower was fine-tuned against {head}, and its weights "
            f"were interpolated with those from before the step, {LINE}, with the alphas {format_alpha(alpha)}."
        )
    if strategy == "parallel" and method.takes == "one":
        return (
            f"the image tower was fine-tuned on each of {names} by itself, against {head}, and the changes of the "
            f"weights were added up, {SPAN}, with the coefficients {format_alpha(alpha)}."
        )
    several = " several times" if method.takes == "several" else ""
    each = f"each of {names} by itself," if strategy == "parallel" else f"{names}{several}"
    way = f", {method.formula}," if method.formula else ""
    return (
        f"the image tower was fine-tuned on {each} against {head}, and its weights were interpolated with those from "
        f"before{way} at alpha {format_alpha(alpha)}."
    )


def _taken(thetas: Mapping[str, str | None]) -> str:
    """Return which models were not trained here."""
    links = [f"{t} ([{name}](https://huggingface.co/{name}))" if name else t for t, name in thetas.items()]
    return f"Models that others had fine-tuned were taken for {', '.join(links)}." if links else ""


def adapter_sentence(recipe: Mapping[str, Any]) -> str:
    """Return what was trained where it was an adapter; nothing where it was all weights."""
    if not recipe.get("use_peft"):
        return ""
    kind = "DoRA" if recipe.get("use_dora") else "LoRA"
    return f" What was trained is a {kind} adapter of rank {recipe.get('lora_r', 16)}, merged into these weights."


def selection_sentence(strategy: str, selection: Mapping[str, Any]) -> str:
    """Return how alpha was chosen."""
    alpha = alpha_from_json(selection["alpha"])
    points = "combinations" if strategy == "parallel" and isinstance(alpha, Coefficients) else "alphas"
    if selection["rule"] == "none":
        return f"No rule and no validation image chose {where(alpha)}: the method itself says how far to go."
    rules = {
        "mean": "the highest mean of patching and supported accuracy, which weigh the same",
        "supported_within": (
            f"the highest patching accuracy among the {points} at which the supported accuracy is at most "
            f"{100 * selection['tolerance']:g} points below that of the model before patching"
        ),
    }
    rule = f"the rule `{selection['rule']}`"
    taken = f"Of {selection['num_alphas']} {points} {rule} took {format_alpha(alpha)}:"
    if strategy == "sequential":
        taken = f"In each step, with the tasks seen so far as patching tasks, {rule} took"
    return (
        f"{taken} {rules[selection['rule']]}. It read the {selection['chosen_on']} images only; the numbers above are "
        f"of the {selection['reported_on']} images. Of equally good {points} the smallest was taken."
    )


def claim(curve: AlphaCurve, alpha: Alpha, split: str) -> str:
    """Return the card's one sentence: what was gained where, and what it cost."""
    gains = {role: [g for g in curve.gains(alpha, split) if g.role == role] for role in ("patching", "supported")}
    parts = [f"{_change(curve, gain, alpha)}" for gain in [*gains["patching"], *gains["supported"]]]
    return f"At {where(alpha)}, measured on {split} images: {'; '.join(parts)}."


def _change(curve: AlphaCurve, gain: Gain, alpha: Alpha) -> str:
    before, after = (
        curve.get(0.0, gain.role, gain.task, gain.split),
        curve.get(alpha, gain.role, gain.task, gain.split),
    )
    if before is None or after is None:
        return gain.task
    changes = [f"{100 * gain.gain:+.1f} points"]
    if before.attack_success is not None and after.attack_success is not None:
        rates = [100 * result.metrics["attack_success"] for result in (before, after)]
        changes.append(f"attack success {rates[0]:.1f} % → {rates[1]:.1f} %")
    if before.mean_absolute_error is not None and after.mean_absolute_error is not None:
        changes.append(f"mean absolute error {before.mean_absolute_error:.2f} → {after.mean_absolute_error:.2f}")
    return f"{gain.task} {100 * before.accuracy:.1f} % → {100 * after.accuracy:.1f} % ({', '.join(changes)})"


def answer_type_rows(curve: AlphaCurve, alpha: Alpha, split: str) -> list[dict[str, Any]]:
    """Return, for each type of answer of the multiple-choice tasks, the accuracies at alpha 0 and at alpha."""
    rows = []
    for role in ROLES:
        for task in curve.tasks.get(role, []):
            before, after = (curve.get(point, role, task, split) for point in (0.0, alpha))
            if before is None or after is None or before.answer_types is None or after.answer_types is None:
                continue
            for kind, (correct, total) in after.answer_types.items():
                percent = {"before": 100 * before.answer_types[kind][0] / total, "after": 100 * correct / total}
                rows.append({"task": task, "type": kind, "total": total} | percent)
    return rows


def _method(source: CardSource, tasks: Sequence[str], alpha: Alpha) -> str:
    if source.trains_head:
        return trained_head_sentence(source.recipe, tasks, alpha)
    sentence = method_sentence(source.strategy, tasks, alpha, source.method, source.thetas)
    return sentence + adapter_sentence(source.recipe)


def _trained(source: CardSource, tasks: Sequence[str]) -> list[str]:
    """Return the tasks that were trained on in this run, and not by others."""
    if source.strategy == "parallel":
        return [task for task in tasks if task not in source.thetas]
    return [] if source.thetas and not source.recipe.get("ingredients") else list(tasks)


def _gain_rows(curve: AlphaCurve, alpha: Alpha, split: str) -> list[dict[str, Any]]:
    rows = []
    for gain in curve.gains(alpha, split):
        before, after = (
            curve.get(0.0, gain.role, gain.task, gain.split),
            curve.get(alpha, gain.role, gain.task, gain.split),
        )
        if before is not None and after is not None:
            interval = (
                "" if gain.low is None or gain.high is None else f" ({100 * gain.low:+.2f} to {100 * gain.high:+.2f})"
            )
            rows.append(
                {
                    "task": gain.task,
                    "role": gain.role,
                    "total": after.total,
                    "before": f"{100 * before.accuracy:.2f}",
                    "after": f"{100 * after.accuracy:.2f}",
                    "gain": f"{100 * gain.gain:+.2f}{interval}",
                }
            )
    return rows
