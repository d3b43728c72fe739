"""Tables of a card that only some runs have: normalised accuracies, and accuracies by type of answer."""

from hf_paint.hub.card_source import CardSource
from hf_paint.results.alphas import Alpha
from hf_paint.results.choice_text import before_and_after
from hf_paint.results.normalised import normalised_rows
from hf_paint.results.tables import percent, table


def normalised_table(source: CardSource, alpha: Alpha) -> str:
    """Return a table of normalised accuracies, or an empty string if no single model was evaluated."""
    if source.single_models is None:
        return ""
    rows = normalised_rows(source.curve, source.single_models, alpha, source.split)
    return table(rows, text_columns=2) if rows else ""


def answer_types_table(source: CardSource, alpha: Alpha) -> str:
    """Return a table with one row per task and answer type, or an empty string if no task has answer types."""
    curve, split = source.curve, source.split
    rows = [["task", "answer", f"{split} images", "zero-shot", "patched"]]
    for gain in curve.gains(alpha, split):
        records = before_and_after(curve, gain, alpha)
        if records is None or records[0].answer_types is None or records[1].answer_types is None:
            continue
        before, after = records[0].answer_types, records[1].answer_types
        for kind, (correct, total) in after.items():
            accuracies = [percent(before[kind][0] / total), percent(correct / total)]
            rows.append([gain.task, kind, str(total), *accuracies])
    return table(rows, text_columns=2) if len(rows) > 1 else ""
