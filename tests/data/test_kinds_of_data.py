"""Every kind of reference to the same pictures is the same task."""

import numpy as np
import pytest

from hf_paint import get_task
from hf_paint.data.splits import load_splits
from references import WORDS, in_memory, write_all


KINDS = "textures zipped.zip one.parquet texts.parquet shards saved saved_dict list.csv list.tsv list.jsonl list.json"
MEMORY_KINDS = ["Dataset", "Dataset of texts", "DatasetDict", "pairs", "pairs of paths"]


@pytest.fixture(scope="module")
def references(tmp_path_factory):
    folder = tmp_path_factory.mktemp("references")
    return write_all(folder) | in_memory(folder)


@pytest.fixture(scope="module")
def expected():
    """Split -> [(pixels, label)], by the formula: numpy's permutation of each class cut at a fifth and two fifths."""
    from io import BytesIO

    from PIL import Image

    from references import pictures

    drawn = pictures()
    order = np.random.default_rng(0).permutation(20)
    parts = {"test": order[:4], "validation": order[4:8], "train": order[8:]}
    rows = {split: sorted(20 * label + index for label in range(3) for index in part) for split, part in parts.items()}
    return {
        split: [(np.asarray(Image.open(BytesIO(drawn[row][0]))), row // 20) for row in own]
        for split, own in rows.items()
    }


@pytest.mark.parametrize("kind", [*KINDS.split(), "shard.tar", *MEMORY_KINDS])
def test_every_reference_to_the_same_pictures_is_the_same_task(kind, references, expected):
    splits = load_splits(get_task(references[kind]))
    assert splits.keys() == expected.keys()
    for name, split in splits.items():
        assert split.class_names == WORDS
        assert split.labels().tolist() == [label for _, label in expected[name]]
        for image, (pixels, _) in zip(split.rows[split.task.image_column], expected[name], strict=True):
            assert np.array_equal(np.asarray(image), pixels)


@pytest.fixture
def said(caplog):
    """The messages that have been logged, once per test."""
    from transformers.utils import logging

    logging.get_logger().warning_once.cache_clear()
    return lambda: " ".join(caplog.messages)


def test_a_hub_id_is_the_same_task(hub, references, expected, tmp_path):
    from huggingface_hub import HfApi

    api = HfApi()
    api.create_repo("tester/textures", repo_type="dataset")
    api.upload_file(
        path_or_fileobj=references["one.parquet"],
        path_in_repo="train.parquet",
        repo_id="tester/textures",
        repo_type="dataset",
    )
    splits = load_splits(get_task("tester/textures"))
    assert {name: split.labels().tolist() for name, split in splits.items()} == {
        name: [label for _, label in rows] for name, rows in expected.items()
    }
    assert splits["test"].class_names == WORDS
