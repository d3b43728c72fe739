"""Tiny random models of every family, with tokenizers of single letters."""

import string

import torch
import transformers
from transformers import BertTokenizer, PreTrainedTokenizerFast, Siglip2Tokenizer, XLMRobertaTokenizer


LETTERS = string.ascii_letters + string.digits + string.punctuation
TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = TEXT | {"image_size": 32, "patch_size": 8}


def bert_tokenizer():
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    return BertTokenizer(vocab={piece: index for index, piece in enumerate(pieces)}, model_max_length=64)


def roberta_tokenizer():
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "▁", *LETTERS]
    return XLMRobertaTokenizer(
        vocab=[(piece, -float(index)) for index, piece in enumerate(pieces)], model_max_length=60
    )


def siglip_tokenizer():
    """Like SigLIP's, which needs sentencepiece: no token at the beginning, one at the end, no attention mask."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordLevel({p: i for i, p in enumerate(["<unk>", "</s>", " ", *LETTERS])}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokens = {"unk_token": "<unk>", "eos_token": "</s>", "pad_token": "</s>"}
    options = {"model_input_names": ["input_ids"], "model_max_length": 64}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **tokens, **options)


def siglip2_tokenizer():
    """Like SigLIP 2's (Gemma's): pads on the left and lower-cases its input."""
    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *LETTERS]
    return Siglip2Tokenizer(vocab={piece: index for index, piece in enumerate(pieces)}, merges=[], model_max_length=64)


def square_processor(kind, tokenizer):
    image = transformers.SiglipImageProcessorPil(size={"height": 32, "width": 32})
    return kind(image_processor=image, tokenizer=tokenizer)


def cropping_processor(kind, tokenizer, image_kind=transformers.CLIPImageProcessorPil):
    image = image_kind(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    return kind(image_processor=image, tokenizer=tokenizer)


def align_processor(tokenizer):
    """With the settings of kakaobrain/align-base except for the sizes: pixels in [-1, 1], no mean, no deviation."""
    sizes = {"size": {"height": 38, "width": 38}, "crop_size": {"height": 32, "width": 32}, "do_center_crop": True}
    scaling = {"rescale_factor": 1 / 127.5, "rescale_offset": True, "do_normalize": False, "include_top": False}
    image = transformers.EfficientNetImageProcessorPil(**sizes, **scaling, resample=2)
    return transformers.AlignProcessor(image_processor=image, tokenizer=tokenizer)


def make(family):
    """Return a tiny model of a family, with random weights except for its scale, and its processor."""
    torch.manual_seed(0)
    model, processor = _MAKERS[family]()
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if name.endswith("projection.weight"):
                torch.nn.init.normal_(tensor, std=0.2)
        if hasattr(model, "logit_bias"):
            model.logit_scale.fill_(3.0)
            model.logit_bias.fill_(-4.0)
        if hasattr(model, "temperature"):
            model.temperature.fill_(0.05)
    return model.eval(), processor


def _siglip(tokenizer):
    text = TEXT | {"vocab_size": len(tokenizer), "max_position_embeddings": 64, "bos_token_id": 0, "eos_token_id": 1}
    config = transformers.SiglipConfig(
        text_config=text | {"pad_token_id": tokenizer.pad_token_id}, vision_config=VISION
    )
    return transformers.SiglipModel(config), square_processor(transformers.SiglipProcessor, tokenizer)


def _metaclip_2():
    tokenizer = roberta_tokenizer()
    ids = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}  # as in the released configs
    text = TEXT | ids | {"vocab_size": len(tokenizer), "max_position_embeddings": 77, "projection_dim": 24}
    vision = VISION | {"projection_dim": 24}
    config = transformers.MetaClip2Config(text_config=text, vision_config=vision, projection_dim=24)
    return transformers.MetaClip2Model(config), cropping_processor(transformers.CLIPProcessor, tokenizer)


def _align():
    tokenizer = bert_tokenizer()
    stages = {"num_block_repeats": [1, 1], "depth_coefficient": 1.0, "width_coefficient": 1.0, "strides": [1, 2]}
    stages |= {"in_channels": [32, 8], "out_channels": [8, 24], "kernel_sizes": [3, 3], "expand_ratios": [1, 2]}
    text = TEXT | {"vocab_size": len(tokenizer), "max_position_embeddings": 64}
    config = transformers.AlignConfig(text_config=text, vision_config=stages | {"hidden_dim": 24}, projection_dim=24)
    return transformers.AlignModel(config), align_processor(tokenizer)


def _chinese_clip():
    tokenizer = bert_tokenizer()
    text = TEXT | {"vocab_size": len(tokenizer), "max_position_embeddings": 64}
    config = transformers.ChineseCLIPConfig(text_config=text, vision_config=VISION, projection_dim=24)
    image = transformers.ChineseCLIPImageProcessorPil
    return transformers.ChineseCLIPModel(config), cropping_processor(
        transformers.ChineseCLIPProcessor, tokenizer, image
    )


_MAKERS = {
    "siglip": lambda: _siglip(siglip_tokenizer()),
    "siglip 2": lambda: _siglip(siglip2_tokenizer()),
    "metaclip_2": _metaclip_2,
    "align": _align,
    "chinese_clip": _chinese_clip,
}
FAMILIES = tuple(_MAKERS)
