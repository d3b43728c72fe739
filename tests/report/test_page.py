"""The page of a report in a browser: numbers, slider, colour schemes, widths, printing, names that look like code."""

import json
import re
import time

import pytest

import reports
from browser import chromium, open_report
from hf_paint.report.page import render
from hf_paint.results.tables import interval, percent, points


@pytest.fixture(scope="module")
def browser():
    with chromium() as launched:
        yield launched


@pytest.fixture(scope="module")
def write(tmp_path_factory):
    """Write the page of some runs, and return its path."""

    def write(*runs, report=None):
        path = tmp_path_factory.mktemp("page") / "report.html"
        path.write_text(render(report or reports.report(*runs)), encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="module")
def opened(browser, write):
    """The page of one run with everything; checked at the end of the module like every page."""
    with open_report(browser, write()) as page:
        yield page


def text(opened, selector):
    return opened.page.locator(selector).first.inner_text()


def expected_row(task, i):
    """Write out the cells of a task as the project's tables have them."""
    accuracy, gain = task["accuracy"][i], task["gain"][i]
    if accuracy is None:
        return ["", "", ""]
    cells = [f"{percent(accuracy['value'])}|{percent(accuracy['low'])} to {percent(accuracy['high'])}", "", ""]
    if i:
        word = "certainly better" if gain["low"] > 0 else "certainly worse" if gain["high"] < 0 else "not certain"
        cells[1:] = [f"{points(gain['value'])}|{interval((gain['low'], gain['high']))}", word]
    return cells


def test_the_slider_shows_every_point_by_arrow_keys(opened):
    run = reports.run()
    for i in opened.points():
        rows = opened.rows()
        assert {task["name"]: rows[task["name"]] for task in run["tasks"]} == {
            task["name"]: expected_row(task, i) for task in run["tasks"]
        }
        means = {role: values[i] for role, values in run["means"].items()}
        assert [rows[name][0] for name in ("patching, mean", "supported, mean", "mean of both")] == [
            percent(value) for value in means.values()
        ]
        value_text = opened.page.locator("input[type=range]").get_attribute("aria-valuetext")
        assert value_text == f"alpha {reports.ALPHAS[i]:.2f}" + {
            0: " (zero-shot)",
            2: " (chosen)",
            4: " (fine-tuned)",
        }.get(i, "")
        assert f"patching {percent(means['patching'])} %" in text(opened, "output")


def test_the_unpatched_model_points_to_the_slider(opened):
    for name, hinted in (("zero-shot", True), ("chosen", False)):
        opened.page.get_by_role("button", name=name).first.click()
        assert ("move the slider" in text(opened, ".at")) == hinted


def test_what_is_below_follows_the_slider_too(opened):
    for name, alpha in (("zero-shot", "0.00"), ("chosen", "0.50"), ("fine-tuned", "1.00")):
        opened.go(name)
        assert text(opened, "[data-part=snippets] code") == (
            f'CLIPModel.from_pretrained("me/digits", revision="alpha-{alpha}")  # {alpha}'
        )
    assert "ECE 6.00 % at alpha 1.00 (fine-tuned), from 10.00 % at zero-shot." in text(
        opened, "[data-late=calibration]"
    )
    assert re.findall(r"Now \w+: \d", text(opened, "[data-late=pictures]")) == ["Now right: 2", "Now wrong: 1"]
    assert "two 80.00 %" in text(opened, "[data-late=pictures] figcaption")
    opened.page.locator("input[type=range]").press("ArrowLeft")
    assert opened.page.locator("[data-part=snippets] code").is_hidden()
    assert "Move the slider to any other alpha." in text(opened, "[data-part=snippets]")


def test_classes_are_sorted_the_worst_first_until_asked_otherwise(opened):
    opened.go("chosen")
    names = "[...document.querySelectorAll('[data-late=classes] tbody th')].map(cell => cell.textContent)"
    assert opened.page.evaluate(names) == ["zero", "two", reports.EVIL]
    opened.page.get_by_role("button", name="change, points").click()
    assert opened.page.evaluate(names) == [reports.EVIL, "two", "zero"]
    opened.page.get_by_role("button", name="class", exact=True).click()
    assert opened.page.evaluate(names) == sorted([reports.EVIL, "two", "zero"])
    cells = opened.page.locator("[data-late=classes] tbody tr", has_text="two").locator("td").all_inner_texts()
    assert cells == ["300", "37.00", "86.67", "+49.67"]  # 111, then 260 of 300


def test_names_that_look_like_markup_stay_text(opened):
    assert reports.HTML_TASK in opened.rows()
    assert reports.HTML_LABEL in text(opened, "[data-late=pictures] dd")
    assert "</pre></script>" in opened.page.locator("pre", has_text="patching_tasks").text_content()
    made = opened.page.evaluate("document.querySelectorAll('main script, main b:not(output b), [onerror]').length")
    assert made == 0
    policy = opened.page.locator("meta[http-equiv]").get_attribute("content")
    assert "default-src 'none'" in policy
    assert not re.search(r"script-src[^;]*unsafe", policy)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_colour_schemes_fit_narrow_and_wide_windows(opened, scheme):
    opened.page.emulate_media(color_scheme=scheme)
    for width in (360, 768, 1440):
        opened.page.set_viewport_size({"width": width, "height": 800})
        assert opened.overflow() <= 0
    dark = opened.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(22, 22, 22)"
    assert dark == (scheme == "dark")
    assert opened.accessibility_problems() == []


