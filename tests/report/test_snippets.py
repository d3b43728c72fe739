"""The code in a report holds class names as they are, also if they look like what the page fills in."""

import ast
import re
from pathlib import Path
from types import SimpleNamespace

from hf_paint.report.snippets import snippets_of


def test_a_class_name_with_braces_is_no_place_to_fill_in():
    names = ["{alpha}", "{revision}", "{brace}"]
    recorded = SimpleNamespace(
        run=SimpleNamespace(strategy="single", recipe={}, curve=SimpleNamespace(tasks={"patching": ["task"]})),
        files=SimpleNamespace(path=Path("run {alpha}")),
        points=[0, 1],
        chosen=1,
        branches=["alpha-0.00", "alpha-1.00"],
        facts={"x": 1},
        is_search=False,
        class_names={"task": names},
        templates={"task": ["a {} in {revision}"]},
    )
    values = {"alpha": "0.50", "revision": "alpha-0.50", "brace": "{"}
    codes = [
        re.sub(r"\{(revision|alpha|brace)\}", lambda match: values[match[1]], snippet["code"])  # as `rest.js` does
        for snippet in snippets_of(recorded)
    ]
    assert len(codes) == 3
    assert codes[1] == "hf-paint select 'run {alpha}' --alpha 0.50"
    for code, model in ((codes[0], "run {alpha}/patched"), (codes[2], "me/my-model")):
        *_, loaded, used = ast.parse(code).body
        arguments = {keyword.arg: ast.literal_eval(keyword.value) for keyword in loaded.value.keywords}
        assert arguments["model"] == model
        arguments = {keyword.arg: ast.literal_eval(keyword.value) for keyword in used.value.keywords}
        assert arguments == {"candidate_labels": names, "hypothesis_template": "a {} in {revision}"}
