"""The section of a card on how the method and alpha were chosen."""

from hf_paint.hub.card_source import CardSource
from hf_paint.results.choice_text import sample_note, selection_sentences
from hf_paint.results.markdown import Markdown
from hf_paint.results.tables import table
from hf_paint.results.tried_methods import TRIED_CAPTION, tried_rows


def choice_section(source: CardSource) -> Markdown:
    """Return how alpha was chosen and, for `method: auto`, what each merge reached."""
    note = sample_note(source.curve, source.selection["chosen_on"] or "")
    parts = [selection_sentences(source.strategy, source.selection), note]
    text = Markdown("{}").format(" ".join(filter(None, parts)))
    if source.tried is None:
        return text
    rows = tried_rows(source.tried, source.recipe)
    return Markdown("{}\n\n{}\n\n{}").format(text, TRIED_CAPTION, table(rows, text_columns=1))
