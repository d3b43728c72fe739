"""The sentences of a report; those on results are the same as on the command line and on the card."""

from collections.abc import Iterator

from hf_paint.report.reading import Recorded
from hf_paint.results.alternatives import rules_of
from hf_paint.results.bootstrap import NUM_RESAMPLES
from hf_paint.results.choice_text import limit_of_choice, sample_note, selection_sentences
from hf_paint.results.extra_metrics import EXTRA_METRICS
from hf_paint.results.outcome_text import advice, summarise, would_choose
from hf_paint.results.tables import INEXACT_NOTE


def claim_of(recorded: Recorded) -> str:
    """Return what happened in one sentence; of an unfinished run, that it is not finished."""
    if recorded.outcome is None:
        return (
            "This run is not finished: it has chosen no alpha yet, and some points may be missing. Run the same "
            "`hf-paint patch` again to finish it."
        )
    return summarise(recorded.outcome)


def choice_of(recorded: Recorded) -> list[str]:
    """Return how alpha was chosen, and what every other rule would choose."""
    selection, outcome, run = recorded.selection, recorded.outcome, recorded.run
    if outcome is None:
        return []
    folder, rules = recorded.files.path.name, rules_of(run.curve, selection, run.recipe)
    sentences = [would_choose(outcome, rule, other, folder) for rule, other in rules.items()]
    if outcome.alternative is None or outcome.alternative.flags not in {other.flags for other in rules.values()}:
        other = advice(outcome, folder)
        sentences += [f"{other}."] if other else []
    if selection is None:
        return sentences
    several = " of each" if run.strategy in ("sequential", "parallel") else ""
    limit = limit_of_choice(selection["rule"], f"after one training run{several}")
    return [selection_sentences(run.strategy, selection), *sentences, limit]


def notes_of(recorded: Recorded) -> list[str]:
    """Return how the numbers were measured, and what their names mean."""
    curve = recorded.curve
    searched = (
        "Every combination was evaluated on validation images, which are shown here. The sentence at the top and the "
        "table of models are on test images."
    )
    return [
        *([searched] if recorded.split != curve.reported_split else []),
        *filter(None, (sample_note(curve, split) for split in ("test", "validation"))),
        "Accuracies have Wilson's 95 % interval. Changes from zero-shot have 95 % intervals from "
        f"{NUM_RESAMPLES} paired bootstrap resamples of the images; they do not account for variation across seeds.",
        *([] if all(result.exact for result in curve.results) else [INEXACT_NOTE]),
        *(metric.note for metric in EXTRA_METRICS if any(metric.key in result.metrics for result in curve.results)),
    ]


def facts_of(recorded: Recorded) -> Iterator[tuple[str, str]]:
    """Yield pairs of name and text: what was run, on which base, and with which versions."""
    recipe, facts = recorded.run.recipe, recorded.facts
    yield "run folder", recorded.files.path.name
    yield "base model", recorded.run.base
    if facts.get("base_license"):
        yield "licence of the base", str(facts["base_license"])
    if recipe.get("base_fingerprint"):
        yield "fingerprint of the base", str(recipe["base_fingerprint"])
    yield "precision of evaluation", " and ".join(sorted({result.precision for result in recorded.curve.results}))
    if facts.get("save_dtype"):
        yield "saved as", str(facts["save_dtype"])
    yield from ((str(name), str(version)) for name, version in facts.get("versions", {}).items())
