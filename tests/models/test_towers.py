"""Every model family, end to end: head, training, sweep, saving, pushing, pulling, pipeline."""

import re

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForZeroShotImageClassification, pipeline

from drawn_tasks import CLASS_NAMES, draw_rows, write_task
from hf_paint import (
    InputError,
    PaintTrainer,
    PaintTrainingArguments,
    PushOptions,
    apply_patch,
    build_zero_shot_head,
    extract_lora,
    layer_index,
    load_classifier,
    patch_single,
    push_variants,
)
from hf_paint.adapters.lora import LORA_TARGETS, image_tower_pattern
from hf_paint.data.transforms import PixelTransform
from hf_paint.merging.registry import read_method
from hf_paint.models.families import find_family, logit_scale
from hf_paint.models.loading import load_clip, save_clip
from hf_paint.models.prompts import embed_prompts
from hf_paint.models.towers import image_tower, image_tower_weights
from hf_paint.weights.layers import IMAGE_TOWER
from tiny_families import FAMILIES, make


TEMPLATE = "a photo of a {}."
each_family = pytest.mark.parametrize("family", FAMILIES)


def tokens_of(processor, texts):
    """The text input in the pipeline of transformers."""
    padding = {"padding": True}
    if type(processor).__name__ == "SiglipProcessor":
        padding = {"padding": "max_length", "max_length": 64, "truncation": True}
    return processor.tokenizer(texts, return_tensors="pt", **padding)


def image():
    return draw_rows(1, 3, size=(50, 37))["image"][0]


