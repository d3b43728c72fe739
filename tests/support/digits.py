"""Pictures of digits, which the toy CLIP of the package reads, in files with labels of any kind."""

from importlib.resources import files

import numpy as np
import yaml
from datasets import Dataset, Features, Image
from PIL import Image as PILImage

from hf_paint.cli.main import main
from hf_paint.tasks.rendering import rendered_task
from printed import printed_rows


TOY = str(files("hf_paint") / "toy_clip")
PIXELS, DIGITS, NAMES, TEMPLATES = rendered_task("numbers", num_images=40, seed=5)
IMAGES = [PILImage.fromarray(pixels) for pixels in PIXELS]
ROWS = range(len(IMAGES))
REVERSED = NAMES[::-1]
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def write_parquet(path, labels, feature, *, rows=ROWS):
    """Write pictures with the labels `labels[digit]`."""
    columns = {"image": [IMAGES[row] for row in rows], "label": [labels[DIGITS[row]] for row in rows]}
    Dataset.from_dict(columns, features=Features({"image": Image(), "label": feature})).to_parquet(str(path))
    return str(path)


def write_csv(path, labels, *, rows=ROWS):
    """Write a table of paths with the labels `labels[digit]`."""
    lines = ["image,label"]
    for row in rows:
        picture = path.with_name(f"{row}.png")
        IMAGES[row].save(picture)
        lines.append(f"{picture},{labels[DIGITS[row]]}")
    path.write_text("\n".join(lines))
    return str(path)


def digit_task(test, *, dataset="parquet", **keys):
    """Definition of a task with these files as its test split, or with several splits."""
    data_files = test if isinstance(test, dict) else {"test": test}
    definition = {"dataset": dataset, "data_files": data_files, "templates": TEMPLATES}
    return definition | {"splits": {"train": None, "validation": None}} | keys


def evaluate(folder, capsys, **tasks):
    """Run `hf-paint evaluate` and return its exit code, task -> (images, accuracy), and what it said on stderr."""
    paths = []
    for name, definition in tasks.items():
        paths.append(folder / f"{name}.yaml")
        text = definition if isinstance(definition, str) else yaml.safe_dump(definition, sort_keys=False)
        paths[-1].write_text(f"name: {name}\n{text}")
    code = main(["evaluate", TOY, "--use_cpu", "--tasks", *map(str, paths)])
    printed = capsys.readouterr()
    rows = [row for row in printed_rows(printed.out) if row[1] == "test"]
    return code, {name: (int(images), float(accuracy)) for name, _, images, accuracy, *_ in rows}, printed.err


def count_correct(digits=range(10)):
    """Count the pictures of these digits that the toy CLIP reads, with transformers alone."""
    from transformers import CLIPModel, CLIPProcessor

    processor = CLIPProcessor.from_pretrained(TOY)
    prompts = [TEMPLATES[0].format(name) for name in NAMES]
    rows = np.flatnonzero(np.isin(DIGITS, list(digits)))
    inputs = processor(text=prompts, images=[IMAGES[row] for row in rows], return_tensors="pt", padding=True)
    predicted = CLIPModel.from_pretrained(TOY)(**inputs).logits_per_image.argmax(dim=1).numpy()
    return len(rows), int((predicted == DIGITS[rows]).sum())
