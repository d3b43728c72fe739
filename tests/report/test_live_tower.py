"""An image tower that computes its weights layer by layer embeds what the whole weights at that alpha embed."""

from copy import deepcopy

import pytest
import torch

import tiny_families
from hf_paint.merging.fisher import FisherPath
from hf_paint.merging.path import Line, Span, Steps
from hf_paint.models.towers import image_tower, image_tower_weights, with_weights
from hf_paint.report.live_tower import LiveTower
from hf_paint.results.alphas import Coefficients


def perturbed(weights, seed):
    generator = torch.Generator().manual_seed(seed)
    return {name: x + 0.1 * x.std() * torch.randn(x.shape, generator=generator) for name, x in weights.items()}


def pixels(seed=0):
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def by_hand(model, weights):
    """The embedding of a plain model into which whole weights are loaded."""
    with torch.no_grad():
        return with_weights(model, weights).get_image_features(pixel_values=pixels()).pooler_output


def mean(shares):
    """`sum_i share_i * theta_i` in float64, rounded once."""
    names = shares[0][1]
    return {name: sum(share * theta[name].double() for share, theta in shares).float() for name in names}


@pytest.mark.parametrize("family", tiny_families.FAMILIES)
def test_a_line_in_every_family(family):
    model, _ = tiny_families.make(family)
    theta_0 = {name: x.clone() for name, x in image_tower_weights(model).items()}
    theta_1 = perturbed(theta_0, 1)
    live = LiveTower(image_tower(deepcopy(model)), Line(theta_0, theta_1))
    for alpha in (0.3, 1.0, 0.0, 0.7):  # the order matters: memory that layers share is left from the last alpha
        expected = by_hand(model, mean([(1 - alpha, theta_0), (alpha, theta_1)]))
        torch.testing.assert_close(live.embed(pixels(), alpha).image_embeds, expected, atol=2e-5, rtol=1e-4)


def test_paths_that_are_not_one_line(model):
    theta_0 = {name: x.clone() for name, x in image_tower_weights(model).items()}
    first, second = perturbed(theta_0, 1), perturbed(theta_0, 2)
    first["visual_projection.weight"] = theta_0["visual_projection.weight"]  # a tensor that does not change
    fisher = [{name: x.abs() + 1 for name, x in theta.items()} for theta in (theta_0, first)]
    span, steps = Span(theta_0, {"a": first, "b": second}), Steps(theta_0, {"a": first, "b": second})
    fisher_path = FisherPath(theta_0, first, *fisher)
    cases = [
        (span, Coefficients({"a": 0.5, "b": 0.25}), mean([(0.25, theta_0), (0.5, first), (0.25, second)])),
        (span, Coefficients({"b": 0.25}), mean([(0.75, theta_0), (0.25, second)])),
        (span, Coefficients({"a": 0.6, "b": 0.4}), mean([(0.6, first), (0.4, second)])),
        (span, 0.0, theta_0),
        (steps, 0.5, mean([(0.5, theta_0), (0.5, first)])),
        (steps, 1.0, first),
        (steps, 1.25, mean([(0.75, first), (0.25, second)])),
        (steps, 2.0, second),
        (fisher_path, 0.5, fisher_path.at(0.5)),
    ]
    for path, alpha, weights in cases:
        live = LiveTower(image_tower(deepcopy(model)), path)
        expected = by_hand(model, weights)
        torch.testing.assert_close(live.embed(pixels(), alpha).image_embeds, expected, atol=2e-5, rtol=1e-4)


def test_the_ends_are_the_models_themselves(model):
    theta_0 = {name: x.clone() for name, x in image_tower_weights(model).items()}
    theta_1 = perturbed(theta_0, 1)
    live = LiveTower(image_tower(deepcopy(model)), Line(theta_0, theta_1))
    for alpha, weights in ((1.0, theta_1), (0.0, theta_0)):
        assert torch.equal(live.embed(pixels(), alpha).image_embeds, by_hand(model, weights))


def test_a_rough_answer_is_in_bfloat16_and_leaves_the_exact_one_alone(model):
    theta_0 = {name: x.clone() for name, x in image_tower_weights(model).items()}
    theta_1 = perturbed(theta_0, 1)
    live = LiveTower(image_tower(deepcopy(model)), Line(theta_0, theta_1))
    exact = live.embed(pixels(), 0.3).image_embeds
    rough = live.embed(pixels(), 0.3, rough=True).image_embeds
    assert rough.dtype == torch.float32
    assert 1e-6 < float((rough - exact).abs().max()) < 0.03 * float(exact.abs().max())
    assert torch.equal(live.embed(pixels(), 0.3).image_embeds, exact)
