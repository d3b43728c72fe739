import json
import shutil
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import CLIPModel

import hf_paint
from hf_paint import InputError, apply_patch, combine, interpolate
from hf_paint.adapters.patch import save_patch
from hf_paint.adapters.patch_config import read_patch_config
from hf_paint.fingerprints import fingerprint_weights
from hf_paint.models.loading import save_clip
from hf_paint.models.towers import image_tower_weights
from hf_paint.weights.manifest import MANIFEST


FROZEN = "vision_model.embeddings.class_embedding"
MOVED = "visual_projection.weight"


def fine_tuned(model, seed=1):
    """The image tower after small random steps, with one frozen tensor and one frozen row of another."""
    generator = torch.Generator().manual_seed(seed)
    theta = {
        name: tensor + 0.01 * torch.randn(tensor.shape, generator=generator)
        for name, tensor in image_tower_weights(model).items()
    }
    theta[FROZEN] = model.state_dict()[FROZEN].clone()
    theta[MOVED][0] = model.state_dict()[MOVED][0]
    return theta


def copied(tensors):
    return {name: tensor.clone() for name, tensor in tensors.items()}


def raw(tensor):
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def assert_same_bytes(result, expected):
    assert result.keys() == expected.keys()
    assert [name for name in expected if raw(result[name]) != raw(expected[name])] == []


@pytest.fixture
def theta_0(model):
    return copied(image_tower_weights(model))


@pytest.fixture
def theta_1(model):
    return fine_tuned(model)


@pytest.fixture
def patch(theta_0, theta_1, tmp_path):
    save_patch(theta_0, theta_1, tmp_path / "patch", base_model_id="someone/tiny", base_revision="abc123", alpha=0.4)
    return tmp_path / "patch"


