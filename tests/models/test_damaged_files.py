"""Files of models, heads, patches, adapters and cards that are broken or hostile are refused in one line."""

import json
import shutil
from pathlib import Path

import pytest

from hf_paint import InputError, interpolate_checkpoints, load_classifier, load_curve
from hf_paint.adapters.changes import open_change
from hf_paint.adapters.lora_files import check_linear, read_adapter_config, read_factors
from hf_paint.hub.card_source import license_of
from hf_paint.hub.pull import card_metadata
from hf_paint.models.loading import load_clip
from hf_paint.models.open_clip_format import clip_config, image_settings


ODD = (None, True, -1, 0, 2.5, "", "x", [], [1], [[]], {}, {"a": 1}, 10**25, "x" * 5000)
NOT_JSON = (b"", b"{", b"[]", b"\xff", b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}")


def changed(path, key, value):
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))


def refused_or_read(call):
    """Call a function, which may refuse its files, but not fail in another way."""
    try:
        call()
    except InputError:
        return True
    return False


@pytest.mark.parametrize("key", ["class_names", "templates", "task"])
def test_head(classifier_folder, tmp_path, key):
    folder = Path(shutil.copytree(classifier_folder, tmp_path / "model"))
    before = (folder / "head.json").read_text()
    for number, value in enumerate(ODD):
        (folder / "head.json").write_text(before)
        changed(folder / "head.json", key, value)
        refused_or_read(lambda: load_classifier(folder))
        refused_or_read(lambda n=number: interpolate_checkpoints(folder, folder, {0.5: tmp_path / f"out{n}"}))
    for content in NOT_JSON:
        (folder / "head.json").write_bytes(content)
        with pytest.raises(InputError, match="head.json"):
            load_classifier(folder)
    (folder / "head.json").write_text(before)
    (folder / "head.safetensors").write_bytes(b"torn")
    with pytest.raises(InputError, match="head.safetensors is damaged"):
        load_classifier(folder)


def test_adapter(adapter_folder, tmp_path):
    folder = Path(shutil.copytree(adapter_folder, tmp_path / "adapter"))
    before = (folder / "adapter_config.json").read_text()

    def read():
        config = read_adapter_config(folder)
        check_linear(config, folder)
        read_factors(folder, config)

    patterns = [{"[": 1}, {"a": "x"}, {"a": -1}, {"": None}, {"((((((": 1}]
    keys = ("peft_type", "base_model_name_or_path", "revision", "bias", "lora_alpha", "alpha_pattern", "use_rslora")
    for key in keys:
        for value in [*ODD, *patterns]:
            (folder / "adapter_config.json").write_text(before)
            changed(folder / "adapter_config.json", key, value)
            refused_or_read(read)
    for content in NOT_JSON[:2] + NOT_JSON[2:]:
        (folder / "adapter_config.json").write_bytes(content)
        assert refused_or_read(read)


def test_patch(patch_folder, tmp_path):
    folder = Path(shutil.copytree(patch_folder, tmp_path / "patch"))
    before = (folder / "patch_config.json").read_text()
    for key in json.loads(before):
        for value in ODD:
            (folder / "patch_config.json").write_text(before)
            changed(folder / "patch_config.json", key, value)
            refused_or_read(lambda: open_change(folder))
    for content in NOT_JSON:
        (folder / "patch_config.json").write_bytes(content)
        assert refused_or_read(lambda: open_change(folder))


CARDS = {
    "a list": "---\n- a\n---\n",
    "torn": "---\na: [b\n---\n",
    "a tag": "---\nhf_paint: !!python/object/apply:os.system ['true']\n---\n",
    "aliases": "---\na: &a [x, x, x, x, x, x, x, x, x]\n"
    + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    + "---\n",
    "nesting": f"---\n{'[' * 5000}\n---\n",
    "a model index": "---\nmodel-index: {a: 1}\n---\n",
    "no metadata": "# A model\n",
    "a long number": f"---\na: {'9' * 5000}\n---\n",
    "bytes": "---\na: \0\n---\n",
}


@pytest.mark.parametrize("card", CARDS.values(), ids=CARDS)
def test_card(tmp_path, card):
    (tmp_path / "README.md").write_text(card)
    with pytest.raises(InputError, match="card"):
        card_metadata(tmp_path)
    with pytest.raises(InputError):
        load_curve(tmp_path)
    assert license_of(str(tmp_path)) is None


def test_facts_of_a_card(tmp_path):
    for value in ODD:
        for facts in (
            value,
            {"curve": value},
            {"curve": {"alphas": value, "tasks": [value]}},
            {"curve": {"tasks": value}},
        ):
            (tmp_path / "README.md").write_text(f"---\n{json.dumps({'hf_paint': facts})}\n---\n")
            refused_or_read(lambda: load_curve(tmp_path))


def test_config(model_folder, tmp_path):
    folder = Path(shutil.copytree(model_folder, tmp_path / "model"))
    for content in NOT_JSON:
        (folder / "config.json").write_bytes(content)
        with pytest.raises(InputError):
            load_clip(folder)


@pytest.mark.parametrize("tower", ["text_config", "vision_config"])
def test_a_model_without_end_is_not_laid_out(model_folder, tmp_path, tower):
    folder = Path(shutil.copytree(model_folder, tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text())
    config[tower]["num_hidden_layers"] = 10**9
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="`num_hidden_layers` is 1000000000"):
        load_clip(folder)


def test_open_clip():
    vision, text = {"width": 64, "layers": 1}, {"width": 64, "heads": 1, "layers": 1}
    for value in ODD:
        refused_or_read(lambda v=value: clip_config({"embed_dim": v, "vision_cfg": vision, "text_cfg": text}))
        for key in ("image_size", "layers", "width", "patch_size", "head_width", "mlp_ratio"):
            changed = vision | {key: value}
            refused_or_read(lambda c=changed: clip_config({"embed_dim": 8, "vision_cfg": c, "text_cfg": text}))
        for key in ("mean", "std", "interpolation", "resize_mode"):
            refused_or_read(lambda k=key, v=value: image_settings({k: v}, 224))
