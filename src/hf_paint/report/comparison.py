"""What a patch changes about one picture: the candidates before and after, as rows and as a table on a page."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from html import escape

from hf_paint.report.live import Pixels
from hf_paint.report.subject import Subject
from hf_paint.results.alphas import Alpha, Coefficients, alpha_phrase


MOST_ROWS = 10
"""Candidates in the table; the best ones before and after are always among them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A candidate with its probability in [0, 1] before and after, and whether it is right, if that is known."""

    word: str
    before: float
    after: float
    right: bool | None


def split_words(text: str) -> list[str]:
    """Return the candidates in a text: one per line, or separated by commas if it has only one line.

    Example:
        >>> split_words("cat, dog, cat"), split_words(chr(10).join(["crane, bird", "lorry"]))
        (['cat', 'dog'], ['crane, bird', 'lorry'])
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    words = lines if len(lines) > 1 else [word.strip() for line in lines for word in line.split(",")]
    return list(dict.fromkeys(filter(None, words)))


def compare(
    subject: Subject,
    pixels: Pixels,
    words: Sequence[str],
    templates: Sequence[str],
    alpha: Alpha,
    right: Collection[str] = (),
    *,
    rough: bool = False,
) -> list[Answer]:
    """Return the candidates for a picture, the most probable after patching first.

    Args:
        subject: Patch to try out.
        pixels: The picture.
        words: Candidates.
        templates: Prompts, each with one `{}`.
        alpha: Position after patching; before is alpha 0.
        right: The right candidates, if they are known.
        rough: Take less time after patching, see `LivePatch.probabilities`.

    Raises:
        InputError: If there are no words, or a template does not have exactly one `{}`.
    """
    live = subject.live
    before = live.probabilities(pixels, words, templates).tolist()
    after = live.probabilities(pixels, words, templates, alpha, rough=rough).tolist()
    answers = [
        Answer(word=word, before=x, after=y, right=word in right if right else None)
        for word, x, y in zip(words, before, after, strict=True)
    ]
    return sorted(answers, key=lambda answer: -answer.after)


def sentence(answers: Sequence[Answer], alpha: Alpha) -> str:
    """Return in one sentence whether the answer changes, and whether it is right.

    Example:
        >>> answers = [Answer(word="dog", before=0.25, after=0.5, right=None)]
        >>> sentence(answers, 0.3)
        'The answer stays dog: 25.0 % before, 50.0 % at alpha 0.30.'
    """
    best, first = answers[0], max(answers, key=lambda answer: answer.before)
    place = f"at {alpha_phrase(alpha)}"
    verdict = {True: " That is right.", False: " That is wrong.", None: ""}[best.right]
    if best.word == first.word:
        return (
            f"The answer stays {best.word}: {_percent(best.before)} before, {_percent(best.after)} {place}.{verdict}"
        )
    return (
        f"The answer changes from {first.word} ({_percent(first.before)}) to {best.word} ({_percent(best.after)} "
        f"{place}).{verdict}"
    )


def comparison_html(answers: Sequence[Answer], alpha: Alpha, *, is_patched: bool = True) -> str:
    """Return the comparison as a sentence and a table in HTML, in which words are text.

    Args:
        answers: Candidates, the most probable after patching first.
        alpha: Position after patching.
        is_patched: Whether there is an after; if not, only the probabilities before are shown.

    Example:
        >>> "<td>&lt;b&gt;</td>" in comparison_html([Answer(word="<b>", before=0.5, after=0.5, right=None)], 1.0)
        True
    """
    first = max(answers, key=lambda answer: answer.before)
    shown = [a for i, a in enumerate(answers) if i < MOST_ROWS or a.right or a is first]
    rows = "".join(_row(answer, answer is first, answer is answers[0], is_patched) for answer in shown)
    hidden = len(answers) - len(shown)
    rest = f"<p>{hidden} less probable candidates are not shown.</p>" if hidden else ""
    after = "after" if isinstance(alpha, Coefficients) else alpha_phrase(alpha)  # the sentence has the coefficients
    columns = ["candidate", "before", after, "points"] if is_patched else ["candidate", "probability"]
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    text = sentence(answers, alpha) if is_patched else f"The answer is {first.word}: {_percent(first.before)}."
    return (
        f'<p class="verdict" role="status">{escape(text)}</p>'
        f'<table class="answers"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{rest}'
    )


def _row(answer: Answer, is_first: bool, is_best: bool, is_patched: bool) -> str:
    mark = ' <span class="right">right</span>' if answer.right else ""
    cells = [f"<td>{escape(answer.word)}{mark}</td>", _share(answer.before, strong=is_first)]
    if is_patched:
        cells += [_share(answer.after, strong=is_best), f"<td>{_points(answer.after - answer.before)}</td>"]
    return f"<tr>{''.join(cells)}</tr>"


def _share(share: float, *, strong: bool) -> str:
    text = f"<b>{_percent(share)}</b>" if strong else _percent(share)
    return f'<td>{text}<span class="bar" style="width:{100 * share:.1f}%"></span></td>'


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _points(change: float) -> str:
    """Return a change in points, without a sign if it rounds to 0."""
    return f"{100 * change:+.1f}".replace("-", "\N{MINUS SIGN}") if abs(change) >= 0.0005 else "0.0"
