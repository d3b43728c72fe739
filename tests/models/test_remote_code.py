"""Code of a repository never runs, and nobody is asked whether it may."""

import ast
import contextlib
import json
import shutil
from pathlib import Path

import pytest

import hf_paint
from hf_paint import InputError, Task
from hf_paint.data.sources import load_rows
from hf_paint.models.loading import load_clip
from hf_paint.models.pretrained import check_config


SOURCE = Path(hf_paint.__file__).parent
EVIL = """
from pathlib import Path
from transformers import CLIPImageProcessorPil, CLIPTokenizer, PreTrainedConfig

Path({ran!r}).write_text("ran")

class Config(PreTrainedConfig):
    model_type = "evil"

class Images(CLIPImageProcessorPil):
    pass

class Tokens(CLIPTokenizer):
    pass
"""
CONFIG = {"AutoConfig": "evil.Config", "AutoModel": "evil.Config"}
IMAGES = {"image_processor_type": "Evil", "auto_map": {"AutoImageProcessor": "evil.Images"}}
TOKENS = {"tokenizer_class": "Tokens", "auto_map": {"AutoTokenizer": ["evil.Tokens", "evil.Tokens"]}}
CASES = {
    "a known model type": {"config.json": {"auto_map": CONFIG}},
    "an unknown model type": {"config.json": {"model_type": "evil", "auto_map": CONFIG}},
    "no model type": {"config.json": {"model_type": None, "auto_map": CONFIG}},
    "an image processor": {"preprocessor_config.json": IMAGES, "processor_config.json": None},
    "an image processor in the processor": {"processor_config.json": {"image_processor": IMAGES, **IMAGES}},
    "a tokenizer": {"tokenizer_config.json": TOKENS},
    "code to generate with": {"generation_config.json": {"custom_generate": "evil"}},
}


@pytest.fixture
def asked(monkeypatch):
    """The questions that were asked, each of them answered with yes."""
    questions = []
    monkeypatch.setattr("builtins.input", lambda question="": questions.append(question) or "y")
    return questions


@pytest.mark.parametrize("files", CASES.values(), ids=CASES)
def test_nothing_runs_and_nobody_is_asked(model_folder, tmp_path, asked, files):
    folder = Path(shutil.copytree(model_folder, tmp_path / "model"))
    (folder / "evil.py").write_text(EVIL.format(ran=str(tmp_path / "ran")))
    for name, keys in files.items():
        path = folder / name
        if keys is None:
            path.unlink()
        else:
            path.write_text(json.dumps((json.loads(path.read_text()) if path.exists() else {}) | keys))
    with contextlib.suppress(InputError):
        load_clip(folder)
    assert not (tmp_path / "ran").exists()
    assert asked == []


@pytest.mark.parametrize(
    ("tower", "kernel"),
    [
        (None, "someone/kernel"),
        ("vision_config", "someone/kernel"),
        (None, "flash_attention_2"),
        ("text_config", "sdpa"),
    ],
)
def test_a_kernel_of_the_hub_is_refused_by_name(model_folder, tmp_path, tower, kernel):
    folder = Path(shutil.copytree(model_folder, tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text())
    (config if tower is None else config[tower])["attn_implementation"] = kernel
    (folder / "config.json").write_text(json.dumps(config))
    refused = pytest.raises(InputError, match=f"asks for the kernel '{kernel}'")
    with contextlib.nullcontext() if kernel == "sdpa" else refused:
        load_clip(folder)


def test_every_model_processor_and_tokenizer_passes_one_door():
    calls = {
        str(path.relative_to(SOURCE))
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "from_pretrained"
    }
    assert calls == {"models/pretrained.py", "adapters/lora.py"}  # peft's `PeftModel` takes no code of a repository


def test_pickles_are_no_data_set(tmp_path):
    task = Task.from_dict({"name": "rows", "dataset": "pandas", "templates": ["{}"], "data_files": {"test": "x.pkl"}})
    with pytest.raises(InputError, match="pickles"):
        load_rows(task, "test")


def test_a_size_beyond_all_reason_is_damage_and_any_other_number_is_not():
    check_config(
        {"created": 1_700_000_000, "num_parameters": 151_277_313, "text_config": {"vocab_size": 256_000}}, "x"
    )
    for config in ({"projection_dim": 10**8}, {"vision_config": {"num_hidden_layers": 2000}}, {"vocab_size": 10**9}):
        with pytest.raises(InputError, match="The config.json of 'x' is damaged"):
            check_config(config, "x")
