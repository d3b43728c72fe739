"""Documents are read within bounds, whoever wrote them: a value, or one line that says what is wrong."""

import json
import time

import pytest

from hf_paint import InputError, get_task
from hf_paint.documents.limits import MOST_BYTES, MOST_LEVELS
from hf_paint.documents.reading import TEXT_KEYS, parse_json, parse_yaml, read_json, read_recipe, read_yaml


NAMES = list(zip("abcdefghi", "bcdefghij", strict=True))
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in NAMES
)
MERGED = "a: &a {k: v}\n" + "".join(
    f"{name}: &{name} {{<<: [{', '.join([f'*{before}'] * 9)}]}}\n" for before, name in NAMES
)
CHAIN = "- &a0 [x]\n" + "".join(f"- &a{i} [*a{i - 1}]\n" for i in range(1, 200))
YAML = {
    "aliases": BOMB,
    "aliases below class_names": BOMB.replace("j:", "class_names:"),
    "merged keys": MERGED,
    "a chain of aliases": CHAIN,
    "a list that contains itself": "a: &a [*a]",
    "levels": "[" * 200 + "]" * 200,
    "a long number": "seed: " + "9" * 5000,
    "a long number with a tag": "seed: !!int '" + "9" * 5000 + "'",
    "a long number of base 60": "seed: 1" + ":1" * 3000,
    "no boolean": "seed: !!bool maybe",
    "no number": "seed: !!int ''",
    "a Python object": "seed: !!python/object/apply:os.system [ls]",
    "bytes": "seed: !!binary aGVsbG8=",
    "a set": "seed: !!set {a, b}",
    "an escape beyond Unicode": 'seed: "\\UFFFFFFFF"',
    "half a pair": 'seed: "\\ud800"',
    "NUL": "seed: a\0b",
    "escaped NUL": 'seed: "a\\0b"',
    "a mapping as a key": "{{a: b}: c}",
    "a list as a key": "? [a]\n: b",
    "a key that occurs twice": "{a: 1, a: 2}",
    "an unknown alias": "*a",
    "two documents": "a\n---\nb",
}
JSON = {
    "levels": "[" * 100_000,
    "closed levels": '{"a":' * (MOST_LEVELS + 1) + "0" + "}" * (MOST_LEVELS + 1),
    "a long number": "9" * 5000,
    "half a pair": '"\\ud800"',
    "NUL": '"\\u0000"',
    "nothing": "",
}


@pytest.mark.parametrize("text", YAML.values(), ids=YAML)
def test_yaml_that_is_refused(text, tmp_path):
    started = time.process_time()
    with pytest.raises(InputError, match=r"^It cannot be read: [^\n]+$"):
        parse_yaml(text, "It")
    assert time.process_time() - started < 5
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(InputError, match=r"^The recipe .*recipe.yaml cannot be read: [^\n]+$"):
        read_recipe(tmp_path / "recipe.yaml")
    with pytest.raises(InputError, match=r"^[^\n]+ cannot be read: [^\n]+$"):
        get_task(str(tmp_path / "recipe.yaml"))


def test_dates_and_keys_are_text():
    assert parse_yaml("{a: 2024-99-99, 1: b, no: 2020-01-01 10:00:00}", "It") == {
        "a": "2024-99-99",
        "1": "b",
        "no": "2020-01-01 10:00:00",
    }


def test_aliases_of_ordinary_size_are_read():
    assert parse_yaml("{a: &a {x: 1}, b: [*a, *a], c: {<<: *a, y: 2}}", "It") == {
        "a": {"x": 1},
        "b": [{"x": 1}, {"x": 1}],
        "c": {"x": 1, "y": 2},
    }


@pytest.mark.parametrize("content", ["é".encode("latin-1"), "a: é".encode("utf-16"), b"\xff" * 9])
def test_other_encodings_are_refused(content, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(InputError, match="cannot be read: 'utf-8' codec"):
        read_yaml(path, "It")
    with pytest.raises(InputError, match="is not valid JSON: 'utf-8' codec"):
        read_json(path)


@pytest.mark.parametrize("text", JSON.values(), ids=JSON)
def test_json_that_is_refused(text):
    with pytest.raises(InputError, match=r"^It is not valid JSON: [^\n]+$"):
        parse_json(text, "It")


def test_json_is_what_the_json_module_reads():
    text = '{"a": [1, -2.5, 1e5, true, null, "\\ud83d\\ude00", "é"], "b": {}}'
    assert parse_json(text, "It") == json.loads(text)
    assert parse_json(b"\xef\xbb\xbf" + text.encode(), "It") == json.loads(text)


def test_a_file_beyond_the_limit_a_folder_and_no_file(tmp_path):
    large, folder = tmp_path / "large", tmp_path / "folder"
    with large.open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    folder.mkdir()
    for path, reason in ((large, f"it is larger than {MOST_BYTES:,} bytes"), (folder, "Is a directory")):
        with pytest.raises(InputError, match=reason):
            read_json(path)
        with pytest.raises(InputError, match=reason):
            read_yaml(path, "It")
    assert read_json(tmp_path / "none") is None
    with pytest.raises(InputError, match="No such file"):
        read_yaml(tmp_path / "none", "It")
    with pytest.raises(InputError, match="null"):
        read_yaml(tmp_path / "a\0b", "It")


def test_only_numbers_that_are_read_as_such_may_not_be_long():
    digits = "1234567890" * 4
    recipe = parse_yaml(f"{{revision: {digits}, alpha: 0.{digits}, note: '{digits}'}}", "It", text_keys=TEXT_KEYS)
    assert recipe == {"revision": digits, "alpha": float(f"0.{digits}"), "note": digits}
