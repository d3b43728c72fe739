import pytest
import torch

from hf_paint import InputError, build_zero_shot_head
from hf_paint.models.heads import GroupedHead, ZeroShotHead
from hf_paint.models.losses import masked_cross_entropy


NAMES = ["red", "a photo one two", "blue"]
TEMPLATES = ["a photo of a {}.", "{}", "the number {} abc."]


def written_out_head(model, tokenizer, names, templates):
    """The loop of the papers: one prompt at a time, no batching, no sorting, no padding."""
    rows = []
    for name in names:
        embeds = []
        for template in templates:
            ids = tokenizer(template.format(name), return_tensors="pt").input_ids
            with torch.no_grad():
                hidden = model.text_model(input_ids=ids).pooler_output
                embed = hidden @ model.text_projection.weight.T
            embeds.append(embed[0] / embed[0].norm())
        mean = torch.stack(embeds).mean(0)
        rows.append(mean / mean.norm())
    return torch.stack(rows)


@pytest.mark.parametrize("batch_size", [1, 4, 256])
def test_equals_the_written_out_loop(model, processor, batch_size):
    head = build_zero_shot_head(model, processor.tokenizer, NAMES, TEMPLATES, batch_size=batch_size)
    torch.testing.assert_close(
        head.weight, written_out_head(model, processor.tokenizer, NAMES, TEMPLATES), atol=1e-6, rtol=0
    )
    torch.testing.assert_close(head.logit_scale, model.logit_scale.exp().detach())


