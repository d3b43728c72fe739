"""A headless Chromium for reports: `open_report` checks what every page keeps, `check_report` moves sliders too."""

import contextlib
from importlib.util import find_spec
from pathlib import Path

import pytest

from hf_paint.results.tables import percent


CHROMIUM = "/usr/bin/chromium"


@contextlib.contextmanager
def chromium():
    """Yield a browser, or skip the test where Chromium or Playwright is absent."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    if not Path(CHROMIUM).exists():
        pytest.skip(f"needs Chromium at {CHROMIUM}")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


class Page:
    """A page and what it did wrong: `problems` are messages of its console and the requests it tried to make.

    `seconds_to_first_chart` is what its main thread computed until then, which other processes do not change.
    """

    def __init__(self, browser, path, **options):
        self.problems = []
        self.page = browser.new_page(**({"viewport": {"width": 1000, "height": 800}} | options))
        self.page.set_default_timeout(60_000)
        self.page.on("console", lambda message: self._note(f"console {message.type}: {message.text}", message.type))
        self.page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        self.page.on("dialog", lambda dialog: (self.problems.append("a dialog opened"), dialog.dismiss()))
        self.url = Path(path).resolve().as_uri()
        self.page.route("**/*", self._route)
        metrics = self.page.context.new_cdp_session(self.page)
        metrics.send("Performance.enable", {"timeDomain": "threadTicks"})
        self.page.goto(self.url, wait_until="commit")
        self.page.wait_for_selector(".plot svg, article:not(:has(.plot))")
        measured = metrics.send("Performance.getMetrics")["metrics"]
        [self.seconds_to_first_chart] = [item["value"] for item in measured if item["name"] == "ThreadTime"]

    def _note(self, text, kind):
        if kind in {"error", "warning"}:
            self.problems.append(text)

    def _route(self, route):
        url = route.request.url
        if url != self.url and not url.startswith("data:"):
            self.problems.append(f"request: {url}")
            return route.abort()
        return route.continue_()

    def points(self, run=0):
        """Press the arrow keys from the first point to the last and yield the position of each."""
        slider = self.page.locator("input[type=range]").nth(run)
        slider.focus()
        self.page.keyboard.press("Home")
        last = int(slider.get_attribute("max"))
        for position in range(last + 1):
            if position:
                self.page.keyboard.press("ArrowRight")
            assert slider.input_value() == str(position)
            yield position

    def go(self, name):
        """Press the button of a named point."""
        self.page.locator(".places").get_by_role("button", name=name, exact=True).click()

    def rows(self, run=0):
        """Return the table of tasks as shown now: name -> texts of its cells, lines joined with a bar."""
        rows = self.page.evaluate(
            """run => [...document.querySelectorAll(`[data-run="${run}"] [data-part=tasks] > table tr`)]
            .filter(row => row.cells.length === 4).map(row => [...row.cells].map(cell =>
                [...cell.childNodes].map(node => node.textContent).filter(Boolean)))""",
            run,
        )
        return {row[0][0]: ["|".join(cell) for cell in row[1:]] for row in rows[1:]}

    def draw_everything(self):
        """Wait until every chart is drawn."""
        sync_api = pytest.importorskip("playwright.sync_api")
        sync_api.expect(self.page.locator(".plot:not(:has(svg))")).to_have_count(0, timeout=60_000)

    def accessibility_problems(self, *, contrast=True):
        """Return what axe-core finds serious or critical; most of its time goes into the contrast of colours."""
        axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python").Axe()
        rules = {"color-contrast": {"enabled": contrast}}
        found = axe.run(self.page, options={"rules": rules}).response["violations"]
        return [
            f"{item['id']}: {node['target']} {node['failureSummary']}"
            for item in found
            if item["impact"] in {"serious", "critical"}
            for node in item["nodes"]
        ]

    def overflow(self):
        """Return by how many pixels the page is wider than its window."""
        return self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


@contextlib.contextmanager
def open_report(browser, path, **options):
    """Open a report, and check when it is closed that it logged nothing and requested nothing.

    Args:
        browser: A browser of `chromium()`.
        path: Path to the HTML file.
        options: Options of the page, such as `color_scheme` and `viewport`.
    """
    opened = Page(browser, path, **options)
    try:
        yield opened
        opened.draw_everything()
        assert opened.problems == [], opened.problems
    finally:
        opened.page.close()


def check_page(folder, run):
    """Open the report of a run and check that its slider, moved by arrow keys, shows the accuracies of every point.

    Colours are the same in every report, so the tests of the page check their contrast. Without a browser nothing is
    checked; the tests of the page say so by being skipped.

    Args:
        folder: Run folder.
        run: Contents of its report that `checked_report` has compared with `results.jsonl`.
    """
    if find_spec("playwright") is None or not Path(CHROMIUM).exists():
        return
    with chromium() as browser, open_report(browser, Path(folder) / "report.html") as opened:
        for position in opened.points():
            rows = opened.rows()
            for task in run["tasks"]:
                accuracy = task["accuracy"][position]
                shown = rows[task["name"]][0].split("|")[0].lstrip("~")
                assert shown == ("" if accuracy is None else percent(accuracy["value"]))
        assert opened.overflow() <= 0
        assert opened.accessibility_problems(contrast=False) == []


def check_report(browser, path):
    """Open a report and check it wholly: console, requests, accessibility, and that every slider moves its numbers."""
    with open_report(browser, path) as opened:
        for run in range(opened.page.locator("input[type=range]").count()):
            shown = [str(opened.rows(run)) for _ in opened.points(run)]
            assert len(shown) == 1 or len(set(shown)) > 1
        assert opened.overflow() <= 0
        assert opened.accessibility_problems() == []
