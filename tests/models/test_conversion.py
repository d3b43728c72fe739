"""open_clip models, reimplemented in plain torch with open_clip's names, compared with their conversions."""

import json
import re
import sys
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional
from transformers import CLIPModel, CLIPProcessor, pipeline

from drawn_tasks import CLASS_NAMES, draw_rows
from hf_paint import InputError, convert_open_clip
from hf_paint.cli.main import main
from open_clip_models import MODEL, TEXT, VISION, VOCABULARY, OpenCLIP, random_model, write_open_clip


@pytest.fixture(autouse=True)
def without_open_clip(monkeypatch):
    monkeypatch.setitem(sys.modules, "open_clip", None)  # its tokenizer has more tokens than the models here


def tokenize(texts, context_length):
    """Like `open_clip.tokenize`, letter by letter, without the zeros that open_clip pads with."""
    ids = {token: index for index, token in enumerate(VOCABULARY)}
    rows = torch.zeros(len(texts), context_length, dtype=torch.long)
    for row, text in zip(rows, texts, strict=True):
        words = [f"{word}</w>" for word in re.findall(r"[a-z]+|[.,]", text.lower())]
        spelled = [ids[piece] for word in words for piece in re.findall(r"\S</w>|\S", word)]
        kept = [ids["<|startoftext|>"], *spelled[: context_length - 2], ids["<|endoftext|>"]]
        row[: len(kept)] = torch.tensor(kept)
    return rows


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("quick_gelu", [False, True])
def test_embeddings_are_the_same(tmp_path, quick_gelu, binary):
    reference = random_model(quick_gelu=quick_gelu)
    source = write_open_clip(
        tmp_path / "source", reference, {"quick_gelu": quick_gelu, "custom_text": False}, binary=binary
    )
    made = convert_open_clip(source, tmp_path / "clip")
    model = CLIPModel.from_pretrained(tmp_path / "clip").eval()
    processor = CLIPProcessor.from_pretrained(tmp_path / "clip")
    assert (made.dtype, made.num_tensors) == ("float32", len(model.state_dict()))
    pixels = torch.randn(3, 3, 32, 32)
    tokens = processor.tokenizer(["a cat", "two dogs, a cow and much more"], padding="max_length", truncation=True)
    ids = torch.tensor(tokens.input_ids)
    assert ids.shape == (2, 24)
    with torch.no_grad():
        images, texts = reference.encode_image(pixels), reference.encode_text(ids)
        torch.testing.assert_close(model.get_image_features(pixels).pooler_output, images, atol=1e-5, rtol=0)
        torch.testing.assert_close(model.get_text_features(ids).pooler_output, texts, atol=1e-5, rtol=0)
        logits = 20.085537 * functional.normalize(images) @ functional.normalize(texts).T
        found = model(input_ids=ids, pixel_values=pixels).logits_per_image
        torch.testing.assert_close(found, logits, atol=1e-4, rtol=0)


def test_the_folder_is_an_ordinary_repository(tmp_path, capsys):
    source = write_open_clip(tmp_path / "source", random_model(), resize_mode="squash", interpolation="bilinear")
    assert main(["convert", str(source), str(tmp_path / "clip")]) == 0
    said = capsys.readouterr().out
    assert "a CLIPModel with 94 tensors in float32" in said
    assert "not compared with open_clip, because open_clip_torch is not installed" in said
    image = draw_rows(1, 0)["image"][0]
    answers = pipeline("zero-shot-image-classification", model=str(tmp_path / "clip"))(
        image, candidate_labels=list(CLASS_NAMES)
    )
    assert sum(answer["score"] for answer in answers) == pytest.approx(1)
    settings = CLIPProcessor.from_pretrained(tmp_path / "clip").image_processor
    assert (settings.size["height"], settings.resample, list(settings.image_mean)) == (32, 2, [0.4] * 3)
    assert main(["convert", str(source), str(tmp_path / "clip")]) == 2
    assert "already contains a model" in capsys.readouterr().err


