"""`hf-paint tasks`: built-in tasks, and the data of any other."""

import json
import shutil

import pytest
import yaml

from drawn_tasks import write_task, write_task_yaml
from folders import draw_folder, several
from hf_paint import get_task
from hf_paint.cli.main import main
from hf_paint.data.splits import load_splits
from printed import printed_rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twelve classes of six pictures, one of a single one, and among them a copy and two damaged files."""
    names = [f"class_{index:02}" for index in range(12)]
    files = {path: hue for hue, name in enumerate(names) for path in several(f"{name}/{{}}.png", 6, hue)}
    folder = draw_folder(tmp_path_factory.mktemp("pictures") / "textures", files | {"rare/0.png": 15})
    shutil.copy(folder / "class_00/0.png", folder / "class_00/copy.png")
    whole = (folder / "class_01/0.png").read_bytes()
    (folder / "class_01/half.png").write_bytes(whole[: len(whole) // 2])
    (folder / "class_02/none.png").write_bytes(b"")
    return folder


def show(capsys, *arguments):
    code = main(["tasks", *map(str, arguments)])
    return code, *capsys.readouterr()


def test_a_folder_is_opened_and_shown(folder, capsys):
    code, output, _ = show(capsys, folder)
    assert code == 0
    lines = output.splitlines()
    assert "\x1b" not in output
    for line in (
        f"data: imagefolder ({folder})",
        "columns: image (image), label (13 classes)",
        "prompt: a photo of a class 00.",
        "smaller than 224 x 224: 74 of 74",
        "cannot be read: 2",
    ):
        assert line in lines
    for name in ("class_01/half.png", "class_02/none.png"):
        assert any(line.startswith(f"  {folder / name} (") for line in lines)
    [pair] = [line for line in lines if "copy.png" in line]
    assert f"'{folder}/class_00/0.png'" in pair
    assert any("without test images: 1 of 13 ('rare')" in line for line in lines)
    assert "3 more (--all lists them)" in output  # all but five at either end
    assert [sum(f" class {index:02} " in line for line in lines) for index in (0, 11)] == [1, 1]
    long = show(capsys, folder, "--all")[1]
    assert [sum(f" class {index:02} " in line for line in long.splitlines()) for index in range(12)] == [1] * 12


def test_the_task_file_gives_the_same_rows(folder, capsys, tmp_path):
    _, text, _ = show(capsys, folder, "--yaml")
    show(capsys, folder, "--yaml", "--output", tmp_path / "kept.yaml")
    (tmp_path / "printed.yaml").write_text(text)
    given = load_splits(get_task(folder))
    for name in ("kept", "printed"):
        assert yaml.safe_load((tmp_path / f"{name}.yaml").read_text())["class_names"][0] == "class 00"
        kept = load_splits(get_task(tmp_path / f"{name}.yaml"))
        assert {key: split.fingerprint for key, split in kept.items()} == {
            key: split.fingerprint for key, split in given.items()
        }
        assert [split.label_indices.tolist() for split in kept.values()] == [
            split.label_indices.tolist() for split in given.values()
        ]


def test_json_holds_all_that_was_found(folder, capsys, tmp_path):
    code, output, _ = show(capsys, folder, "--json")
    summary = json.loads(output)
    show(capsys, folder, "--json", "--output", tmp_path / "summary.json")
    assert code == 0
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    assert sum(split["num_images"] for split in summary["splits"].values()) == 76
    assert {image["path"] for image in summary["images"]["unreadable"]} == {
        str(folder / "class_01/half.png"),
        str(folder / "class_02/none.png"),
    }
    assert summary["missing"]["test"] == ["rare"]


def test_a_task_file_a_definition_and_a_stream_are_opened(capsys, tmp_path):
    path = write_task_yaml(tmp_path, "colours", train=20, test=10)
    assert ["all", "18", "2", "10"] in printed_rows(show(capsys, path)[1])
    definition = write_task(tmp_path, train=20, test=10).to_dict()
    assert "test: 10 images, 'test'" in show(capsys, json.dumps(definition | {"name": "inline"}))[1]
    stream = definition | {"streaming": True, "splits": {"train": "train", "validation": None, "test": "test"}}
    output = show(capsys, json.dumps(stream))[1]
    assert "train: a stream, 'train'" in output
    assert ["red", "-", "-"] in [row[:3] for row in printed_rows(output)]


@pytest.mark.parametrize("key", ["label_column", "image_column", "group_column"])
def test_a_column_that_a_table_lacks_is_named_in_one_line(key, capsys, tmp_path):
    labels = [f"{tmp_path / name}.png,{name[0]}" for name in ("a0", "b0", "a1", "b1")]
    (tmp_path / "labels.csv").write_text("\n".join(["filename,digit", *labels]))
    draw_folder(tmp_path, {f"{name}.png": 3 for name in ("a0", "b0", "a1", "b1")})
    code, _, error = show(capsys, f"{{dataset: {tmp_path}/labels.csv, {key}: species}}")
    assert code == 2
    assert f"no column 'species'; its columns are filename, digit. Correct `{key}`" in error


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (
            "image",
            "that 'image' of task 'signs' names exists; the first would be '{}/no/a0.png'. Paths are",
        ),
        ("file", "'file' names pictures, but there is no '{}/no/a0.png'; paths are relative to the table"),
    ],
)
def test_a_table_of_which_no_path_leads_to_a_picture_is_refused_in_one_line(column, words, capsys, tmp_path):
    (tmp_path / "signs.csv").write_text(f"{column},sign\nno/a0.png,a\nno/b0.png,b\nno/a1.png,a\nno/b1.png,b\n")
    code, _, error = show(capsys, tmp_path / "signs.csv")
    assert code == 2
    assert words.format(tmp_path) in error
    assert len([line for line in error.splitlines() if line.startswith("hf-paint:")]) == 1


def test_a_slip_in_braces_is_told_without_the_words_of_a_parser(capsys):
    code, _, error = show(capsys, "{dataset: digits, bad_rows: skip")
    assert code == 2
    assert "line 1, column 33: expected ',' or '}', but the text ends. Check brackets" in error
    assert "unicode" not in error


def test_a_built_in_task_is_shown_without_its_data(capsys):
    assert yaml.safe_load(show(capsys, "mnist")[1])["name"] == "mnist"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--json"], "--json needs one task: a built-in name, a folder, a data file or a task YAML."),
        (["mnist", "--yaml", "--json"], "--yaml and --json exclude each other. Remove one of them."),
        (["mnist", "--output", "x.yaml"], "--output is the file for --yaml or --json. Add one of them."),
        (["no_such_folder/"], "There is no file or folder 'no_such_folder'"),
    ],
)
def test_mistakes_are_named_in_one_line(capsys, arguments, message):
    code, _, error = show(capsys, *arguments)
    assert code == 2
    assert message in error
    assert len(error.strip().splitlines()) == 1
