"""Published numbers: those of the facts, and the runs that they stand beside."""

import re

from hf_paint.results.published import PUBLISHED


NAMES = {"SUN": "sun397", "RESISC": "resisc45", "STL10": "stl10", "CIFAR-100": "cifar100", "C100": "cifar100"}
NAMES |= {
    "CIFAR-10": "cifar10",
    "C10": "cifar10",
    "Food": "food101",
    "FashionMNIST": "fashion_mnist",
    "RESISC45": "resisc45",
}
ORDER = ["sun397", "cars", "resisc45", "eurosat", "svhn", "gtsrb", "mnist", "dtd"]
SIZES = {
    "B/32": "openai/clip-vit-base-patch32",
    "B/16": "openai/clip-vit-base-patch16",
    "L/14": "openai/clip-vit-large-patch14",
}


def task_of(name):
    return NAMES.get(name, name.lower())


def facts(shared):
    """(base, name) -> task -> percentage, read from the text of the facts."""
    text = (shared / "facts" / "method.md").read_text()
    found = {}
    for size, rest in re.findall(r"^   (B/32|B/16|L/14): (.*)$", text, re.M):
        pairs = re.findall(r"([\d.]+)→([\d.]+)", rest)
        others = re.findall(r"(STL10|CIFAR-100|CIFAR-10|C100|C10|Food101|Food|FashionMNIST) ([\d.]+\d)", rest)
        zero_shot = {task: float(low) for task, (low, _) in zip(ORDER, pairs, strict=True)}
        zero_shot |= {task_of(name): float(value) for name, value in others}
        found[SIZES[size], "zero-shot"] = zero_shot
        found[SIZES[size], "specialised models"] = {
            task: float(high) for task, (_, high) in zip(ORDER, pairs, strict=True)
        }
    for size, short, long in re.findall(r"^  \* (B/32|L/14), 2k(?: steps)?: (.*?); 8k(?: steps)?: (.*)$", text, re.M):
        tasks = [task_of(name) for name in re.findall(r"([A-Za-z]\w+) [\d.]+", short)]
        if size == "B/32":
            order = tasks
        values = [float(value) for value in re.findall(r"(?<![\w.])\d+\.\d\d", short)]
        found[SIZES[size], "joint, 2000 steps"] = dict(zip(order, values, strict=True))
        found[SIZES[size], "joint, 8000 steps"] = dict(zip(order, map(float, long.split()), strict=True))
    return found


def test_the_numbers_are_those_of_the_facts(shared):
    assert {(row.model, row.name): dict(row.percent) for row in PUBLISHED} == facts(shared)
