"""What a card says in words: what was done, how alpha was chosen, what was gained and what it cost."""

from collections.abc import Mapping, Sequence
from typing import Any

from hf_paint.alphas import Alpha, Coefficients, alpha_from_json, format_alpha
from hf_paint.curve import AlphaCurve, Gain


LINE = "`(1 - alpha) * theta_0 + alpha * theta_1`"
SPAN = "`theta_0 + sum_i a_i (theta_i - theta_0)`"
POINTS = {"sequential": "step", "parallel": "combination of coefficients"}
"""What the rows of the table are; alphas by default."""


def where(alpha: Alpha) -> str:
    """Return an alpha with its noun."""
    noun = "the coefficients" if isinstance(alpha, Coefficients) else "alpha"
    return f"{noun} {format_alpha(alpha)}"


def method_sentence(strategy: str, tasks: Sequence[str], alpha: Alpha) -> str:
    """Return what was done to the image tower, by the strategy."""
    names, head = ", ".join(tasks), "a frozen head made of text embeddings"
    if isinstance(alpha, Coefficients) and strategy == "sequential":
        return (
            f"task after task ({', '.join(alpha)}), the image tower was fine-tuned against {head}, and its weights "
            f"were interpolated with those from before the step, {LINE}, with the alphas {format_alpha(alpha)}."
        )
    if strategy == "parallel":
        return (
            f"the image tower was fine-tuned on each of {names} by itself, against {head}, and the changes of the "
            f"weights were added up, {SPAN}, with the coefficients {format_alpha(alpha)}."
        )
    return (
        f"the image tower was fine-tuned on {names} against {head}, and its weights were interpolated with those from "
        f"before, {LINE}, at alpha {format_alpha(alpha)}."
    )


def selection_sentence(strategy: str, selection: Mapping[str, Any]) -> str:
    """Return how alpha was chosen."""
    points = "combinations" if strategy == "parallel" else "alphas"
    rules = {
        "mean": "the highest mean of patching and supported accuracy, which weigh the same",
        "supported_within": (
            f"the highest patching accuracy among the {points} at which the supported accuracy is at most "
            f"{100 * selection['tolerance']:g} points below that of the model before patching"
        ),
    }
    rule = f"the rule `{selection['rule']}`"
    taken = f"Of {selection['num_alphas']} {points} {rule} took {format_alpha(alpha_from_json(selection['alpha']))}:"
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
    points = f"{100 * gain.gain:+.1f} points"
    return f"{gain.task} {100 * before.accuracy:.1f} % → {100 * after.accuracy:.1f} % ({points})"