@each_family
def test_logits_are_those_of_the_model(family):
    model, processor = make(family)
    pixels = torch.randn(3, 3, 32, 32)
    tokens = tokens_of(processor, [TEMPLATE.format(name) for name in CLASS_NAMES])
    with torch.no_grad():
        expected = model(pixel_values=pixels, **tokens).logits_per_image
        image_embeds = image_tower(model)(pixel_values=pixels).image_embeds
    logits = build_zero_shot_head(model, processor.tokenizer, CLASS_NAMES, [TEMPLATE])(image_embeds)
    bias = getattr(model, "logit_bias", torch.zeros(1)).detach()
    torch.testing.assert_close(logits + bias, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(logits.softmax(dim=1), expected.softmax(dim=1), atol=1e-5, rtol=0)  # the bias cancels
    assert torch.equal(logits.argsort(dim=1), expected.sigmoid().double().logit().argsort(dim=1))


@each_family
def test_a_prompt_is_embedded_alike_beside_others_and_alone(family):
    model, processor = make(family)
    prompts = ["a cat", "the number one two three, in a long prompt", "a cat", "x"]
    together = embed_prompts(model, processor.tokenizer, prompts, batch_size=2)
    for prompt, embeds in zip(prompts, together, strict=True):
        with torch.no_grad():
            alone = model.get_text_features(**tokens_of(processor, [prompt])).pooler_output[0]
        torch.testing.assert_close(embeds, alone / alone.norm(), atol=1e-6, rtol=0)
    long = embed_prompts(model, processor.tokenizer, ["long " * 200])
    assert long.isfinite().all()
    assert processor.tokenizer("long " * 9).input_ids == processor.tokenizer("long " * 9, truncation=False).input_ids


def test_checkpointing_needs_layers_that_know_it(tmp_path):
    model, processor = make("align")
    args = PaintTrainingArguments(output_dir=str(tmp_path), gradient_checkpointing=True, use_cpu=True)
    with pytest.raises(InputError, match="does not support `gradient_checkpointing`"):
        PaintTrainer(model, args, train_task=write_task(tmp_path / "data"), processing_class=processor)


@each_family
def test_model_inputs_are_the_processors(family):
    _, processor = make(family)
    transform = PixelTransform(processor)
    pixels = transform.normalize(transform.resize_and_crop(image())[None])
    expected = processor.image_processor(image(), return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(pixels, torch.as_tensor(expected), atol=1e-6, rtol=0)


@each_family
def test_tower_shares_the_parameters_and_nothing_else(family):
    model, _ = make(family)
    tower, config = image_tower(model), model.config.to_dict()
    parameters = dict(model.named_parameters())
    assert {name for name, _ in tower.named_parameters()} == {
        name for name in parameters if name.startswith(IMAGE_TOWER)
    }
    assert all(parameter is parameters[name] for name, parameter in tower.named_parameters())
    tower.config.use_cache = False
    assert model.config.to_dict() == config
    layers = {layer_index(name) for name in image_tower_weights(model)}
    assert layers == ({0, 1, 2} if family == "align" else {0, 1, 2, -1})  # after its blocks, ALIGN only takes a mean


@pytest.fixture
def tasks(tmp_path):
    return write_task(tmp_path / "data"), write_task(tmp_path / "data", "others", seed=7)


@each_family
def test_the_whole_slice(family, tasks, tmp_path, hub):
    save_clip(*make(family), tmp_path / "base")
    keys = {"learning_rate": 1e-3, "max_steps": 3, "warmup_steps": 1, "per_device_train_batch_size": 16}
    args = PaintTrainingArguments(output_dir=str(tmp_path / "run"), use_cpu=True, disable_tqdm=True, **keys)
    result = patch_single(tmp_path / "base", tasks[0], [tasks[1]], args, alphas=[0.0, 0.5, 1.0])
    assert result.curve.alphas == (0.0, 0.5, 1.0)

    theta_0, theta_1 = (load_file(tmp_path / name / "model.safetensors") for name in ("base", "run/theta_1"))
    frozen = {name for name in theta_0 if not name.startswith(IMAGE_TOWER) or "running" in name or "tracked" in name}
    assert {name for name in theta_0 if not torch.equal(theta_0[name], theta_1[name])} <= theta_0.keys() - frozen
    assert sum(not torch.equal(theta_0[name], theta_1[name]) for name in theta_0.keys() - frozen) > 10

    push_variants(tmp_path / "run", "tester/patched", options=PushOptions(base_model_id="o/base"))
    pulled = AutoModelForZeroShotImageClassification.from_pretrained("tester/patched", revision="alpha-0.50")
    for name, tensor in pulled.state_dict().items():
        middle = (theta_0[name].double() + theta_1[name].double()) / 2
        expected = theta_0[name] if name in frozen else middle.to(tensor.dtype)
        torch.testing.assert_close(tensor, expected, atol=0 if name in frozen else 1e-7, rtol=0)

    push_variants(tmp_path / "run", "tester/delta", options=PushOptions(base_model_id="o/base", form="delta"))
    patched = apply_patch(tmp_path / "base", "tester/delta", 0.5).state_dict()
    assert all(torch.equal(tensor, patched[name]) for name, tensor in pulled.state_dict().items())

    card = (tmp_path / "run" / "patched" / "README.md").read_text()
    assert f"This is an ordinary {find_family(pulled.config, 'it').name} model" in card
    assert f"- {pulled.config.model_type}\n" in card
    assert f" {find_family(pulled.config, 'it').any_model} that is not on the Hub" in card

    classify = pipeline("zero-shot-image-classification", model="tester/patched", revision="alpha-0.50")
    answers = classify(image(), candidate_labels=list(CLASS_NAMES), hypothesis_template=TEMPLATE)
    model, processor, _ = load_clip("tester/patched", revision="alpha-0.50")
    transform = PixelTransform(processor)
    with torch.no_grad():
        pixels = transform.normalize(transform.resize_and_crop(image())[None])
        image_embeds = image_tower(model)(pixel_values=pixels).image_embeds
    [logits] = build_zero_shot_head(model, processor.tokenizer, CLASS_NAMES, [TEMPLATE])(image_embeds)
    scores = (logits + model.logit_bias).sigmoid() if hasattr(model, "logit_bias") else logits.softmax(dim=0)
    found = [next(answer["score"] for answer in answers if answer["label"] == name) for name in CLASS_NAMES]
    np.testing.assert_allclose(found, scores.detach(), atol=1e-5)


@pytest.mark.parametrize("family", ["siglip", "align"])
def test_a_head_is_trained_with_any_tower(family, tasks, tmp_path):
    save_clip(*make(family), tmp_path / "base")
    keys = {"learning_rate": 1e-3, "max_steps": 2, "warmup_steps": 1, "train_head": True}
    args = PaintTrainingArguments(output_dir=str(tmp_path / "run"), use_cpu=True, disable_tqdm=True, **keys)
    patch_single(tmp_path / "base", tasks[0], [tasks[1]], args, alphas=[0.0, 1.0])
    classifier, pixels = load_classifier(tmp_path / "run" / "theta_1"), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        features = classifier.model.get_image_features(pixel_values=pixels).pooler_output
    rows = load_file(tmp_path / "run" / "theta_1" / "head.safetensors")["head.weight"]
    expected = features / features.norm(dim=1, keepdim=True) @ rows.T
    torch.testing.assert_close(classifier(pixels), expected, atol=1e-5, rtol=0)


def test_batch_norms_keep_the_statistics_of_theta_0():
    model, _ = make("align")
    tower = image_tower(model).train()
    before = {name: buffer.clone() for name, buffer in tower.named_buffers()}
    tower(pixel_values=torch.randn(4, 3, 32, 32)).image_embeds.sum().backward()
    assert all(torch.equal(buffer, before[name]) for name, buffer in tower.named_buffers())
    assert tower.vision_model.embeddings.batchnorm.weight.grad.abs().sum() > 0
    assert [name for name in before if "tracked" in name]
    assert not [name for name in image_tower_weights(model) if "tracked" in name]


def test_scales():
    models = {family: make(family)[0] for family in ("siglip", "align", "chinese_clip")}
    assert {family: logit_scale(model).shape for family, model in models.items()} == dict.fromkeys(models, ())
    assert float(logit_scale(models["siglip"])) == pytest.approx(np.exp(3))
    assert float(logit_scale(models["align"])) == pytest.approx(20)


@pytest.mark.parametrize(
    ("model_type", "missing"),
    [
        ("siglip2", "no fixed resolution"),
        ("blip", "captioner"),
        ("altclip", "renames its tensors"),
        ("clipseg", "decoder"),
        ("clip_vision_model", "no `get_image_features` and no `get_text_features`"),
        ("xclip", "it has no `get_image_features`. Supported model types: clip, metaclip_2, siglip"),
        ("owlvit", "does not support its architecture"),
    ],
)
def test_what_is_missing_is_said(model_type, missing):
    with pytest.raises(InputError, match=f"'it' is a {model_type} model, which cannot be patched.*{missing}"):
        find_family(AutoConfig.for_model(model_type), "it")


def test_sizes_that_do_not_fit_are_refused(tmp_path):
    model, processor = make("siglip")
    processor.image_processor.size = {"height": 40, "width": 40}
    save_clip(model, processor, tmp_path / "other")
    with pytest.raises(InputError, match="crops images to 40 pixels, but the model expects 32"):
        load_clip(str(tmp_path / "other"))
    processor.image_processor.size = {"height": 32, "width": 40}
    save_clip(model, processor, tmp_path / "oblong")
    with pytest.raises(InputError, match="resize to a square"):
        load_clip(str(tmp_path / "oblong"))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (None, "q_proj, k_proj, .*, fc2 of the image tower, but this tower has none of them"),
        (
            ["depthwise_conv"],
            r"encoder.blocks.0.depthwise_conv \(AlignVisionDepthwiseLayer\) cannot be adapted",
        ),
        (["depthwise_conv.depthwise_conv"], r"\(AlignVisionDepthwiseConv2d\) cannot be adapted"),
    ],
)
def test_lora_on_convolutions_says_which_layers_there_are(names, message, tasks, tmp_path, monkeypatch):
    save_clip(*make("align"), tmp_path / "base")
    keys = {"use_peft": True, "lora_target_modules": names}
    args = PaintTrainingArguments(output_dir=str(tmp_path / "run"), use_cpu=True, **keys)
    monkeypatch.setattr("hf_paint.evaluation.prepared_task.prepare_task", None)  # before anything is decoded
    there = "`lora_target_modules`: convolution, expand, expand_conv, project_conv, reduce"
    with pytest.raises(InputError, match=f"{message}.*{there}"):
        patch_single(tmp_path / "base", tasks[0], [tasks[1]], args)


