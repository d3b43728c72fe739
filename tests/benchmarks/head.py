"""ImageNet's zero-shot head: ours against padded prompts, one class at a time.

    python tests/benchmarks/head.py [--rounds 5] [--threads N] [--quick] [--json FILE]

Class names and templates come from the built-in task; the text tower has the shape of ViT-B/32. The plain
implementation takes half an hour for all classes, so it embeds only a few per round and rates are compared.
"""

from functools import partial

import torch
from common import FOLDER, Row, Target, arguments, compare, interleave, report, seconds
from inputs import make_clip, make_processor
from torch import Tensor
from torch.nn import functional
from transformers import CLIPModel, PreTrainedTokenizerBase

from hf_paint import build_zero_shot_head, get_task


Names = list[str]


def main() -> None:
    """Measure the rate against the plain implementation, then all classes at once, then the cache."""
    parsed = arguments(__doc__)
    task = get_task("imagenet")
    names, templates = list(task.class_names), list(task.templates)[: 8 if parsed.quick else None]
    prompts = [template.replace("{}", name) for name in names for template in templates]
    processor = make_processor(prompts)
    lengths = [len(ids) for ids in processor.tokenizer(prompts).input_ids]
    print(f"{len(prompts)} prompts of {sum(lengths) / len(lengths):.1f} tokens on average", flush=True)
    model = make_clip("ViT-B/32", processor, only="text", quick=parsed.quick)
    build = partial(build_zero_shot_head, model, processor.tokenizer, templates=templates)
    job = f"head, fp32, text tower of ViT-B/32{', two layers' if parsed.quick else ''}"

    every = len(names) // 100
    ours, few = names[::every][:100], names[:: 33 * every][:3]
    plain = partial(plain_head, model, processor.tokenizer, few, templates)
    weight = build(ours).weight[[ours.index(name) for name in few]]
    difference = float((plain() - weight).abs().max())
    runs = interleave(
        {"plain": partial(seconds, plain), "ours": partial(seconds, partial(build, ours))}, parsed.rounds
    )
    work = len(few) * len(templates), len(ours) * len(templates)
    rates = compare(
        f"{job}, {len(few)} classes the plain way and {len(ours)} ours, x {len(templates)} templates",
        runs["plain"],
        runs["ours"],
        unit="prompts",
        work=work,
        difference=difference,
        target=Target(speedup=8, aim=15, difference=1e-6),
    )
    report([rates, *whole_task(job, partial(build, names), len(prompts), parsed.rounds)], parsed)


@torch.no_grad()
def plain_head(model: CLIPModel, tokenizer: PreTrainedTokenizerBase, names: Names, templates: Names) -> Tensor:
    """Embed the prompts one class at a time, each padded to the full context, and return the head's rows."""
    rows = []
    for name in names:
        prompts = [template.replace("{}", name) for template in templates]
        tokens = tokenizer(prompts, padding="max_length", max_length=77, truncation=True, return_tensors="pt")
        embeds = functional.normalize(model.get_text_features(**tokens).pooler_output, dim=-1)
        rows.append(functional.normalize(embeds.mean(0), dim=-1))
    return torch.stack(rows)


def whole_task(job: str, build: partial, num_prompts: int, rounds: int) -> list[Row]:
    """Measure our implementation on all classes, once from scratch and once from the cache."""
    build = partial(build, cache_dir=FOLDER / "heads")
    once = seconds(build)
    cached = sorted(seconds(build).seconds for _ in range(rounds))[rounds // 2]
    job = f"{job}, all {num_prompts} prompts"
    return [
        Row(job=f"{job}, one run", plain="", ours=f"{once.seconds:.3g} s"),
        Row(job=f"{job}, cached", plain="", ours=f"{cached:.3g} s", target="at most 1 s", met=cached <= 1),
    ]


if __name__ == "__main__":
    main()
