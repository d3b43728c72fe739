"""The outcome of a run in words and in a table; the command line, the model card and Python share them."""

import shlex
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from hf_paint.results.alphas import Alpha, Coefficients, alpha_phrase, is_unpatched, total
from hf_paint.results.alternatives import Alternative
from hf_paint.results.change_text import (
    CHOOSING,
    MOST_NAMED,
    other_metrics,
    signed_interval,
    signed_points,
    what_changed,
)
from hf_paint.results.changes import mean_loss
from hf_paint.results.outcome import Outcome
from hf_paint.results.records import Role
from hf_paint.results.selection import BY_ENTROPY, BY_HAND
from hf_paint.results.tables import in_points, marked, percent


def summarise(outcome: Outcome, *, run: str | Path | None = None) -> str:
    """Return one sentence on what happened: gains and losses with 95 % intervals, the alpha, and why it was chosen.

    Args:
        outcome: Outcome of a run.
        run: Run folder; if given, the sentence ends with what `hf-paint select` would choose instead.
    """
    parts = [_happened(outcome), "" if run is None else advice(outcome, run)]
    return "; ".join(filter(None, parts)) + "."


def outcome_rows(outcome: Outcome) -> list[list[str]]:
    """Return a table with one row per task, header first: role, images, accuracy before and after, and gain.

    Accuracies are in percent and gains in points, with 95 % paired bootstrap intervals. Other metrics follow in rows
    of their own. Numbers marked with `~` were inferred in part by an adaptive sweep.
    """
    splits = list(dict.fromkeys(change.split for change in outcome.changes))
    images = f"{splits[0]} images" if len(splits) == 1 else "images"
    rows = [["task", "role", images, "before", "after", "gain (95 % interval)"]]
    for change in outcome.changes:
        count = change.after.num_images if len(splits) == 1 else f"{change.after.num_images} {change.split}"
        accuracies = [_accuracy(result.accuracy, exact=result.exact) for result in (change.before, change.after)]
        bounds = change.gain.interval
        gain = signed_points(change.gain.gain) + ("" if bounds is None else f" ({signed_interval(bounds)})")
        rows.append([change.task, change.role, count, *accuracies, marked(gain, exact=change.exact)])
        rows += [[name, "", "", *values, ""] for name, values in other_metrics(change, answers=True).items()]
    return rows


def _happened(outcome: Outcome) -> str:
    if outcome.alpha is None:
        return "No alpha was chosen (`selection: none`), so no patched model was saved"
    if outcome.is_unpatched:
        return f"Nothing was patched: {_why_nothing(outcome)}"
    place = alpha_phrase(outcome.alpha)
    if not outcome.changes:
        return f"The model at {place} was saved, but no task was evaluated both there and at alpha 0"
    return f"{what_changed(outcome.changes)} at {place}: {why(outcome)}"


def why(outcome: Outcome) -> str:
    """Return why an alpha other than 0 was chosen, as a clause without its full stop."""
    if outcome.rule == BY_HAND:
        return "this alpha was chosen by hand"
    if outcome.rule == "none":
        return f"no rule chose it, the method `{outcome.method}` decides how far to go"
    where = "in each step, " if outcome.strategy == "sequential" else ""
    if outcome.rule == "mean":
        return f"{where}the rule `mean` weighs both sides the same"
    if outcome.rule == "entropy":
        return f"{where}the rule `entropy` takes {BY_ENTROPY}"
    return _what_is_kept(outcome)


def _what_is_kept(outcome: Outcome) -> str:
    """Return how far the supported tasks have fallen, on the images that the rule saw and on those it did not see."""
    loss, tolerance = outcome.supported_loss, Fraction(str(outcome.tolerance))
    if loss is None:
        return "the rule `supported_within` chose it"
    subject, validation = _mean_of(outcome, "supported"), "on validation images"
    if loss > tolerance:
        below = f"{percent(loss)} points below zero-shot"
        return f"{subject} falls {below} {validation}, more than the {in_points(tolerance)} that the rule allows"
    text = f"{subject} stays within {in_points(tolerance)} of zero-shot {validation}"
    if tolerance == 0:
        text = f"{subject} loses nothing {validation}"
    supported = [change for change in outcome.on_validation if change.role == "supported"]
    worst = max(supported, key=lambda change: change.loss)
    if worst.loss > tolerance:
        text += f", although {worst.task} alone loses {percent(worst.loss)} points"
    tested = [change for change in outcome.changes if change.role == "supported" and change.split != "validation"]
    if len(tested) == len(supported) and (mean_loss(tested) or 0) > tolerance:
        text += f", but not on {tested[0].split} images"
    return text


