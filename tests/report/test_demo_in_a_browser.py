"""The demo in a browser: a picture, words and the slider give what a plain model with interpolated weights answers."""

import re

import pytest
from PIL import Image

from browser import chromium
from by_hand import probabilities
from hf_paint.errors import InputError
from hf_paint.report.demo import Demo
from hf_paint.report.demo_server import check_gradio, served
from hf_paint.report.opening import open_subject


WORDS = ["red", "<b>blue</b>", "${1 + 1} {{grey}}"]


@pytest.fixture(scope="module")
def demo(finished_run):
    try:
        check_gradio()
    except InputError as error:
        pytest.skip(str(error))
    return Demo(open_subject(finished_run))


@pytest.fixture(scope="module")
def page(demo):
    """The page of a running demo, on a phone in the dark; when it closes, it has logged and requested nothing bad."""
    problems = []
    with chromium() as browser, served(demo) as address:
        assert re.match(r"http://127\.0\.0\.1:\d+/", address)
        opened = browser.new_page(viewport={"width": 360, "height": 800}, color_scheme="dark")
        opened.on("console", lambda said: problems.append(said.text) if said.type == "error" else None)
        opened.on("pageerror", lambda error: problems.append(str(error)))
        opened.on("dialog", lambda dialog: (problems.append("a dialog opened"), dialog.dismiss()))
        opened.on(
            "request",
            lambda sent: None if sent.url.startswith((address, "data:", "blob:")) else problems.append(sent.url),
        )
        opened.goto(address)
        opened.set_default_timeout(60_000)
        yield opened
        opened.close()
    assert problems == []


def test_a_picture_words_and_the_slider(page, demo, finished_run, model_folder, tmp_path):
    from playwright.sync_api import expect

    path = tmp_path / "picture.png"
    picture = Image.linear_gradient("L").convert("RGB")
    picture.save(path)
    page.locator("input[type=file]").first.set_input_files(path)
    page.get_by_role("textbox", name=re.compile("^words")).fill("\n".join(WORDS))
    page.get_by_role("textbox", name=re.compile("^prompt")).fill("a {} thing")
    page.get_by_role("button", name="Compare").click()
    answers = page.locator("table.answers tbody")
    expect(answers).to_contain_text("<b>blue</b>")
    expect(answers).to_contain_text("${1 + 1} {{grey}}")
    slider = page.get_by_role("slider").first
    slider.focus()
    for _ in range(7):
        page.keyboard.press("ArrowLeft")
    alpha = demo.subject.knobs[0].start - 0.07
    expect(page.locator("table.answers thead")).to_contain_text(f"alpha {alpha:.2f}")
    ends = model_folder, finished_run / "theta_1"
    before, after = (probabilities(*ends, point, picture, WORDS, "a {} thing") for point in (0.0, alpha))
    for word, x, y in zip(WORDS, before, after, strict=True):
        row = answers.locator("tr", has_text=word)
        expect(row.locator("td").nth(1)).to_have_text(f"{100 * x:.1f} %")
        expect(row.locator("td").nth(2)).to_have_text(f"{100 * y:.1f} %")  # once the slider rests
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