def test_lines_goes_to_the_last_layer_of_any_tower():
    model, _ = make("align")
    theta_0 = {name: tensor.clone() for name, tensor in image_tower_weights(model).items()}
    theta_1 = {name: tensor + 1 for name, tensor in theta_0.items()}
    moved = read_method({"lines": {"beta": 0.5}}).merge(theta_0, {"task": theta_1}, None)
    shares = {"embeddings": 0.5, "encoder.blocks.0": 0.5, "encoder.blocks.1": 1.0}  # alpha + beta * l / (L - 1)
    for name, tensor in moved.items():
        [share] = [share for part, share in shares.items() if name.startswith(f"vision_model.{part}.")]
        torch.testing.assert_close(tensor, theta_0[name] + share)


def test_lora_leaves_out_attention_that_would_pass_an_adapter_over(tmp_path):
    """torch's attention in SigLIP's pooling reads the weight of `out_proj` and never calls the layer."""
    model, _ = make("siglip")
    theta_0 = {name: tensor.clone() for name, tensor in image_tower_weights(model).items()}
    theta_1 = {name: tensor + 0.01 * torch.randn_like(tensor) for name, tensor in theta_0.items()}
    extraction = extract_lora(theta_0, theta_1, [64], tmp_path / "lora")
    assert "vision_model.head.attention.out_proj.weight" in extraction.left_out
    held = {name.removesuffix(".weight") for name in extraction.layers}
    pattern = re.compile(image_tower_pattern(LORA_TARGETS))
    assert {name for name, _ in model.named_modules() if pattern.fullmatch(name)} == held
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        adapted = PeftModel.from_pretrained(model, str(tmp_path / "lora" / "rank-64")).eval()
        unmerged = adapted.get_image_features(pixel_values=pixels).pooler_output
        merged = adapted.merge_and_unload().get_image_features(pixel_values=pixels).pooler_output
    torch.testing.assert_close(unmerged, merged, atol=1e-5, rtol=0)