def _why_nothing(outcome: Outcome) -> str:
    """Return why alpha 0 was chosen."""
    if outcome.rule == BY_HAND:
        return "alpha 0 was chosen by hand"
    if outcome.rule == "none":
        return f"no rule was used, and the method `{outcome.method}` gives the base"
    if outcome.strategy == "sequential":
        return f"the rule `{outcome.rule}` chose alpha 0 in every step"
    if all(map(is_unpatched, outcome.candidates)):
        return "no alpha other than 0 was evaluated on validation images"
    none, patching = _no_other(outcome.candidates), _mean_of(outcome, "patching")
    if outcome.rule == "mean":
        return f"{none} raises the mean of patching and supported accuracy on validation images"
    if outcome.rule == "entropy":
        return f"{none} has a lower mean entropy of predictions on validation images, compared without labels"
    if not outcome.improvable:
        return f"{none} improves {patching} on validation images"
    tolerance = Fraction(str(outcome.tolerance))
    lost = f"more than {in_points(tolerance)}" if tolerance else "anything"
    supported = _mean_of(outcome, "supported")
    return f"{none} improves {patching} on validation images without losing {lost} on {supported}"


def _no_other(candidates: Sequence[Alpha]) -> str:
    if any(isinstance(alpha, Coefficients) for alpha in candidates):
        return "no other combination of coefficients that was evaluated"
    return "no other alpha" if any(total(alpha) < 0 for alpha in candidates) else "no alpha above 0"


def advice(outcome: Outcome, folder: str | Path) -> str:
    """Return what `hf-paint select` would choose instead, as a clause; empty if that is not known, or the same."""
    run = shlex.quote(str(folder))
    if outcome.alpha is None:
        return f"`hf-paint select {run} --alpha A` saves the model at one of the alphas that were evaluated"
    other = outcome.alternative
    if other is None:
        return ""
    command = f"`hf-paint select {run} {other.flags}`"
    if is_unpatched(other.alpha):
        return f"{command} would patch nothing"
    verb = "keeps more" if other.keeps_more and not outcome.is_unpatched else "would choose"
    return f"{command} {verb}: {alpha_phrase(other.alpha)}, with {_promise(outcome, other)}"


def would_choose(outcome: Outcome, rule: str, other: Alternative, folder: str | Path) -> str:
    """Return what a rule would choose and gain, as a sentence, with the command that chooses it.

    Args:
        outcome: Outcome of the run.
        rule: Name of the rule.
        other: What it would choose.
        folder: Run folder.
    """
    nothing = is_unpatched(other.alpha)
    if outcome.alpha is not None and (other.alpha == outcome.alpha or (nothing and outcome.is_unpatched)):
        return f"The rule `{rule}` would choose the same."
    what = "patch nothing" if nothing else f"choose {alpha_phrase(other.alpha)}, with {_promise(outcome, other)}"
    return f"The rule `{rule}` would {what}: `hf-paint select {shlex.quote(str(folder))} {other.flags}`."


def _promise(outcome: Outcome, other: Alternative) -> str:
    about = "" if other.exact else "about "
    sides = zip(CHOOSING, other.gains, strict=True)
    gains = [f"{_mean_of(outcome, role)} {about}{signed_points(gain)}" for role, gain in sides]
    return f"{' and '.join(gains)} on validation images"


def _mean_of(outcome: Outcome, role: Role) -> str:
    """Return what the mean accuracy over the tasks in a role is a mean of."""
    names = outcome.named(role)
    if len(names) == 1:
        return names[0]
    if len(names) > MOST_NAMED or not names:
        return f"the mean of the {len(names)} {role} tasks"
    return f"the mean of {', '.join(names[:-1])} and {names[-1]}"


def _accuracy(accuracy: float, *, exact: bool) -> str:
    return marked(percent(accuracy, digits=1), exact=exact)
