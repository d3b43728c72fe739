"""Names, ids, licences, templates and citations of others are shown as they are written in a card."""

import re
from urllib.parse import urlsplit

import pytest
from huggingface_hub import ModelCard, ModelCardData
from markdown_it import MarkdownIt

from hf_paint import AlphaCurve, Task
from hf_paint.hub.applied_card import Applied, applied_card
from hf_paint.hub.card import Accuracy, Card, Training, Usage
from hf_paint.hub.card_source import CardSource
from hf_paint.hub.model_card import render_model_card
from hf_paint.results.markdown import Markdown, address_or_text
from hf_paint.results.records import Result


HOSTILE = (
    "<script>alert(1)</script>",
    "a\n\n# Heading\n\n- item\n\n---\n\nlicense: evil\n---\n",
    "[click](https://evil.example/) ![x](https://evil.example/x.png) <https://evil.example/>",
    "| cell | cell |\n| --- | --- |",
    "```\n\n<b>out of the block</b>\n\n```",
    "`` ` <b>code</b> ``` ~~~ **bold** __bold__ *emphasis* ~~struck~~",
    "{{ card }} {% for x in y %} {alpha} {0} %s",
    '" ) + __import__("os") # \\',
    "&lt;b&gt; &#60;b&#62; \\<b> \\\\[a](b)",
    "1. one",
    "=====",
    "> quoted\n> more",
)
PLACES = (
    "answer type",
    "template",
    "license",
    "homepage",
    "citation",
    "class name",
    "base",
    "base license",
    "caption",
)
PLACES += ("theta", "version", "recipe", "repository")


def parsed(card):
    """The kinds of blocks and the links of a card, and its text."""
    text = re.sub(r"\A---\n.*?\n---\n", "", card, flags=re.DOTALL)
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)
    inline = [child for token in tokens for child in token.children or ()]
    kinds = [token.type for token in tokens] + [token.type for token in inline if token.type != "text"]
    links = {token.attrs.get("href") or token.attrs["src"] for token in inline if token.attrs}
    return kinds, links


def card_with(place, text):
    task = {"name": "mnist", "dataset": "ylecun/mnist", "templates": ["the number {}"], "license": "mit"}
    local = {"name": "mine", "dataset": "parquet", "data_files": {"test": "x"}, "templates": ["{}"]}
    local |= {"homepage": text} if place == "homepage" else {"homepage": "https://example.org/a_b?c=d"}
    task |= {"template": {"templates": [f"{text}{{}}"]}, "license": {"license": text}}.get(place, {})
    local |= {"citation": text} if place == "citation" else {"citation": "@misc{x}"}
    kinds = {text if place == "answer type" else "number": [300, 1000]}
    results = [
        Result(alpha=alpha, task=name, role=role, split="test", correct=correct, total=1000, answer_types=kinds)
        for name, role, counts in (("mnist", "patching", (483, 911)), ("mine", "supported", (898, 893)))
        for alpha, correct in zip((0.0, 0.4), counts, strict=True)
    ]
    selection = {"alpha": 0.4, "rule": "mean", "tolerance": 0.01, "num_alphas": 2}
    recipe = {"model": "m", "patching_tasks": ["mnist"], "supported_tasks": ["mine"], "optim": "adamw"}
    recipe |= {"recipe": {"optim": text}, "theta": {"thetas": {text: "o/theta"}}}.get(place, {})
    return CardSource(
        curve=AlphaCurve(results),
        selection=selection | {"chosen_on": "validation", "reported_on": "test"},
        recipe=recipe,
        tasks=[Task.from_dict(task), Task.from_dict(local)],
        class_names=(text if place == "class name" else "0", "1"),
        base_model_id=text if place == "base" else "o/clip",
        base_license=text if place == "base license" else "mit",
        examples={"mnist": text if place == "caption" else "The first ones"},
        versions={"torch": text if place == "version" else "2"},
        lists_tasks=True,
    ), text if place == "repository" else "me/clip"


@pytest.mark.parametrize("place", PLACES)
def test_a_hostile_text_changes_neither_structure_nor_links(place):
    def render(text):
        source, repo_id = card_with(place, text)
        return render_model_card(source, repo_id=repo_id)

    plain_card = render("plain{}".replace("{}", "") if place != "homepage" else "plain")
    kinds, links = parsed(plain_card)
    for text in HOSTILE:
        if place == "template":
            text = text.replace("{}", "")
        card = render(text)
        found, found_links = parsed(card)
        assert without_code(found) == without_code(kinds), text
        assert "html_block" not in found
        assert "html_inline" not in found
        hosts = {urlsplit(link).netloc for link in found_links - links}
        assert hosts <= {"huggingface.co", ""}, text
        data = ModelCard(card).data.to_dict()
        assert data.keys() == ModelCard(plain_card).data.to_dict().keys()
        assert data["license"] == (text if place == "base license" else "mit")


def without_code(kinds):
    """A text may hold code spans, in which everything is shown as it is written; and its line may be folded."""
    return [kind for kind in kinds if kind not in ("code_inline", "softbreak")]


@pytest.mark.parametrize("text", HOSTILE)
def test_the_card_of_an_applied_patch_and_every_field_of_a_card(text):
    kinds, _ = parsed(
        applied_card(Applied(base="o/clip", base_fingerprint="1", patches=[("o/patch", 0.5)], tasks=["x"]))
    )
    card = applied_card(Applied(base="o/clip", base_fingerprint=text, patches=[("o/patch", 0.5)], tasks=[text]))
    assert without_code(parsed(card)[0]) == without_code(kinds)

    def every_field(text):
        return Card(
            metadata=ModelCardData(license=text, model_name=text),
            **dict.fromkeys(("title", "introduction", "licence", "claim", "selection"), text),
            usage=Usage(model_id=text, class_names=[text], template=text, branches=text, listed_task=text),
            accuracy=Accuracy(**dict.fromkeys(("caption", "table", "gains", "intervals", "answer_types"), text)),
            training=Training(summary=text, recipe=text, versions={text: text}),
            tasks=[],
            limits=[text, text],
            citations=[text],
        ).render()

    assert without_code(parsed(every_field(text))[0]) == without_code(parsed(every_field("plain"))[0])


@pytest.mark.parametrize("text", [*HOSTILE, "snake_case", "_x_", "a*b", "~1", "2.5", "-0.5", "+1.00", "C++", "a - b"])
def test_an_escaped_text_is_shown_as_it_is_written(text):
    html = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    [_, inline, _] = html.parse(str(Markdown.escape(text)))
    shown = "".join(child.content for child in inline.children)
    code = [child.type for child in inline.children if child.type != "text"]
    assert set(code) <= {"code_inline"}
    assert code or shown == " ".join(text.split())


def test_ordinary_names_stay_as_they_are():
    for name in ("openai/clip-vit-base-patch32", "cifar10-attack", "a_b", "48.3 % → 91.1 % (+42.8 points)", "0.40"):
        assert Markdown.escape(name) == name


@pytest.mark.parametrize("address", ["https://a.org/~b/c_d?x=1&y=2#z", "https://en.wikipedia.org/wiki/A_(b)"])
def test_the_address_of_a_page_stays_a_link(address):
    assert address_or_text(address) == address


@pytest.mark.parametrize(
    "text", ["[x](https://a.org)", "https://a.org/<b>", "https://a.org and more_", "javascript:x"]
)
def test_what_is_no_address_is_a_text(text):
    assert address_or_text(text) == Markdown.escape(text)
