"""The page of the demo, made of Gradio's widgets."""

from collections.abc import Callable, Sequence
from functools import partial
from html import escape
from typing import TYPE_CHECKING, TypedDict

from hf_paint.report.demo import Demo


if TYPE_CHECKING:
    import gradio
    import pandas


ALPHA, ACCURACY, LINE = "alpha", "accuracy in percent", "tasks"
"""Columns of the chart."""
COLOURS = {"patching": "#0072B2", "supported": "#E69F00", "here": "#777777"}
"""Blue and orange of Okabe and Ito (2008), which colour-blind people can tell apart."""
FORGET_AFTER = 600
"""Seconds after which the server deletes a picture."""
CSS = """
.answers { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
.answers th, .answers td { padding: .3em .5em; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--border-color-primary); overflow-wrap: anywhere; }
.answers .bar { display: block; height: .35em; min-width: 1px; background: var(--color-accent); }
.answers .right { padding: 0 .4em; border: 1px solid currentColor; border-radius: .3em; font-size: .85em; }
.verdict { font-size: 1.15em; margin: 0 0 .6em; overflow-wrap: anywhere; }
"""


class Look(TypedDict):
    """Arguments of `launch` for the looks of a page."""

    theme: "gradio.Theme"
    css: str


class Classifying(TypedDict):
    """The event that answers: the function, and the widgets that it reads and writes."""

    fn: Callable[..., str]
    inputs: list["gradio.Component"]
    outputs: "gradio.Component"


def build_page(demo: Demo) -> tuple["gradio.Blocks", Look]:
    """Return the page and its look, which uses only the fonts of the system."""
    import gradio as gr

    subject = demo.subject
    with gr.Blocks(title=f"{subject.title}: demo", analytics_enabled=False, delete_cache=(60, FORGET_AFTER)) as page:
        gr.HTML(f"<h1>{escape(subject.title)}</h1><p>{escape(subject.text)}</p>")
        with gr.Row():
            with gr.Column():
                sources = ["upload", "clipboard", "webcam"]
                image = gr.Image(type="filepath", image_mode=None, sources=sources, label="picture", height=260)
                words, prompts = _texts(demo)
                button = gr.Button("Compare", variant="primary")
            with gr.Column():
                knobs = [
                    gr.Slider(knob.low, knob.high, value=knob.start, step=0.01, label=knob.label)
                    for knob in subject.knobs
                ]
                answer = gr.HTML(demo.answer(None, "", ""))
                _add_chart(demo, knobs)
        classifying = Classifying(fn=demo.answer, inputs=[image, words, prompts, *knobs], outputs=answer)
        _add_tasks(demo, [words, prompts], classifying)
        _add_pictures(demo, [image, words, prompts], classifying)
        texts = [event for text in (words, prompts) for event in (text.submit, text.blur)]
        gr.on([image.change, button.click, *texts], **classifying)
        if knobs:
            moves = [knob.change for knob in knobs]
            gr.on(moves, show_progress="hidden", trigger_mode="always_last", **classifying)
    fonts = {"font": ["ui-sans-serif", "system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
    return page, {"theme": gr.themes.Default(**fonts), "css": CSS}


def _texts(demo: Demo) -> tuple["gradio.Textbox", "gradio.Textbox"]:
    """Add the text boxes for the words and the prompts."""
    import gradio as gr

    words, prompts = demo.offered()
    info = "One per line, or separated by commas."
    prompt_info = "{} stands for the word. Of several prompts, one per line, the embeddings are averaged."
    return (
        gr.Textbox(words, label="words", info=info, lines=4, max_lines=8),
        gr.Textbox(prompts, label="prompt", info=prompt_info, lines=1, max_lines=4),
    )


def _add_tasks(demo: Demo, texts: list["gradio.Component"], classifying: Classifying) -> None:
    """Add the menu that fills in the words and prompts of a task."""
    import gradio as gr

    if demo.tasks:
        menu = gr.Dropdown([*demo.tasks], value=next(iter(demo.tasks)), label="words and prompts of a task")
        menu.input(demo.offered, menu, texts).then(**classifying)


def _add_pictures(demo: Demo, filled: list["gradio.Component"], classifying: Classifying) -> None:
    """Add the pictures of the run whose answers the patch changes; a click fills in one with its candidates."""
    import gradio as gr

    if demo.pictures:
        pictures = [(str(picture.path), picture.caption) for picture in demo.pictures]
        label = "pictures that the patch changes"
        gallery = gr.Gallery(pictures, label=label, columns=6, allow_preview=False, interactive=False)

        def pick(event: gr.SelectData) -> tuple[str, str, str]:
            return demo.picked(event.index)

        gallery.select(pick, None, filled).then(**classifying)


def _add_chart(demo: Demo, knobs: Sequence["gradio.Slider"]) -> None:
    """Add the measured accuracies, with a line that follows the slider."""
    import gradio as gr

    if demo.accuracies():
        [knob] = knobs
        chart = gr.LinePlot(
            _chart_data(demo, demo.subject.knobs[0].start),
            x=ALPHA,
            y=ACCURACY,
            color=LINE,
            color_map=COLOURS,
            x_title=demo.subject.knobs[0].label,
            height=260,
            label="measured accuracy",
        )
        update = partial(_chart_data, demo)
        knob.change(update, knob, chart, show_progress="hidden", trigger_mode="always_last")


def _chart_data(demo: Demo, position: float) -> "pandas.DataFrame":
    """Return the measured points and a vertical line at a position of the slider."""
    import pandas as pd

    rows = demo.accuracies()
    ends = min(accuracy for _, accuracy, _ in rows), max(accuracy for _, accuracy, _ in rows)
    return pd.DataFrame([*rows, *((position, end, "here") for end in ends)], columns=[ALPHA, ACCURACY, LINE])
