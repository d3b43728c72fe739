"""The page of the demo, made of Gradio's widgets."""

from collections.abc import Sequence
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
TASKS, PICTURES = "words and prompts of a task", "Pictures of the run"
FORGET_AFTER = 600
"""Seconds after which the server deletes a picture."""
CSS = """
.answers { width: 100%; border: 0 !important; border-collapse: collapse; font-variant-numeric: tabular-nums; }
.answers tr { border: 0 !important; }
.answers th, .answers td { padding: .3em .4em !important; text-align: left; vertical-align: top; white-space: nowrap;
  border: 0 !important; border-bottom: 1px solid var(--border-color-primary) !important; }
.answers th:first-child, .answers td:first-child { white-space: normal; overflow-wrap: anywhere; min-width: 5.5em; }
.answers th:first-child { white-space: nowrap; }
.answers th:last-child, .answers td:last-child { text-align: right; }
.answers .bar { display: block; height: .35em; min-width: 1px; background: var(--color-accent); }
.answers .right { white-space: nowrap; padding: 0 .4em; border: 1px solid currentColor; border-radius: .3em;
  font-size: .85em; }
.lines span { margin-right: 1em; white-space: nowrap; }
.lines span::before { content: ""; display: inline-block; width: 1.5em; margin-right: .4em; vertical-align: middle;
  border-top: 3px solid var(--line); }
#pictures .grid-wrap { max-height: none !important; }
#pictures .grid-container { grid-template-columns: repeat(auto-fill, minmax(6.5rem, 1fr)); }
#pictures .caption-label { white-space: normal; max-width: 100%; }
.verdict { font-size: 1.15em; margin: 0 0 .6em; overflow-wrap: anywhere; }
"""


class Look(TypedDict):
    """Arguments of `launch` for the looks of a page."""

    theme: "gradio.Theme"
    css: str


class Classifying(TypedDict):
    """The widgets that a comparison reads and writes."""

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
                menu = _menu(demo)
                words, prompts = _texts(demo)
                button = gr.Button("Compare", variant="primary")
            with gr.Column():
                knobs = [
                    gr.Slider(knob.low, knob.high, value=knob.start, step=0.01, label=knob.label)
                    for knob in subject.knobs
                ]
                answer = gr.HTML(demo.answer(None, "", ""))
                _add_chart(demo, knobs)
        widgets = Classifying(inputs=[image, words, prompts, *knobs], outputs=answer)
        gallery = _gallery(demo)
        _answer_always(demo, widgets, button, menu, gallery)
        if knobs:
            _follow(demo, widgets, knobs)
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


def _menu(demo: Demo) -> "gradio.Dropdown | None":
    """Add the menu of the tasks."""
    import gradio as gr

    return gr.Dropdown([*demo.tasks], value=next(iter(demo.tasks)), label=TASKS) if demo.tasks else None


def _gallery(demo: Demo) -> "gradio.Gallery | None":
    """Add the pictures of the run."""
    import gradio as gr

    if not demo.pictures:
        return None
    text = "Click one to compare its candidates. In each task, those whose answer the patch changes come first."
    gr.HTML(f"<h2>{PICTURES}</h2><p>{text}</p>")
    pictures = [(str(picture.path), picture.caption) for picture in demo.pictures]
    return gr.Gallery(
        pictures,
        label=PICTURES,
        elem_id="pictures",
        show_label=False,
        columns=6,
        height="auto",
        object_fit="contain",
        allow_preview=False,
        interactive=False,
        buttons=[],
    )


def _answer_always(
    demo: Demo,
    widgets: Classifying,
    button: "gradio.Button",
    menu: "gradio.Dropdown | None",
    gallery: "gradio.Gallery | None",
) -> None:
    """Answer at the button, a new picture and new words; a task and a picture of the run fill them in."""
    import gradio as gr

    image, words, prompts, *_ = widgets["inputs"]
    texts = [event for text in (words, prompts) for event in (text.submit, text.blur)]
    gr.on([image.change, button.click, *texts], demo.answer, **widgets)
    if menu is not None:
        menu.input(demo.offered, menu, [words, prompts]).then(demo.answer, **widgets)
    if gallery is not None:

        def pick(event: gr.SelectData) -> tuple[str, str, str]:
            return demo.picked(event.index)

        gallery.select(pick, None, [image, words, prompts]).then(demo.answer, **widgets)


def _follow(demo: Demo, widgets: Classifying, knobs: Sequence["gradio.Slider"]) -> None:
    """Answer roughly while a slider moves, and exactly when it rests."""
    import gradio as gr

    def preview(request: gr.Request, path: str | None, words: str, templates: str, *values: float) -> str:
        return demo.preview(str(request.session_hash), path, words, templates, *values)

    def rest(request: gr.Request, path: str | None, words: str, templates: str, *values: float) -> object:
        html = demo.rest(str(request.session_hash), path, words, templates, *values)
        return gr.skip() if html is None else html

    moves = [knob.change for knob in knobs]
    move = gr.on(moves, preview, show_progress="hidden", trigger_mode="always_last", **widgets)
    move.then(rest, show_progress="hidden", **widgets)


def _add_chart(demo: Demo, knobs: Sequence["gradio.Slider"]) -> None:
    """Add the measured accuracies, with a line that follows the slider."""
    import gradio as gr

    if demo.accuracies():
        [knob] = knobs
        roles = dict.fromkeys(role for _, _, role in demo.accuracies())
        lines = [f'<span style="--line: {COLOURS[role]}">{role} tasks</span>' for role in roles]
        gr.HTML(f'<h2>Measured accuracy</h2><p class="lines">{"".join(lines)}</p>')
        chart = gr.LinePlot(
            _chart_data(demo, demo.subject.knobs[0].start),
            x=ALPHA,
            y=ACCURACY,
            color=LINE,
            color_map=COLOURS,
            x_title=demo.subject.knobs[0].label,
            colors_in_legend=[],  # its legend is cut off
            height=260,
            label="measured accuracy",
            show_label=False,
        )
        update = partial(_chart_data, demo)
        knob.change(update, knob, chart, show_progress="hidden", trigger_mode="always_last")


def _chart_data(demo: Demo, position: float) -> "pandas.DataFrame":
    """Return the measured points and a vertical line at a position of the slider."""
    import pandas as pd

    rows = demo.accuracies()
    ends = min(accuracy for _, accuracy, _ in rows), max(accuracy for _, accuracy, _ in rows)
    return pd.DataFrame([*rows, *((position, end, "here") for end in ends)], columns=[ALPHA, ACCURACY, LINE])
