"""What is not a model, wherever a model is named: one line that says how to convert it."""

import pytest

from hf_paint import InputError, convert_open_clip, interpolate_checkpoints
from hf_paint.cli.main import main
from hf_paint.models.loading import load_clip
from hf_paint.models.stored import find_tower


FILE = "is a single file, but a model is a folder or a Hub repository id.*hf-paint convert FOLDER OUTPUT"
ADAPTER = "is a peft adapter. Merge it into its base: hf-paint interpolate BASE --adapter"


@pytest.fixture(params=["a file", "no file", "an adapter"])
def other(request, tmp_path, adapter_folder):
    """A name that is no model, and what the message says."""
    path = tmp_path / "epoch_5.pt"
    if request.param == "a file":
        path.write_bytes(b"weights")
    return (adapter_folder, ADAPTER) if request.param == "an adapter" else (str(path), FILE)


def test_what_is_not_a_model_is_named(other, model_folder, tmp_path):
    name, message = other
    for use in (
        load_clip,
        find_tower,
        lambda name: interpolate_checkpoints(model_folder, name, {0.5: tmp_path / "out"}),
        lambda name: interpolate_checkpoints(name, model_folder, {0.5: tmp_path / "out"}),
    ):
        with pytest.raises(InputError, match=message) as error:
            use(name)
        assert "\n" not in str(error.value)


def test_a_checkpoint_file_of_open_clip_is_not_a_source(tmp_path):
    with pytest.raises(InputError, match=FILE):
        convert_open_clip(tmp_path / "epoch_5.pt", tmp_path / "out")


def test_the_command_line_prints_one_line(other, tmp_path, capsys):
    name, _ = other
    for command in (
        ["evaluate", name, "--tasks", "mnist", "--use_cpu"],
        ["patch", "--model", name, "--patching_tasks", "mnist", "--supported_tasks", "svhn", "--use_cpu", "true"]
        + ["--output_dir", str(tmp_path / "run")],
    ):
        assert main(command) == 2
        assert capsys.readouterr().err.count("hf-paint: ") == 1
