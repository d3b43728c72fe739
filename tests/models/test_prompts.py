import doctest
import itertools
import random
from copy import deepcopy

import pytest
import torch
from transformers import CLIPConfig, CLIPModel

from hf_paint import InputError
from hf_paint.models import prompts
from hf_paint.models.prompts import ancestor_mask, embed_prompts, pack_prompts


WORDS = ["red", "green", "a photo of", "one two", "three", "abc xyz", "0123", "the number", "blue grey."]
TEMPLATES = ["a photo of a {}.", "a photo of the number {}.", "{}", "the {} one two three.", "abc {} abc"]


@pytest.fixture(params=["new", "legacy"])
def deep_model(request, processor):
    """Four layers with weights large enough to be far from linear; legacy configs have 2 as their end of text."""
    torch.manual_seed(1)
    tokenizer = processor.tokenizer
    text = {"vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4}
    text |= {"num_attention_heads": 4, "max_position_embeddings": 32, "bos_token_id": tokenizer.bos_token_id}
    text |= {"eos_token_id": 2 if request.param == "legacy" else tokenizer.eos_token_id}
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 1, "num_hidden_layers": 1}
    config = CLIPConfig(text_config=text, vision_config=vision | {"image_size": 8, "patch_size": 8}, projection_dim=24)
    model = CLIPModel(config).eval()
    with torch.no_grad():
        for name, weight in model.text_model.named_parameters():
            if weight.ndim == 2:
                weight.normal_(std=1.0 if "embedding" in name else 0.3)
    return model


def padded(model, tokenizer, texts):
    """The plain way: every prompt padded to the full context, pooled by the model."""
    tokens = deepcopy(tokenizer)(texts, padding="max_length", truncation=True, max_length=32, return_tensors="pt")
    with torch.no_grad():
        embeds = model.get_text_features(**tokens).pooler_output
    return embeds / embeds.norm(dim=1, keepdim=True)


def draw_prompts(number):
    draw = random.Random(0)
    names = [" ".join(draw.choices(WORDS, k=draw.randint(1, 4))) for _ in range(number)]
    return [template.replace("{}", name) for name in names for template in TEMPLATES]


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_equal_to_padded_prompts(deep_model, processor, batch_size):
    texts = draw_prompts(12) + ["number " * 60, "number " * 60 + "red", "", "RED", "red", "red"]
    embeds = embed_prompts(deep_model, processor.tokenizer, texts, batch_size=batch_size)
    torch.testing.assert_close(embeds, padded(deep_model, processor.tokenizer, texts), atol=1e-6, rtol=0)


def test_one_prompt(deep_model, processor):
    embeds = embed_prompts(deep_model, processor.tokenizer, ["a photo"])
    torch.testing.assert_close(embeds, padded(deep_model, processor.tokenizer, ["a photo"]), atol=1e-6, rtol=0)


def test_model_and_tokenizer_stay_as_they_are(model, processor):
    model.train()
    model.set_attn_implementation("eager")
    tokenizer = deepcopy(processor.tokenizer)
    embed_prompts(model, tokenizer, ["red"], precision="bf16")
    assert model.training
    assert model.text_model.training
    assert model.text_model.config._attn_implementation == "eager"
    assert model.dtype == torch.float32
    assert tokenizer.backend_tokenizer.to_str() == processor.tokenizer.backend_tokenizer.to_str()


def test_half_precision_models_are_embedded_in_fp32(model, processor):
    half = deepcopy(model).bfloat16()
    expected = padded(deepcopy(half).float(), processor.tokenizer, ["red", "a photo"])
    embeds = embed_prompts(half, processor.tokenizer, ["red", "a photo"])
    torch.testing.assert_close(embeds, expected, atol=1e-6, rtol=0)


def test_tokenizer_of_another_model(model, processor):
    model.config.text_config.eos_token_id = 99999
    with pytest.raises(InputError, match="end-of-text token of the text tower, 99999"):
        embed_prompts(model, processor.tokenizer, ["red"])


def test_rows_hold_every_prompt_and_share_beginnings():
    draw = random.Random(0)
    sequences = sorted({(0, *draw.choices(range(1, 4), k=draw.randint(1, 9)), 9) for _ in range(300)})
    rows = pack_prompts(sequences, 20)
    assert max(len(row.ids) for row in rows) <= 20
    read = []
    for row in rows:
        seen = ancestor_mask(torch.tensor([row.positions]))[0]
        for end in row.ends:
            assert torch.tensor(row.positions)[seen[end]].tolist() == list(range(seen[end].sum()))
            read.append(tuple(torch.tensor(row.ids)[seen[end]].tolist()))
    assert read == sequences
    for row, following in itertools.pairwise(rows):  # no token twice in a row, and no row could have held one more
        prefixes = {sequence[:k] for sequence in read[: len(row.ends)] for k in range(1, len(sequence) + 1)}
        assert len(prefixes) == len(row.ids)
        read = read[len(row.ends) :]
        prefixes |= {read[0][:k] for k in range(1, len(read[0]) + 1)}
        assert len(prefixes) > 20
        assert following.positions[0] == 0


def test_examples(model, processor):
    ran = doctest.testmod(prompts, extraglobs={"model": model, "tokenizer": processor.tokenizer})
    assert ran.attempted >= 3
    assert ran.failed == 0
