"""Fields that choose themselves unless they are given."""

import pytest

from hf_paint import InputError
from hf_paint.cli.recipe_keys import read_keys


RECIPE = "model: me/clip\npatching_tasks: [mnist]\nselection: none\n"


@pytest.mark.parametrize(
    ("line", "flags", "expected"),
    [
        ("", [], {}),
        ("torch_compile: auto", [], {}),
        ("torch_compile: true", [], {"torch_compile": True}),
        ("torch_compile: false", [], {"torch_compile": False}),
        ("torch_compile: true", ["--torch_compile", "auto"], {}),
        ("torch_compile: auto", ["--torch_compile", "false"], {"torch_compile": False}),
        ("", ["--torch_compile"], {"torch_compile": True}),
    ],
)
def test_compilation_can_be_left_to_the_device(tmp_path, line, flags, expected):
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE + line)
    found = read_keys(str(path), flags).training
    assert {name: value for name, value in found.items() if name == "torch_compile"} == expected


def test_other_words_are_refused(tmp_path):
    with pytest.raises(InputError, match="`torch_compile` must be true, false or auto, got 'maybe'"):
        read_keys(None, ["--torch_compile", "maybe"])
