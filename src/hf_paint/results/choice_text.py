"""Sentences in the card of a patched model on its alpha: gains and losses, and how it was chosen."""

from collections.abc import Sequence

from hf_paint.results.alphas import Alpha, Coefficients, alpha_from_json, alpha_phrase, format_alpha, is_unpatched
from hf_paint.results.change_text import measured_images
from hf_paint.results.changes import is_certain
from hf_paint.results.curve import AlphaCurve
from hf_paint.results.extra_metrics import EXTRA_METRICS
from hf_paint.results.gains import Gain
from hf_paint.results.outcome import Outcome
from hf_paint.results.outcome_text import summarise, why
from hf_paint.results.records import Result
from hf_paint.results.selection import BY_ENTROPY, BY_HAND, EarlierChoice, Selection
from hf_paint.results.tables import in_points, percent, points


def claim_of_selected(outcome: Outcome, curve: AlphaCurve, split: str) -> str:
    """Return the sentences on gains and losses at the selected alpha, and on why it was selected."""
    if outcome.alpha is None or outcome.is_unpatched:
        return f"{summarise(outcome)} This is the base model itself."
    text = claim(curve, outcome.alpha, split)
    if outcome.rule == BY_HAND:
        return f"{text} {why(outcome).capitalize()}."
    is_known = outcome.on_validation or outcome.rule in ("none", "entropy")
    return f"{text} Why this alpha: {why(outcome)}." if is_known else text


def claim(curve: AlphaCurve, alpha: Alpha, split: str) -> str:
    """Return the sentence on gains and losses, patching tasks first; for alpha 0, that there are none."""
    if is_unpatched(alpha):
        return f"Nothing was patched: at {alpha_phrase(alpha)}, this is the base model itself."
    gains = curve.gains(alpha, split)
    ordered = [gain for role in ("patching", "supported") for gain in gains if gain.role == role]
    changes = "; ".join(_change(curve, gain, alpha) for gain in ordered)
    images = measured_images(split, [result for result in curve.results if result.split == split])
    return f"At {alpha_phrase(alpha)}, measured on {images}: {changes}."


def sample_note(curve: AlphaCurve, split: str) -> str:
    """Return a sentence on the tasks that were evaluated on samples of a split, or an empty string if none was."""
    drawn = {r.task: r.num_images for r in curve.results if r.split == split and r.sample is not None}
    if not drawn:
        return ""
    listed = ", ".join(f"{images} for {task}" for task, images in drawn.items())
    return f"Only samples of the {split} images were evaluated, drawn by class with a fixed seed: {listed}."


def before_and_after(curve: AlphaCurve, gain: Gain, alpha: Alpha) -> tuple[Result, Result] | None:
    """Return a task's results at alpha 0 and at `alpha`, or None if one of them is missing."""
    before, after = (curve.get(point, gain.role, gain.task, gain.split) for point in (0.0, alpha))
    return None if before is None or after is None else (before, after)


def _change(curve: AlphaCurve, gain: Gain, alpha: Alpha) -> str:
    records = before_and_after(curve, gain, alpha)
    if records is None:
        return gain.task
    changes = [f"{points(gain.gain, digits=1)} points"] + ([] if is_certain(gain) else ["not certain"])
    changes += filter(None, (metric.change(*records) for metric in EXTRA_METRICS))
    accuracies = [percent(record.accuracy, digits=1) for record in records]
    return f"{gain.task} {accuracies[0]} % → {accuracies[1]} % ({', '.join(changes)})"


def selection_sentences(strategy: str, selection: Selection) -> str:
    """Return how alpha was chosen and on which images."""
    alpha, rule = alpha_from_json(selection["alpha"]), selection["rule"]
    candidates = "combinations" if strategy == "parallel" and isinstance(alpha, Coefficients) else "alphas"
    earlier = _earlier(selection.get("history", []))
    if rule == BY_HAND:
        return (
            f"By hand, without a rule: {alpha_phrase(alpha)} is one of the {candidates} that were evaluated. Whoever "
            f"chose it may have seen the {selection['reported_on']} accuracies above.{earlier}"
        )
    if rule == "none":
        phrase = alpha_phrase(alpha)
        return f"No selection rule and no validation images were used: the method determines {phrase}.{earlier}"
    rules = {
        "mean": "the highest mean of patching and supported accuracy, with equal weights",
        "supported_within": (
            f"the highest patching accuracy among the {candidates} whose supported accuracy is at most "
            f"{in_points(selection['tolerance'])} below the unpatched model's"
        ),
        "entropy": f"{BY_ENTROPY}; patching and supported tasks have equal weights",
    }
    choice = f"Of {selection['num_alphas']} {candidates}, the rule `{rule}` chose {format_alpha(alpha)}, which has"
    if strategy == "sequential":
        choice = f"In each step, with the tasks so far as patching tasks, the rule `{rule}` chose the alpha with"
    return (
        f"{choice} {rules[rule]}. It used only the {selection['chosen_on']} images; the numbers above are from the "
        f"{selection['reported_on']} images. Ties went to the smallest {candidates.removesuffix('s')}.{earlier}"
    )


def _earlier(history: Sequence[EarlierChoice]) -> str:
    """Return a sentence on the choices that were replaced, the last one first; empty if there are none."""
    choices = [f"{alpha_phrase(alpha_from_json(c['alpha']))} ({c['rule']}, {c['chosen_at'][:10]})" for c in history]
    return f" Earlier choices in this run: {', '.join(reversed(choices))}." if choices else ""


def limit_of_choice(rule: str, when: str) -> str:
    """Return what the way alpha was chosen says of the numbers; `when` is a phrase like `after one training run`."""
    if rule == BY_HAND:
        return f"Alpha was chosen by hand {when}, so the accuracies above may be optimistic."
    if rule == "none":
        return f"Alpha was not chosen on any images, and the model was made {when}."
    if rule == "entropy":
        return (
            f"Alpha was chosen without labels, on a single validation split per task, {when}. Predictions can be "
            "certain and wrong, so another alpha may be more accurate."
        )
    return f"Alpha was chosen on a single validation split per task, {when}."
