"""The demo in a browser: a picture, words and the slider give what a plain model with interpolated weights answers."""

import re
import socket

import pytest
from PIL import Image

from browser import chromium
from by_hand import probabilities
from hf_paint.errors import InputError
from hf_paint.report.demo import Demo
from hf_paint.report.demo_server import check_gradio, served
from hf_paint.report.opening import open_subject


WORDS = ["red", "<b>blue</b>", "grey"]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def needs_gradio():
    try:
        check_gradio()
    except InputError as error:
        pytest.skip(str(error))


def shown(page):
    """The rows of the table of answers, as texts."""
    rows = page.locator("table.answers tbody tr").all()
    return [[cell.inner_text().strip() for cell in row.locator("td").all()] for row in rows]


def test_a_picture_words_and_the_slider(finished_run, model_folder, tmp_path):
    needs_gradio()
    from playwright.sync_api import expect

    picture, problems, foreign = tmp_path / "picture.png", [], []
    Image.new("RGB", (50, 40), (40, 90, 200)).save(picture)
    demo = Demo(open_subject(finished_run))
    with chromium() as browser, served(demo, port=free_port()) as address:
        page = browser.new_page(viewport={"width": 360, "height": 800}, color_scheme="dark")
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on(
            "request", lambda r: foreign.append(r.url) if not r.url.startswith((address, "data:", "blob:")) else None
        )
        page.goto(address)
        page.locator("input[type=file]").first.set_input_files(picture)
        page.get_by_label("words", exact=True).fill("\n".join(WORDS))
        page.get_by_label("prompt", exact=True).fill("a {} thing")
        page.get_by_role("button", name="Compare").click()
        expect(page.locator("table.answers")).to_contain_text("<b>blue</b>")  # as text
        slider = page.locator("input[type=range]").first
        slider.focus()
        for _ in range(7):
            page.keyboard.press("ArrowLeft")
        alpha = demo.subject.knobs[0].start - 0.07
        expect(page.locator("table.answers thead")).to_contain_text(f"alpha {alpha:.2f}")
        before, after = (by_plain_model(a, model_folder, finished_run, picture) for a in (0.0, alpha))
        expected = {word: (x, y) for word, x, y in zip(WORDS, before, after, strict=True)}
        for word, *probability in shown(page):
            x, y = expected[word]
            assert probability[:2] == [f"{100 * x:.1f} %", f"{100 * y:.1f} %"]
        assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
        page.close()
    assert problems == []
    assert [url for url in foreign if not url.startswith((address, "data:", "blob:"))] == []
    assert re.match(r"http://127\.0\.0\.1:\d+/", address)


def by_plain_model(alpha, theta_0, run, picture):
    return probabilities(theta_0, run / "theta_1", alpha, Image.open(picture), WORDS, "a {} thing")
