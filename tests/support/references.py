"""The same pictures in every form that names a task."""

import io
import json
import tarfile
from pathlib import Path

from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value
from PIL import Image as PILImage

from folders import draw_folder, draw_picture, draw_zip


NAMES = ("polka_dotted", "red", "t-shirt")
WORDS = ("polka dotted", "red", "t-shirt")
FILES = {f"{name}/{i}.png": 6 * hue + 1 for hue, name in enumerate(NAMES) for i in range(20)}
"""Path of each of 60 pictures below a folder -> twentieths of its hue."""


def png(image):
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def pictures():
    """The encoded pictures and their class names, in the order of their paths."""
    drawn = {path: png(draw_picture(hue / 20, seed)) for seed, (path, hue) in enumerate(FILES.items())}
    return [(drawn[path], path.partition("/")[0]) for path in sorted(drawn)]


def rows(label="label", *, texts=False, image="image"):
    """A data set of the pictures."""
    feature = Value("string") if texts else ClassLabel(names=list(NAMES))
    values = {
        image: [{"bytes": data, "path": None} for data, _ in pictures()],
        label: [name for _, name in pictures()],
    }
    return Dataset.from_dict(values, features=Features({image: Image(), label: feature}))


def write_all(folder):
    """Write the pictures in each form below a folder, and return kind -> reference."""
    folder = Path(folder)
    draw_folder(folder / "textures", FILES)
    draw_zip(folder / "zipped.zip", FILES)
    rows().to_parquet(folder / "one.parquet")
    rows("category", texts=True, image="photo").to_parquet(folder / "texts.parquet")
    (folder / "shards").mkdir()
    for part in range(2):
        path = folder / "shards" / f"train-0000{part}-of-00002.parquet"
        rows().select(range(30 * part, 30 * part + 30)).to_parquet(path)
    rows().save_to_disk(folder / "saved")
    DatasetDict(train=rows()).save_to_disk(folder / "saved_dict")
    lines = [(f"textures/{path}", path.partition("/")[0]) for path in sorted(FILES)]
    for ending, mark in (("csv", ","), ("tsv", "\t")):
        text = "".join(f"{path}{mark}{name}\n" for path, name in [("file", "kind"), *lines])
        (folder / f"list.{ending}").write_text(text)
    records = [{"picture": path, "label": name} for path, name in lines]
    (folder / "list.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (folder / "list.json").write_text(json.dumps(records))
    with tarfile.open(folder / "shard.tar", "w") as archive:
        for number, (data, name) in enumerate(pictures()):
            for ending, content in (("png", data), ("txt", name.encode())):
                member = tarfile.TarInfo(f"{number:03d}.{ending}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    names = (
        "textures zipped.zip one.parquet texts.parquet shards saved saved_dict list.csv list.tsv list.jsonl list.json"
    )
    return {name: str(folder / name) for name in [*names.split(), "shard.tar"]}


def in_memory(folder):
    """Kind -> the pictures in memory."""
    decoded = [(PILImage.open(io.BytesIO(data)), name) for data, name in pictures()]
    paths = [(Path(folder) / "textures" / path, path.partition("/")[0]) for path in sorted(FILES)]
    return {
        "Dataset": rows(),
        "Dataset of texts": rows("species", texts=True),
        "DatasetDict": DatasetDict(train=rows()),
        "pairs": decoded,
        "pairs of paths": paths,
    }