def test_a_printed_page_is_at_the_chosen_alpha_with_everything_open(opened):
    opened.go("zero-shot")
    opened.page.emulate_media(media="print")
    opened.page.locator(".at", has_text="below are at alpha 0.50 (chosen).").wait_for()
    assert opened.rows()["digits"][0].startswith("80.00")
    assert opened.page.locator(".control").is_hidden()
    assert opened.page.locator("details:not([open])").count() == 0
    assert opened.page.pdf().startswith(b"%PDF")
    opened.page.emulate_media(media="screen")
    opened.page.locator("output", has_text="alpha 0.00 (zero-shot)").wait_for()
    assert opened.rows()["digits"][0].startswith("40.12")  # as the reader left it
    assert opened.page.locator("details[open]").count() == 0


def test_runs_beside_each_other_have_their_own_sliders(browser, write):
    with open_report(browser, write(reports.run(), reports.combinations())) as page:
        rows = page.page.locator("[data-compare=table] tbody tr").all_inner_texts()
        assert [re.findall(r"[+-]?\d+\.\d\d", row) for row in rows][1][-6:] == [
            *("88.00", "+48.00", "69.00", "-1.00", "78.50", "+23.50")
        ]
        for position in page.points(run=1):
            value_text = page.page.locator("input[type=range]").nth(1).get_attribute("aria-valuetext")
            assert value_text.startswith(reports.combinations()["points"][position]["label"])
        assert page.rows(run=0)["digits"][0].startswith("80.00")
        assert page.rows(run=1)["digits"][0].startswith("88.00")
        assert page.page.locator("[data-run='1'] [data-part=accuracy] .mark-line").count() == 0
        assert page.accessibility_problems(contrast=False) == []  # the colours are those of one run


def test_classes_of_the_same_name_have_rows_of_their_own(browser, write):
    task = reports.digits_task()
    task["per_class"] |= {"classes": ["crane", "crane", "other"], "total": [300, 200, 300]}
    task["per_class"]["confusion"] = [[[0, 1, 5], [1, 0, 7], [2, 0, 9]]] * 5
    task["gain"][2] = {"value": 0.0, "low": 0.0, "high": 0.0}
    with open_report(browser, write(reports.run(tasks=[task]))) as page:
        page.go("chosen")
        assert page.rows()["digits"][2] == "no change"
        page.page.locator("[data-late=confusion]").scroll_into_view_if_needed()
        page.page.locator("[data-late=confusion] svg .mark-rect").wait_for(state="attached")
        labels = page.page.locator("[data-late=confusion] svg .role-axis-label text").all_text_contents()
        rows = [label.partition("  ") for label in labels if "  " in label]
        assert sorted(name for *_, name in rows) == ["crane (0)", "crane (1)", "other (2)"]
        assert sorted(label for label in labels if "  " not in label) == ["A", "B", "C", "other"]
        assert sorted(letter for letter, *_ in rows) == ["A", "B", "C"]


def test_a_very_large_report_is_small_and_fast(browser, write, opened):
    report = reports.large()
    render(reports.report())  # makes the script of Vega, once per process
    started = time.process_time()
    path = write(report=report)
    assert time.process_time() - started < 15
    assert path.stat().st_size < 3e6
    with open_report(browser, path) as page:
        slider = page.page.locator("input[type=range]")
        slider.press("ArrowRight")
        assert slider.get_attribute("aria-valuetext") == "alpha 0.41"
        task = report["runs"][0]["tasks"][3]
        assert page.rows()["task 3"] == expected_row(task, 41)
        assert page.page.locator("[data-late=classes] tbody tr").count() == 15
        page.page.get_by_role("button", name="Show more classes").click()
        assert page.page.locator("[data-late=classes] tbody tr").count() == 300
        shown = page.page.locator("[data-late=classes] tbody tr").first.locator("td").all_inner_texts()
        changes = {
            name: (after - before) / 50
            for name, before, after in zip(
                report["runs"][0]["tasks"][0]["per_class"]["classes"],
                *(report["runs"][0]["tasks"][0]["per_class"]["correct"][i] for i in (0, 41)),
                strict=True,
            )
        }
        assert shown[-1] == points(min(changes.values()))
        page.page.get_by_label("Find a class").fill("number 77")
        assert page.page.locator("[data-late=classes] tbody tr").count() == 11  # 77, and 770 to 779
        assert page.seconds_to_first_chart < 5 * opened.seconds_to_first_chart  # with 2800 times its numbers


def test_no_text_can_leave_the_script_that_holds_it():
    html = render(reports.report(reports.run(claim="</script><script>alert(3)</script>\u2028")))
    [numbers] = re.findall(r'<script type="application/json" id="numbers">(.*?)</script>', html, re.S)
    assert not set(numbers) & set("<>&\u2028")
    assert json.loads(numbers)["runs"][0]["tasks"][1]["name"] == reports.HTML_TASK
    assert len(re.findall("<script", html)) == len(re.findall("</script>", html)) == 5
