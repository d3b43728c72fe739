"""A few inputs for every parser, and all inputs that were once lost."""

import logging
import warnings
from pathlib import Path
from random import Random

import pytest
from fuzz import CORPUS, Fuzzer, mutate

from hf_paint.files import write_text


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory):
    disabled = logging.root.manager.disable
    with warnings.catch_warnings():
        yield Fuzzer(tmp_path_factory.mktemp("fuzz"))
    logging.disable(disabled)


def test_mutated_documents_are_a_value_or_one_line(fuzzer, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name, parser in fuzzer.parsers.items():
        rng = Random(name)
        for document in [*parser.seeds, *(mutate(rng.choice(parser.seeds), rng) for _ in range(12))]:
            fuzzer.feed(name, document)
    assert list(fuzzer.lost.values()) == []
    assert 0 < fuzzer.refused < fuzzer.tried


@pytest.mark.parametrize("path", sorted(CORPUS.iterdir()), ids=lambda path: path.name)
def test_what_was_once_lost(fuzzer, path):
    name = path.name.rpartition("-")[0].replace("_", " ")
    assert fuzzer.feed(name, path.read_bytes()) is None


def test_what_is_lost_is_told(fuzzer, tmp_path, monkeypatch):
    def bug(content):
        write_text(tmp_path / "out", content.decode())
        raise KeyError(content)

    parser = type(fuzzer.parsers["alpha"])(bug, [b"x"])
    monkeypatch.setitem(fuzzer.parsers, "buggy", parser)
    assert fuzzer.feed("buggy", b"x") == "KeyError in test_fuzz.py bug: b'x'"
    assert fuzzer.lost.popitem()[1].endswith("input b'x'")
    assert Path(tmp_path / "out").read_text() == "x"