def rewrite(folder, **values):
    (folder / MANIFEST).unlink(missing_ok=True)  # as people do who change it by hand
    path = folder / "patch_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_the_file_holds_the_differences_of_what_moved(patch, theta_0, theta_1):
    stored = load_file(patch / "patch.safetensors")
    assert stored.keys() == theta_0.keys() - {FROZEN}
    for name, difference in stored.items():
        assert np.array_equal(difference.numpy(), theta_1[name].numpy() - theta_0[name].numpy()), name
    with safe_open(patch / "patch.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}
    assert sorted(path.name for path in patch.iterdir()) == [MANIFEST, "patch.safetensors", "patch_config.json"]


def test_the_config_says_what_the_patch_belongs_to(theta_0, theta_1, tmp_path):
    written = save_patch(
        theta_0, theta_1, tmp_path, base_model_id="someone/tiny", alpha=0.3, dtype="bfloat16", patching_tasks=["mnist"]
    )
    assert json.loads((tmp_path / "patch_config.json").read_text()) == {
        "base_fingerprint": fingerprint_weights(theta_0),
        "base_model_id": "someone/tiny",
        "base_revision": None,
        "alpha": 0.3,
        "dtype": "bfloat16",
        "patching_tasks": ["mnist"],
        "format_version": 1,
    }
    assert read_patch_config(tmp_path) == written


@pytest.mark.parametrize("alpha", [0.1, 0.3, 0.5, 0.77, 0.999])
def test_equals_interpolation_bit_for_bit(model, patch, theta_0, theta_1, alpha):
    patched = image_tower_weights(apply_patch(model, patch, alpha))
    assert_same_bytes(patched, interpolate(theta_0, theta_1, alpha))
    x_0, x_1 = theta_0[MOVED].numpy(), theta_1[MOVED].numpy()
    assert np.array_equal(patched[MOVED].numpy(), x_0 + np.float32(alpha) * (x_1 - x_0))


def test_the_ends(model, patch, theta_0, theta_1):
    assert_same_bytes(image_tower_weights(apply_patch(model, patch, 0)), theta_0)
    for name, tensor in image_tower_weights(apply_patch(model, patch, 1)).items():
        torch.testing.assert_close(tensor, theta_1[name], rtol=0, atol=2**-22)  # one rounding of weights below 4


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_zeros_large_numbers_and_changed_signs_of_zero(model, tmp_path, dtype):
    specials = torch.tensor([0.0, -0.0, 6e4, -6e4, 1e-40, 3e38])
    model.state_dict()[MOVED][0, :6] = specials
    model.state_dict()[MOVED][1, :2] = specials[:2]
    theta_0, theta_1 = copied(image_tower_weights(model)), fine_tuned(model)
    theta_1[MOVED][1, :2] = specials[:2].flip(0)
    save_patch(theta_0, theta_1, tmp_path, dtype=dtype)
    result = image_tower_weights(apply_patch(model, tmp_path, 0.5))[MOVED]
    assert raw(result[0]) == raw(theta_0[MOVED][0])
    assert raw(result[1, :2]) == raw(interpolate(theta_0, theta_1, 0.5)[MOVED][1, :2])


def test_several_patches_equal_combine_bit_for_bit(model, patch, theta_0, theta_1, tmp_path):
    other = fine_tuned(model, seed=2)
    save_patch(theta_0, other, tmp_path / "other", alpha=0.25)
    patched = apply_patch(model, {patch: 0.7, tmp_path / "other": None})
    expected = combine(theta_0, {"a": theta_1, "b": other}, {"a": 0.7, "b": 0.25})
    assert_same_bytes(image_tower_weights(patched), expected)
    one = apply_patch(model, {patch: 0, tmp_path / "other": 0.25})
    assert_same_bytes(image_tower_weights(one), interpolate(theta_0, other, 0.25))


def test_alpha_defaults_to_the_chosen_one(model, patch, theta_0, theta_1):
    assert_same_bytes(image_tower_weights(apply_patch(model, str(patch))), interpolate(theta_0, theta_1, 0.4))
    rewrite(patch, alpha=None)
    with pytest.raises(InputError, match="The config of .* does not contain an alpha. Pass one"):
        apply_patch(model, patch)


def test_the_config_has_the_canonical_alpha(theta_0, theta_1, tmp_path):
    assert save_patch(theta_0, theta_1, tmp_path / "patch", alpha=3 * 0.1).alpha == 0.3
    (tmp_path / "patch" / MANIFEST).unlink()
    config = tmp_path / "patch" / "patch_config.json"
    config.write_text(config.read_text().replace('"alpha": 0.3', f'"alpha": {3 * 0.1}'))
    assert read_patch_config(tmp_path / "patch").alpha == 0.3


def test_extrapolation_is_asked_for(model, patch, theta_0, theta_1):
    for alpha in (1.5, -0.5, float("nan")):
        with pytest.raises(InputError, match="alpha must be in"):
            apply_patch(model, patch, alpha)
        with pytest.raises(InputError, match="alpha must be in"):
            apply_patch(model, {patch: alpha})
    beyond = apply_patch(model, patch, 1.5, extrapolate=True)
    assert_same_bytes(image_tower_weights(beyond), interpolate(theta_0, theta_1, 1.5, extrapolate=True))
    with pytest.raises(InputError, match="for several patches, but not both"):
        apply_patch(model, {patch: 0.5}, 0.5)


def test_the_model_in_memory_and_what_is_frozen_do_not_change(model, patch):
    before = copied(model.state_dict())
    patched = apply_patch(model, patch, 0.5).state_dict()
    assert_same_bytes(model.state_dict(), before)
    changed = {name for name in before if raw(patched[name]) != raw(before[name])}
    assert changed == image_tower_weights(model).keys() - {FROZEN}
    assert raw(patched[MOVED][0]) == raw(before[MOVED][0])
    assert not {x.data_ptr() for x in patched.values()} & {x.data_ptr() for x in model.state_dict().values()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_folder_is_patched_in_its_dtype(model, processor, tmp_path, dtype):
    """theta_1 is trained in float32; the patched weights are rounded once, from float32."""
    save_clip(deepcopy(model).to(dtype), processor, tmp_path / "base")
    stored = load_file(tmp_path / "base" / "model.safetensors")
    wide = {name: x.float() for name, x in stored.items() if name in image_tower_weights(model)}
    theta_1 = {name: x + 0.01 for name, x in wide.items()}
    save_patch(wide, theta_1, tmp_path / "patch")
    expected = stored | {name: x.to(dtype) for name, x in interpolate(wide, theta_1, 0.3).items()}
    assert_same_bytes(apply_patch(tmp_path / "base", tmp_path / "patch", 0.3).state_dict(), expected)
    in_memory = CLIPModel.from_pretrained(tmp_path / "base", dtype=dtype)
    assert_same_bytes(apply_patch(in_memory, tmp_path / "patch", 0.3).state_dict(), expected)


def test_a_patched_model_is_saved_and_read_like_any_other(model_folder, patch, theta_0, theta_1, tmp_path):
    apply_patch(model_folder, patch, 0.6).save_pretrained(tmp_path / "patched")
    read = CLIPModel.from_pretrained(tmp_path / "patched")
    assert_same_bytes(image_tower_weights(read), interpolate(theta_0, theta_1, 0.6))


def test_bfloat16_takes_half_the_space_and_is_nearly_exact(model, patch, theta_0, theta_1, tmp_path):
    save_patch(theta_0, theta_1, tmp_path / "half", dtype="bfloat16")
    narrow = load_file(tmp_path / "half" / "patch.safetensors")
    wide = load_file(patch / "patch.safetensors")
    assert sum(x.nbytes for x in wide.values()) == 2 * sum(x.nbytes for x in narrow.values())
    result = image_tower_weights(apply_patch(model, tmp_path / "half", 0.5))
    for name, x in interpolate(theta_0, theta_1, 0.5).items():
        start, end = theta_0[name].double(), theta_1[name].double()
        bound = 0.5 * (end - start).abs() / 256 + 2**-23 * torch.maximum(start.abs(), end.abs())
        assert ((result[name].double() - x.double()).abs() <= bound).all(), name


def test_another_base_is_refused_and_the_right_one_named(model, patch, processor, tmp_path):
    needed = read_patch_config(patch).base_fingerprint
    model.state_dict()["vision_model.post_layernorm.bias"][0] += 1e-3
    given = fingerprint_weights(image_tower_weights(model))
    named = f"needs someone/tiny at revision abc123 .image tower {needed}., but the fingerprint of the image tower of"
    with pytest.raises(InputError, match=f"{named} the CLIPModel in memory is {given}"):
        apply_patch(model, patch)
    save_clip(model, processor, tmp_path / "base")
    with pytest.raises(InputError, match=f"{named} '.*base' is {given}"):
        apply_patch(tmp_path / "base", {patch: 0.5})


def test_another_text_tower_does_not_matter(model, patch):
    model.state_dict()["text_projection.weight"][0] += 1
    patched = apply_patch(model, patch)
    assert torch.equal(patched.text_projection.weight, model.text_projection.weight)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("no config", "is not a patch: it has no patch_config.json"),
        ("no weights", "is not a patch: it has no patch.safetensors"),
        ("torn config", "is not valid JSON"),
        ("no mapping", "must contain a JSON object"),
        ("binary config", "is not valid JSON"),
        ("short config", "damaged: KeyError: 'base_fingerprint'"),
        ("alpha in words", "damaged: TypeError: alpha must be a number or null, got 'half'"),
        ("unknown dtype", "damaged: ValueError: the dtype must be one of float32, bfloat16, got 'int4'"),
        ("newer", "patch format version 2, but this version of hf_paint only reads 1. Update hf_paint"),
        ("torn weights", "The patch.safetensors of .* is damaged"),
        ("other dtype", "is damaged: its weights are F32, but its config says bfloat16"),
        ("other shape", f"it has '{MOVED}' of shape .2, 3., but the base model has .24, 48."),
        ("other name", "it has 'logit_scale' of shape .., but the base model has nothing"),
    ],
)
def test_a_damaged_patch(model, patch, damage, message):
    config, weights = patch / "patch_config.json", patch / "patch.safetensors"
    if damage != "no config":
        (patch / MANIFEST).unlink()  # as in a patch from the Hub
    whole = weights.read_bytes()
    values = json.loads(config.read_text())
    {
        "no config": config.unlink,
        "no weights": weights.unlink,
        "torn config": lambda: config.write_text(config.read_text()[:50]),
        "no mapping": lambda: config.write_text("[1]"),
        "binary config": lambda: config.write_bytes(b'{"alpha": "\xff"}'),
        "short config": lambda: config.write_text(json.dumps({"format_version": 1, "alpha": values["alpha"]})),
        "alpha in words": lambda: rewrite(patch, alpha="half"),
        "unknown dtype": lambda: rewrite(patch, dtype="int4"),
        "newer": lambda: rewrite(patch, format_version=2),
        "torn weights": lambda: weights.write_bytes(whole[:-10]),
        "other dtype": lambda: rewrite(patch, dtype="bfloat16"),
        "other shape": lambda: save_file({MOVED: torch.zeros(2, 3)}, weights),
        "other name": lambda: save_file({"logit_scale": torch.tensor(1.0)}, weights),
    }[damage]()
    with pytest.raises(InputError, match=message):
        apply_patch(model, patch)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere/at/all", "neither a folder nor a Hub repository id"),
        (
            "someone/not-downloaded",
            "is not a folder, and downloading it .* failed: .*connection",
        ),
    ],
)
def test_a_patch_that_is_not_there(model, name, message):
    with pytest.raises(InputError, match=message):
        apply_patch(model, name)


