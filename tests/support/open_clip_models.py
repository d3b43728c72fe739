"""A tiny model of open_clip, in plain torch with open_clip's names, and its repository."""

import json
import string
from collections import OrderedDict

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPTokenizer


VISION = {"image_size": 32, "layers": 2, "width": 128, "patch_size": 8, "mlp_ratio": 2.0}
LETTERS = string.ascii_lowercase + string.digits + string.punctuation
VOCABULARY = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
TEXT = {"context_length": 24, "vocab_size": len(VOCABULARY), "width": 48, "heads": 3, "layers": 3}
MODEL = {"embed_dim": 24, "vision_cfg": VISION, "text_cfg": TEXT}


class QuickGELU(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    def __init__(self, width, heads, mlp_ratio, activation):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        hidden = int(width * mlp_ratio)
        layers = {"c_fc": nn.Linear(width, hidden), "gelu": activation(), "c_proj": nn.Linear(hidden, width)}
        self.mlp = nn.Sequential(OrderedDict(layers))

    def forward(self, x, mask=None):
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=mask)[0]
        return x + self.mlp(self.ln_2(x))


class Visual(nn.Module):
    def __init__(self, embed_dim, activation, *, image_size, layers, width, patch_size, mlp_ratio, head_width=64):
        super().__init__()
        self.class_embedding = nn.Parameter(torch.randn(width))
        self.positional_embedding = nn.Parameter(torch.randn((image_size // patch_size) ** 2 + 1, width))
        self.proj = nn.Parameter(torch.randn(width, embed_dim) / width**0.5)
        self.conv1 = nn.Conv2d(3, width, patch_size, patch_size, bias=False)
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        blocks = [Block(width, width // head_width, mlp_ratio, activation) for _ in range(layers)]
        self.transformer = nn.ModuleDict({"resblocks": nn.ModuleList(blocks)})

    def forward(self, pixels):
        patches = self.conv1(pixels).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_embedding.expand(len(pixels), 1, -1), patches], dim=1)
        x = self.ln_pre(x + self.positional_embedding)
        for block in self.transformer["resblocks"]:
            x = block(x)
        return self.ln_post(x[:, 0]) @ self.proj


class OpenCLIP(nn.Module):
    def __init__(self, embed_dim, vision_cfg, text_cfg, quick_gelu=False):
        super().__init__()
        activation, width = QuickGELU if quick_gelu else nn.GELU, text_cfg["width"]
        self.visual = Visual(embed_dim, activation, **vision_cfg)
        blocks = [Block(width, text_cfg["heads"], 4.0, activation) for _ in range(text_cfg["layers"])]
        self.transformer = nn.ModuleDict({"resblocks": nn.ModuleList(blocks)})
        self.token_embedding = nn.Embedding(text_cfg["vocab_size"], width)
        self.positional_embedding = nn.Parameter(torch.randn(text_cfg["context_length"], width))
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.randn(width, embed_dim) / width**0.5)
        self.logit_scale = nn.Parameter(torch.tensor(3.0))
        mask = torch.full((text_cfg["context_length"],) * 2, -torch.inf).triu(1)
        self.register_buffer("attn_mask", mask, persistent=False)

    def encode_image(self, pixels):
        return self.visual(pixels)

    def encode_text(self, ids):
        x = self.token_embedding(ids) + self.positional_embedding
        for block in self.transformer["resblocks"]:
            x = block(x, self.attn_mask)
        return self.ln_final(x)[torch.arange(len(ids)), ids.argmax(dim=-1)] @ self.text_projection


def write_open_clip(folder, model, keys=None, *, tokenizer=True, binary=False, **preprocess):
    """Write a repository in the format of open_clip."""
    folder.mkdir(exist_ok=True)
    said = {"model_cfg": MODEL | (keys or {}), "preprocess_cfg": {"mean": [0.4] * 3, "std": [0.3] * 3} | preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(said))
    if binary:
        torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")
    else:
        weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
        save_file(weights, folder / "open_clip_model.safetensors")
    if tokenizer:
        ids = {token: index for index, token in enumerate(VOCABULARY)}
        CLIPTokenizer(vocab=ids, merges=[]).save_pretrained(folder)
    return folder


def random_model(**keys):
    torch.manual_seed(0)
    model = OpenCLIP(**MODEL, **keys)
    for parameter in model.parameters():  # biases and norms too
        nn.init.normal_(parameter, std=0.1) if parameter.dim() == 1 else None
    return model.eval()