def test_logits_equal_those_of_the_model(model, processor):
    pixels = torch.randn(2, 3, 32, 32)
    tokens = processor.tokenizer([f"a {name}" for name in NAMES], padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = model(pixel_values=pixels, **tokens).logits_per_image
        image_embeds = model.get_image_features(pixel_values=pixels).pooler_output
    head = build_zero_shot_head(model, processor.tokenizer, NAMES, ["a {}"])
    torch.testing.assert_close(head(image_embeds), expected, atol=1e-5, rtol=0)


def test_long_prompts_keep_their_end(model, processor):
    long = "number " * 60 + "{}"
    tokens = processor.tokenizer(long.format("red"), truncation=True, max_length=32).input_ids
    assert len(tokens) == 32
    assert tokens[-1] == processor.tokenizer.eos_token_id
    with torch.no_grad():
        hidden = model.text_model(input_ids=torch.tensor([tokens])).pooler_output @ model.text_projection.weight.T
    head = build_zero_shot_head(model, processor.tokenizer, ["red"], [long])
    torch.testing.assert_close(head.weight, hidden / hidden.norm(), atol=1e-6, rtol=0)


def test_cache_is_keyed_by_everything_that_matters(model, processor, tmp_path):
    def build(model, names=NAMES, templates=TEMPLATES):
        return build_zero_shot_head(model, processor.tokenizer, names, templates, cache_dir=tmp_path)

    first = build(model)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 1
    assert torch.equal(build(model).weight, first.weight)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 1
    build(model, names=NAMES[:2])
    build(model, templates=TEMPLATES[:2])
    with torch.no_grad():
        model.text_projection.weight[0, 0] += 1
    assert not torch.equal(build(model).weight, first.weight)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 4


@pytest.mark.parametrize("library", ["torch", "transformers"])
def test_a_head_that_other_code_has_cached_is_built_again(model, processor, tmp_path, monkeypatch, library):
    build_zero_shot_head(model, processor.tokenizer, NAMES, TEMPLATES, cache_dir=tmp_path)
    monkeypatch.setattr(f"{library}.__version__", "0.0")
    build_zero_shot_head(model, processor.tokenizer, NAMES, TEMPLATES, cache_dir=tmp_path)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2


def test_bf16_is_close_and_is_cached_apart(model, processor, tmp_path):
    def build(**options):
        return build_zero_shot_head(model, processor.tokenizer, NAMES, TEMPLATES, **options).weight

    fp32 = build(cache_dir=tmp_path)
    bf16 = build(cache_dir=tmp_path, precision="bf16")
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2
    assert torch.equal(build(cache_dir=tmp_path, precision="bf16"), bf16)
    assert torch.equal(build(precision="fp32"), fp32)
    assert fp32.dtype == bf16.dtype == torch.float32
    assert not torch.equal(bf16, fp32)
    assert (bf16 * fp32).sum(dim=1).min() > 0.999


TORN = {
    "empty": lambda whole: b"",
    "other": lambda whole: b"torn",
    "cut": lambda whole: whole[:-7],
    "a bit": lambda whole: whole[:-7] + bytes([whole[-7] ^ 1]) + whole[-6:],
}


@pytest.mark.parametrize("torn", TORN)
def test_torn_cache_file_is_rebuilt(model, processor, tmp_path, torn):
    first = build_zero_shot_head(model, processor.tokenizer, NAMES, TEMPLATES, cache_dir=tmp_path)
    (file,) = tmp_path.rglob("*.safetensors")
    whole = file.read_bytes()
    file.write_bytes(TORN[torn](whole))
    again = build_zero_shot_head(model, processor.tokenizer, NAMES, TEMPLATES, cache_dir=tmp_path)
    assert torch.equal(again.weight, first.weight)
    assert file.read_bytes() == whole


def test_image_tower_does_not_change_the_key(model, processor, tmp_path):
    build_zero_shot_head(model, processor.tokenizer, NAMES, TEMPLATES, cache_dir=tmp_path)
    with torch.no_grad():
        model.visual_projection.weight[0, 0] += 1
    build_zero_shot_head(model, processor.tokenizer, NAMES, TEMPLATES, cache_dir=tmp_path)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 1


def test_head_is_frozen_and_needs_classes(model, processor):
    head = ZeroShotHead(torch.eye(3), torch.tensor(10.0))
    assert list(head.parameters()) == []
    with pytest.raises(InputError, match="at least one class name"):
        build_zero_shot_head(model, processor.tokenizer, [], ["{}"])


def test_grouped_logits_and_gradients_are_those_of_the_highest_member():
    torch.manual_seed(0)
    weight, scale = torch.nn.functional.normalize(torch.randn(6, 4), dim=-1), torch.tensor(10.0)
    groups = [[0, 3, 5], [1], [4, 2]]
    head = GroupedHead(weight, scale, torch.tensor([[0, 3, 5], [1, 1, 1], [4, 2, 4]]))
    images = torch.randn(7, 4, requires_grad=True)
    rows = ZeroShotHead(weight, scale)(images)
    expected = torch.stack([torch.stack([rows[:, i] for i in group]).max(dim=0).values for group in groups], dim=1)
    torch.testing.assert_close(head(images), expected, atol=0, rtol=0)
    found, wanted = (torch.autograd.grad(logits.square().sum(), images)[0] for logits in (head(images), expected))
    torch.testing.assert_close(found, wanted)
    other = GroupedHead(weight, scale, torch.tensor([[0, 3, 5], [1, 1, 1], [4, 4, 4]]))
    assert len({head.fingerprint, other.fingerprint, ZeroShotHead(weight, scale).fingerprint}) == 3


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_masked_loss_is_the_loss_on_the_columns_of_each_image(label_smoothing):
    generator = torch.Generator().manual_seed(0)
    logits = 10 * torch.randn(6, 5, generator=generator)
    others = torch.rand(6, 5, generator=generator) < 0.4
    labels = torch.tensor([0, 1, 2, 3, 4, 0])
    others[range(6), labels] = False
    losses = []
    for row, label, masked in zip(logits, labels, others, strict=True):
        own = row[~masked].double()
        log_p = own - own.exp().sum().log()
        target = torch.full_like(own, label_smoothing / len(own))
        target[(~masked[:label]).sum()] += 1 - label_smoothing
        losses.append(-(target * log_p).sum())
    found = masked_cross_entropy(logits, labels, others, label_smoothing=label_smoothing)
    torch.testing.assert_close(found.double(), torch.stack(losses).mean(), rtol=0, atol=1e-5)


def test_masked_loss_without_a_mask_is_that_of_torch():
    logits, labels = torch.randn(7, 4), torch.tensor([0, 1, 2, 3, 0, 1, 2])
    for label_smoothing in (0.0, 0.1):
        expected = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=label_smoothing)
        found = masked_cross_entropy(logits, labels, torch.zeros(7, 4).bool(), label_smoothing=label_smoothing)
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("template", ["a photo", "{} and {}"])
def test_a_template_has_one_place_for_the_class(model, processor, template):
    with pytest.raises(InputError, match="must contain exactly one {}"):
        build_zero_shot_head(model, processor.tokenizer, NAMES, template)
