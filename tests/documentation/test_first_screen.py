"""The README fits one screen: 1080 pixels, in the sizes of text and code in which sites show such files."""

import markdown

from browser import chromium
from pages import ROOT, read


STYLE = """
body { box-sizing: border-box; width: 1012px; margin: 0; padding: 32px; font: 16px/1.5 Arial, sans-serif }
p, pre { margin: 0 0 16px }
pre { padding: 16px; font: 13.6px/1.45 monospace }
h1 { margin: 0 0 16px; padding-bottom: .3em; font-size: 2em; line-height: 1.25 }
code { font-size: 85% }
pre code { font-size: 100% }
"""


def test_the_readme_fits_one_screen(tmp_path):
    page = tmp_path / "readme.html"
    text = markdown.markdown(read("README.md"), extensions=["fenced_code"]).replace('src="', f'src="{ROOT.as_uri()}/')
    page.write_text(f"<style>{STYLE}</style>{text}")
    with chromium() as browser:
        shown = browser.new_page(viewport={"width": 1920, "height": 1080})
        shown.goto(page.as_uri())
        assert shown.evaluate("document.images[0].naturalWidth") > 0
        assert shown.evaluate("document.body.scrollHeight") <= 1080
