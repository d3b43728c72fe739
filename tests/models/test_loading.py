import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import CLIPModel, CLIPProcessor, pipeline

from hf_paint import InputError
from hf_paint.models.loading import load_clip, save_clip
from hf_paint.models.towers import image_tower, image_tower_weights, with_weights
from hf_paint.weights.layers import IMAGE_TOWER


def test_tower_shares_parameters_and_names(model):
    tower = image_tower(model)
    assert set(tower.state_dict()) == {name for name in model.state_dict() if name.startswith(IMAGE_TOWER)}
    assert all(p is dict(model.named_parameters())[name] for name, p in tower.named_parameters())
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = model.get_image_features(pixel_values=pixels).pooler_output
        assert torch.equal(tower(pixel_values=pixels).image_embeds, expected)


def test_tower_config_is_a_copy(model):
    before = model.config.to_dict()
    image_tower(model).config.use_cache = False
    assert model.config.to_dict() == before


def test_a_copy_with_other_weights_shares_what_it_can(model):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    other = {name: 1.5 * tensor for name, tensor in image_tower_weights(model).items()}
    copy, half = with_weights(model, other), with_weights(model, other, torch.bfloat16)
    for name, tensor in model.state_dict().items():
        expected = other.get(name, tensor)
        assert torch.equal(copy.state_dict()[name], expected)
        assert copy.state_dict()[name].data_ptr() == expected.data_ptr()
        assert torch.equal(half.state_dict()[name], expected.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.nn.init.zeros_(half.visual_projection.weight)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_load_is_float32_and_says_the_stored_dtype(model, processor, tmp_path):
    save_clip(model.half(), processor, tmp_path)
    loaded, _, dtype = load_clip(str(tmp_path))
    assert loaded.dtype == torch.float32
    assert dtype == torch.float16
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({k: v for k, v in config.items() if k != "dtype"}))
    assert load_clip(str(tmp_path))[2] == torch.float16  # the file says so, whatever the config says


def test_saved_folder_is_an_ordinary_repository(model_folder):
    model, processor = CLIPModel.from_pretrained(model_folder), CLIPProcessor.from_pretrained(model_folder)
    assert set(image_tower_weights(model))
    assert (Path(model_folder) / "preprocessor_config.json").exists()  # where transformers 4 looks
    classify = pipeline("zero-shot-image-classification", model=model_folder)
    from drawn_tasks import draw_rows

    answers = classify(draw_rows(1, 0)["image"][0], candidate_labels=["red", "blue"])
    assert sum(answer["score"] for answer in answers) == pytest.approx(1)
    assert processor.tokenizer.model_max_length == 32


def test_bin_weights_are_refused_with_the_way_out(model_folder, model, tmp_path):
    folder = tmp_path / "bin"
    shutil.copytree(model_folder, folder)
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="has no safetensors.*use_safetensors=False"):
        load_clip(str(folder))


def test_missing_tensors_are_refused(model_folder, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "short"
    shutil.copytree(model_folder, folder)
    weights = load_file(folder / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match="lacks 1 tensors, first 'visual_projection.weight'"):
        load_clip(str(folder))


@pytest.mark.parametrize(
    "damage", ["nowhere", "no config", "bad config", "torn weights", "no processor", "no tokenizer", "other size"]
)
def test_unreadable_folder(model_folder, tmp_path, damage):
    folder = tmp_path / "model"
    if damage != "nowhere":
        shutil.copytree(model_folder, folder)
    if damage == "no config":
        (folder / "config.json").unlink()
    if damage == "bad config":
        config = json.loads((folder / "config.json").read_text())
        config["vision_config"]["num_attention_heads"] = 7
        (folder / "config.json").write_text(json.dumps(config))
    if damage == "no tokenizer":
        (folder / "tokenizer.json").unlink()
    if damage == "other size":
        text = (folder / "processor_config.json").read_text()
        (folder / "processor_config.json").write_text(text.replace("32", "64"))
        (folder / "preprocessor_config.json").unlink()
    if damage == "torn weights":
        content = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(content[: len(content) // 2])
    if damage == "no processor":
        for name in ("processor_config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"):
            (folder / name).unlink()
    with pytest.raises(InputError):
        load_clip(str(folder))


def test_other_models_are_refused(tmp_path):
    from transformers import ViTConfig

    ViTConfig().save_pretrained(tmp_path)
    with pytest.raises(InputError, match="is a vit model"):
        load_clip(str(tmp_path))