def test_what_cannot_be_a_patch_is_not_saved(model, theta_0, theta_1, tmp_path):
    with pytest.raises(InputError, match="only the image tower, and 'logit_scale'"):
        save_patch(model.state_dict(), model.state_dict(), tmp_path / "patch")
    with pytest.raises(InputError, match="1 tensors are only in theta_0"):
        save_patch(theta_0, {name: x for name, x in theta_1.items() if name != MOVED}, tmp_path / "patch")
    with pytest.raises(InputError, match="must be one of float32, bfloat16, got 'float16'"):
        save_patch(theta_0, theta_1, tmp_path / "patch", dtype="float16")
    assert not (tmp_path / "patch").exists()


def test_saving_again_replaces_and_leaves_other_files(model, patch, theta_0, theta_1):
    (patch / "README.md").write_text("a card")
    save_patch(theta_0, theta_0, patch, alpha=1.0)
    assert load_file(patch / "patch.safetensors") == {}
    assert_same_bytes(apply_patch(model, patch).state_dict(), model.state_dict())
    assert sorted(path.name for path in patch.iterdir()) == [
        *("README.md", MANIFEST, "patch.safetensors", "patch_config.json")
    ]


def test_new_weights_never_stand_beside_an_old_config(model, patch, theta_0, theta_1, monkeypatch):
    before = {path.name: path.read_bytes() for path in patch.iterdir()}

    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(hf_paint.adapters.patch_config.PatchConfig, "to_json", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_patch(theta_0, theta_1, patch, dtype="bfloat16")
    assert {path.name: path.read_bytes() for path in patch.iterdir()} == before

    replace = Path.replace

    def interrupted_at_the_config(path, target):
        if Path(target).name == "patch_config.json":
            raise KeyboardInterrupt
        return replace(path, target)

    monkeypatch.undo()
    monkeypatch.setattr(Path, "replace", interrupted_at_the_config)
    with pytest.raises(KeyboardInterrupt):
        save_patch(theta_0, theta_1, patch, dtype="bfloat16")
    with pytest.raises(InputError, match="is not a patch"):
        apply_patch(model, patch, 0.5)


def test_the_base_is_loaded_at_the_revision_of_its_patch(model, patch, monkeypatch, model_folder):
    asked = []

    def load_clip(name, *, revision):
        asked.append((name, revision))
        return deepcopy(model), None, torch.float32

    monkeypatch.setattr(hf_paint.adapters.apply, "load_clip", load_clip)
    apply_patch("someone/tiny", patch)
    apply_patch("someone/tiny", patch, base_revision="v2")
    apply_patch("another/copy", patch)
    assert asked == [("someone/tiny", "abc123"), ("someone/tiny", "v2"), ("another/copy", "main")]


def test_both_files_come_from_one_commit(model, patch, monkeypatch, tmp_path):
    """The branch moves between the two downloads."""
    snapshots = tmp_path / "snapshots"
    shutil.copytree(patch, snapshots / "c0ffee")
    asked = []

    def download(repo_id, name, *, revision):
        asked.append((repo_id, name, revision))
        commit = "c0ffee" if len(asked) == 1 else revision
        return str(snapshots / commit / name)

    monkeypatch.setattr(hf_paint.repositories, "hf_hub_download", download)
    apply_patch(model, "someone/patch", 0.5, revision="alpha-0.50")
    first, second = ("patch_config.json", "alpha-0.50"), ("patch.safetensors", "c0ffee")
    assert asked == [("someone/patch", *first), ("someone/patch", *second)]
