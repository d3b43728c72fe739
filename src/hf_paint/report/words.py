"""The sentences of a report; those on results are the same as on the command line and on the card."""

from collections.abc import Iterator

from hf_paint.report.reading import Recorded
from hf_paint.results.bootstrap import NUM_RESAMPLES
from hf_paint.results.choice_text import limit_of_choice, sample_note, selection_sentences
from hf_paint.results.extra_metrics import EXTRA_METRICS
from hf_paint.results.outcome_text import advice, summarise
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
    """Return how alpha was chosen, and what another rule would choose."""
    selection, outcome = recorded.selection, recorded.outcome
    if outcome is None:
        return []
    other = advice(outcome, recorded.files.path.name)
    sentences = [f"{other[0].upper()}{other[1:]}."] if other else []
    if selection is None:
        return sentences
    several = " of each" if recorded.run.strategy in ("sequential", "parallel") else ""
    limit = limit_of_choice(selection["rule"], f"after one training run{several}")
    return [selection_sentences(recorded.run.strategy, selection), *sentences, limit]


def notes_of(recorded: Recorded) -> list[str]:
    """Return how the numbers were measured, and what their names mean."""
    curve = recorded.curve
    return [
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
