"""Models built and saved by open_clip, compared with their conversions. Needs open_clip_torch."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from hf_paint import convert_open_clip


open_clip = pytest.importorskip("open_clip")

VISION = {"image_size": 32, "layers": 2, "width": 96, "head_width": 32, "patch_size": 8, "mlp_ratio": 2.7}
TEXT = {"context_length": 24, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 3}
MODEL = {"embed_dim": 24, "vision_cfg": VISION, "text_cfg": TEXT}
SQUASH = {"mean": [0.5] * 3, "std": [0.4] * 3, "interpolation": "bilinear", "resize_mode": "squash"}
SPECIAL = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
TEXTS = ["a photo of a cat.", "Two dogs,\na  COW and much more", "na\u00efve caf\u00e9 \u2014 12", "", "long " * 30]


@pytest.fixture(scope="module")
def tokenizer():
    simple = open_clip.SimpleTokenizer()
    vocabulary = {SPECIAL.get(token, token): index for token, index in simple.encoder.items()}
    return CLIPTokenizer(vocab=vocabulary, merges=sorted(simple.bpe_ranks, key=simple.bpe_ranks.get))


def make(folder, config, **options):
    """Return a model of a config with random weights, including biases and norms."""
    folder.mkdir()
    (folder / "tiny-clip.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder / "tiny-clip.json")
    torch.manual_seed(0)
    model = open_clip.create_model("tiny-clip", load_weights=False, **options).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2) if parameter.dim() == 1 else None
    return model


@pytest.mark.parametrize(
    ("keys", "options"),
    [
        ({}, {}),
        ({"quick_gelu": True}, {"precision": "fp16"}),
        ({"custom_text": True}, {"force_preprocess_cfg": SQUASH}),
    ],
)
def test_a_converted_model_is_that_of_open_clip(tmp_path, tokenizer, keys, options):
    from open_clip.push_to_hf_hub import save_for_hf

    reference = make(tmp_path / "configs", MODEL | keys, **options)
    save_for_hf(reference, tokenizer, MODEL | keys, tmp_path / "source", safe_serialization=True)
    made = convert_open_clip(tmp_path / "source", tmp_path / "clip")
    assert (made.dtype, made.difference < 1e-6) == ("float32", True)

    _, transform = open_clip.create_model_from_pretrained(f"local-dir:{tmp_path / 'source'}", return_transform=True)
    reference, pixels = reference.float(), np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    theirs = transform(Image.fromarray(pixels))[None]
    ours = CLIPImageProcessorPil.from_pretrained(tmp_path / "clip")(Image.fromarray(pixels), return_tensors="pt")
    torch.testing.assert_close(ours.pixel_values, theirs, atol=1e-6, rtol=0)
    tokens = CLIPTokenizer.from_pretrained(tmp_path / "clip")(
        TEXTS, padding=True, truncation=True, return_tensors="pt"
    )
    with torch.no_grad():
        found = CLIPModel.from_pretrained(tmp_path / "clip").eval()(**tokens, **ours)
        images, texts, scale = reference(theirs, open_clip.tokenize(TEXTS, 24))[:3]
    torch.testing.assert_close(found.image_embeds, images, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.text_embeds, texts, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.logits_per_image, scale * images @ texts.T, atol=1e-4, rtol=0)
