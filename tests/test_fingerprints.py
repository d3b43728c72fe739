"""Fingerprints name caches and records: they never change, so their values are written out here."""

import hashlib

import torch

from hf_paint.fingerprints import (
    fingerprint_combination,
    fingerprint_interpolation,
    fingerprint_values,
    fingerprint_weights,
)


WEIGHTS = {"b": torch.tensor([[1.0, -0.0]]), "a": torch.tensor([1, 2], dtype=torch.int64)}


def test_weights_are_names_dtypes_shapes_and_bytes():
    text = b"a:torch.int64:(2,);" + WEIGHTS["a"].numpy().tobytes()
    text += b"b:torch.float32:(1, 2);" + WEIGHTS["b"].numpy().tobytes()
    assert fingerprint_weights(WEIGHTS) == hashlib.sha256(text).hexdigest()[:16] == "a8477ba4656766c6"
    assert fingerprint_weights(dict(reversed(WEIGHTS.items()))) == fingerprint_weights(WEIGHTS)
    strided = WEIGHTS | {"b": WEIGHTS["b"].T.contiguous().T}
    assert fingerprint_weights(strided) == fingerprint_weights(WEIGHTS)
    assert fingerprint_weights(WEIGHTS | {"b": torch.tensor([[1.0, 0.0]])}) != fingerprint_weights(WEIGHTS)


def test_values_are_json_with_sorted_keys():
    values = ("images", 3, {"b": 0.5, "a": None})
    text = '["images", 3, {"a": null, "b": 0.5}]'
    assert fingerprint_values(*values) == hashlib.sha256(text.encode()).hexdigest()[:16] == "2d8259c316c1899a"


def test_an_interpolation_is_exact_at_both_ends():
    assert [fingerprint_interpolation("t0", "t1", alpha) for alpha in (0, 0.0, 1, 1.0)] == ["t0", "t0", "t1", "t1"]
    assert fingerprint_interpolation("t0", "t1", 0.3) == fingerprint_values("t0", "t1", 0.3) == "f449b7179c76a2c3"


def test_a_combination_of_one_model_is_an_interpolation():
    thetas = {"a": "ta", "b": "tb"}
    assert fingerprint_combination("t0", thetas, {"a": 0, "b": 0}) == "t0"
    assert fingerprint_combination("t0", thetas, {"a": 0, "b": 1}) == "tb"
    assert fingerprint_combination("t0", thetas, {"a": 0.3, "b": 0}) == fingerprint_interpolation("t0", "ta", 0.3)
    expected = fingerprint_values("t0", [["ta", 0.3], ["tb", 0.5]])
    assert fingerprint_combination("t0", thetas, {"a": 0.3, "b": 0.5}) == expected