def test_the_dtype_is_that_of_the_weights(tmp_path):
    reference = random_model().half()
    convert_open_clip(write_open_clip(tmp_path / "source", reference), tmp_path / "clip")
    weights = load_file(tmp_path / "clip" / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
    assert torch.equal(weights["visual_projection.weight"], reference.visual.proj.T)


def test_embeddings_are_compared_where_open_clip_is_installed(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "open_clip", SimpleNamespace(CLIP=OpenCLIP, tokenize=tokenize))
    source = write_open_clip(tmp_path / "source", random_model())
    assert convert_open_clip(source, tmp_path / "clip").difference < 1e-6
    assert main(["convert", str(source), str(tmp_path / "again")]) == 0
    assert "Embeddings: match open_clip to within" in capsys.readouterr().out

    class Other(OpenCLIP):
        def encode_text(self, ids):
            return super().encode_text(ids).flip(1)

    monkeypatch.setitem(sys.modules, "open_clip", SimpleNamespace(CLIP=Other, tokenize=tokenize))
    with pytest.raises(InputError, match="embeddings of the converted model differ"):
        convert_open_clip(source, tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("keys", "missing"),
    [
        ({"vision_cfg": {"timm_model_name": "vit_base_patch16_siglip_224", "image_size": 224}}, "timm_model_name"),
        ({"vision_cfg": VISION | {"layers": [3, 4, 6, 3]}}, "layers: .3, 4, 6, 3."),
        ({"vision_cfg": VISION | {"attentional_pool": True}}, "attentional_pool: True"),
        ({"vision_cfg": VISION | {"pool_type": "avg"}}, "pool_type: avg"),
        ({"text_cfg": {"hf_model_name": "roberta-base"}}, "hf_model_name: roberta-base.*text_cfg"),
        ({"text_cfg": TEXT | {"no_causal_mask": True}}, "no_causal_mask"),
        ({"text_cfg": TEXT | {"pool_type": "tok"}}, "pool_type: tok.*text_cfg"),
        ({"vision_cfg": VISION | {"output_tokens": True}}, "output_tokens: True.*vision_cfg"),
        ({"init_logit_bias": -10}, "init_logit_bias: -10.*model_cfg"),
        ({"multimodal_cfg": {"width": 8}}, "multimodal_cfg"),
        ({"vision_cfg": VISION | {"width": 192}}, "must have 'vision_model.embeddings.class_embedding' of shape"),
        ({"text_cfg": TEXT | {"layers": 2}}, "has a tensor 'text_model.encoder.layers.2"),
        ({"vision_cfg": None}, "must contain a `model_cfg`"),
    ],
)
def test_what_clip_lacks_is_said(tmp_path, keys, missing):
    source = write_open_clip(tmp_path / "source", random_model(), keys)
    with pytest.raises(InputError, match=missing):
        convert_open_clip(source, tmp_path / "clip")
    assert not (tmp_path / "clip").exists()


@pytest.mark.parametrize(
    ("prefix", "words"),
    [("transformer.", "has no text tower .`transformer.*`"), ("visual.", "has no image tower .`visual.*`")],
)
def test_a_tower_that_is_missing_is_named(tmp_path, prefix, words):
    source = write_open_clip(tmp_path / "source", random_model())
    file = source / "open_clip_model.safetensors"
    save_file({name: tensor for name, tensor in load_file(file).items() if not name.startswith(prefix)}, file)
    with pytest.raises(InputError, match=f"{words}.*Add the tensors of this tower from its base"):
        convert_open_clip(source, tmp_path / "clip")


def test_keys_that_change_nothing_are_accepted(tmp_path):
    vision = VISION | {"patch_dropout": 0.5, "pool_type": "tok", "attentional_pool": False}
    text = TEXT | {"pool_type": "argmax", "proj_type": "linear", "eos_id": 137, "pad_id": 0}
    settings = {"resize_mode": None, "interpolation": "random", "mean": 0.5}  # as open_clip reads them
    source = write_open_clip(tmp_path / "source", random_model(), {"vision_cfg": vision, "text_cfg": text}, **settings)
    convert_open_clip(source, tmp_path / "clip")
    processor = CLIPProcessor.from_pretrained(tmp_path / "clip").image_processor
    assert (processor.size["shortest_edge"], processor.resample, list(processor.image_mean)) == (32, 3, [0.5] * 3)


def test_names_of_training_and_of_a_text_tower_of_its_own_are_those_of_clip(tmp_path):
    reference = random_model()
    source = write_open_clip(tmp_path / "source", reference, {"custom_text": True}, binary=True)
    weights = {
        f"module.{name}" if name.startswith(("visual.", "logit_scale")) else f"module.text.{name}": tensor
        for name, tensor in reference.state_dict().items()
    }
    torch.save({"epoch": 3, "state_dict": weights, "optimizer": {}}, source / "open_clip_pytorch_model.bin")
    convert_open_clip(source, tmp_path / "clip")
    found = load_file(tmp_path / "clip" / "model.safetensors")
    assert torch.equal(found["text_projection.weight"], reference.text_projection.T)
    assert torch.equal(found["logit_scale"], reference.logit_scale)


def test_of_mixed_dtypes_the_widest_is_kept(tmp_path):
    reference = random_model().half()
    reference.ln_final.float()
    assert convert_open_clip(write_open_clip(tmp_path / "source", reference), tmp_path / "clip").dtype == "float32"
    weights = load_file(tmp_path / "clip" / "model.safetensors")
    assert torch.equal(weights["text_model.final_layer_norm.bias"], reference.ln_final.bias)
    assert torch.equal(weights["visual_projection.weight"], reference.visual.proj.T.float())


def test_damage_is_refused(tmp_path, model_folder):
    with pytest.raises(InputError, match="has no open_clip_config.json"):
        convert_open_clip(model_folder, tmp_path / "clip")
    with pytest.raises(InputError, match="cannot resize images"):
        convert_open_clip(
            write_open_clip(tmp_path / "longest", random_model(), resize_mode="longest"), tmp_path / "clip"
        )
    source = write_open_clip(tmp_path / "source", random_model(), tokenizer=False)
    with pytest.raises(InputError, match="has no CLIP tokenizer with 138 tokens.*--tokenizer"):
        convert_open_clip(source, tmp_path / "clip")
    with pytest.raises(InputError, match="has no CLIP tokenizer with 138 tokens"):
        convert_open_clip(source, tmp_path / "clip", tokenizer=model_folder)
    whole = write_open_clip(tmp_path / "whole", random_model())
    (tmp_path / "longest" / "open_clip_config.json").write_text("{torn")
    with pytest.raises(InputError, match="open_clip_config.json is not valid JSON"):
        convert_open_clip(tmp_path / "longest", tmp_path / "clip")
    for said in ("[]", '{"model_cfg": 3}', json.dumps({"model_cfg": MODEL | {"vision_cfg": "ViT-B-32"}})):
        (tmp_path / "longest" / "open_clip_config.json").write_text(said)
        with pytest.raises(
            InputError, match="must contain a (JSON object|`model_cfg` with embed_dim, vision_cfg and text_cfg)"
        ):
            convert_open_clip(tmp_path / "longest", tmp_path / "clip")
    convert_open_clip(source, tmp_path / "clip", tokenizer=whole)
    (tmp_path / "clip" / "head.json").write_text("of the model before")
    convert_open_clip(source, tmp_path / "clip", tokenizer=whole, overwrite=True)
    assert not (tmp_path / "clip" / "head.json").exists()
    (source / "open_clip_model.safetensors").write_bytes(b"torn")
    with pytest.raises(InputError, match="is damaged"):
        convert_open_clip(source, tmp_path / "torn", tokenizer=whole)
    (source / "open_clip_model.safetensors").unlink()
    for saved in ({"epoch": 3}, [torch.ones(1)], {"state_dict": None}):
        torch.save(saved, source / "open_clip_pytorch_model.bin")
        with pytest.raises(InputError, match="plain state dict of tensors"):
            convert_open_clip(source, tmp_path / "none", tokenizer=whole)
    (source / "open_clip_pytorch_model.bin").unlink()
    with pytest.raises(InputError, match="has no open_clip weights"):
        convert_open_clip(source, tmp_path / "none", tokenizer=whole)


def test_loading_a_model_of_open_clip_names_the_conversion(tmp_path):
    from hf_paint.models.loading import load_clip

    source = write_open_clip(tmp_path / "source", random_model())
    with pytest.raises(InputError, match="is an open_clip model. Convert it once: hf-paint convert"):
        load_clip(str(source))
