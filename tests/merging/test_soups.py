import json
import weakref

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.func import functional_call
from torch.nn import functional

from hf_paint import InputError, LazyWeights, greedy_soup, learned_soup, uniform_soup
from hf_paint.merging.running_mean import RunningMean
from tensors import bits


SPECIALS = torch.tensor([-0.0, 0.0, 1e-40, 0.1])


def three_models(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    shared = {"frozen": torch.randn(501).to(dtype), "specials": SPECIALS.to(dtype), "ids": torch.arange(3)}
    return {name: {"moved": torch.randn(64, 33, generator=generator).to(dtype)} | shared for name in "abc"}


def written_out_mean(thetas, names):
    return torch.stack([thetas[name]["moved"].double() for name in names]).mean(0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_uniform_soup_is_the_mean_and_keeps_what_is_equal(dtype):
    thetas = three_models(dtype)
    soup = uniform_soup(thetas)
    expected = written_out_mean(thetas, "abc")
    assert soup["moved"].dtype == dtype
    if dtype == torch.float64:
        torch.testing.assert_close(soup["moved"], expected)
    else:  # float32 arithmetic, rounded once: half a unit in the last place of the dtype, and little more
        unit = torch.finfo(dtype).eps * expected.abs().clamp(min=2**-10)
        assert bool(((soup["moved"].double() - expected).abs() <= 0.5 * unit + 1e-6).all())
    for name in ("frozen", "specials", "ids"):
        assert torch.equal(bits(soup[name]), bits(thetas["a"][name]))


def test_the_written_out_mean_would_change_frozen_tensors():
    frozen = three_models()["a"]["frozen"]
    assert not torch.equal((frozen + frozen + frozen) / 3, frozen)


def test_a_soup_of_one_is_that_model_in_a_storage_of_its_own():
    theta = three_models()["a"]
    soup = uniform_soup({"a": theta})
    assert all(torch.equal(bits(soup[name]), bits(theta[name])) for name in theta)
    assert soup["moved"].data_ptr() != theta["moved"].data_ptr()


def test_soups_refuse_what_does_not_fit():
    thetas = three_models()
    with pytest.raises(InputError, match="at least one model"):
        uniform_soup({})
    with pytest.raises(InputError, match="must not contain ' \\+ ', got 'a \\+ b'"):
        greedy_soup({"a + b": thetas["a"]}, lambda theta: 0.0)
    with pytest.raises(InputError, match="theta_0 and b cannot be interpolated: 1 tensors are only in b: extra"):
        uniform_soup({"a": thetas["a"], "b": thetas["b"] | {"extra": torch.zeros(1)}})
    with pytest.raises(InputError, match="Integer tensor 'ids' differs"):
        uniform_soup({"a": thetas["a"], "b": thetas["b"] | {"ids": torch.arange(3) + 1}})
    with pytest.raises(InputError, match="score of 'a' must be a finite number, got nan"):
        greedy_soup(thetas, lambda theta: float("nan"))


def written_out_greedy(thetas, score):
    """Recipe 1 with means from scratch, in float64."""
    order = sorted(thetas, key=lambda name: score(written_out_mean(thetas, [name])), reverse=True)
    soup = [order[0]]
    for name in order[1:]:
        if score(written_out_mean(thetas, [*soup, name])) > score(written_out_mean(thetas, soup)):
            soup.append(name)
    return soup


@pytest.mark.parametrize("seed", range(6))
def test_greedy_soup_equals_the_recipe(seed):
    generator = torch.Generator().manual_seed(seed)
    target = torch.randn(5, generator=generator, dtype=torch.float64)
    thetas = {name: {"moved": torch.randn(5, generator=generator)} for name in "abcdefgh"}
    soup = greedy_soup(thetas, lambda theta: -float((theta["moved"].double() - target).norm()))
    expected = written_out_greedy(thetas, lambda mean: -float((mean - target).norm()))
    assert list(soup.ingredients) == expected
    assert soup.score == pytest.approx(-float((written_out_mean(thetas, expected) - target).norm()), abs=1e-6)
    assert torch.equal(soup.theta["moved"], uniform_soup({name: thetas[name] for name in expected})["moved"])


def test_an_equal_score_does_not_count():
    thetas = three_models()
    soup = greedy_soup(thetas, lambda theta: 0.5)
    assert (soup.ingredients, soup.score) == (("a",), 0.5)
    assert torch.equal(bits(soup.theta["moved"]), bits(thetas["a"]["moved"]))


def test_greedy_soup_goes_on_from_its_log():
    thetas, calls = three_models(), []

    def score(theta, last=99):
        if len(calls) == last:
            raise KeyboardInterrupt
        calls.append(-float(theta["moved"].norm()))
        return calls[-1]

    whole = greedy_soup(thetas, score, log=(known := {}))
    assert len(calls) == 5 == len(known)
    calls.clear()
    partial = {}
    with pytest.raises(KeyboardInterrupt):
        greedy_soup(thetas, lambda theta: score(theta, last=4), log=partial)
    assert len(partial) == 4
    resumed = greedy_soup(thetas, score, log=json.loads(json.dumps(partial)))
    assert len(calls) == 5
    assert resumed.ingredients == whole.ingredients == whole.ingredients
    assert torch.equal(resumed.theta["moved"], whole.theta["moved"])
    greedy_soup({name: thetas[name] for name in thetas}, lambda theta: pytest.fail("it is all known"), log=known)


class Counting(dict):
    """Weights that count the tensors read and released."""

    def __init__(self, values, alive):
        super().__init__(values)
        self.alive = alive

    def __getitem__(self, name):
        tensor = super().__getitem__(name).clone()
        self.alive["now"] += tensor.numel()
        self.alive["most"] = max(self.alive["most"], self.alive["now"])
        weakref.finalize(tensor, self._let_go, tensor.numel())
        return tensor

    def _let_go(self, size):
        self.alive["now"] -= size

    def items(self):
        return ((name, self[name]) for name in self)

    def values(self):
        return (self[name] for name in self)


def test_lazily_read_ingredients_are_in_memory_one_tensor_at_a_time():
    alive = {"now": 0, "most": 0}
    weights = {str(i): torch.randn(100) for i in range(20)}
    thetas = {name: Counting({k: x + 3 * i - 4 for k, x in weights.items()}, alive) for i, name in enumerate("abcde")}
    soup = greedy_soup(thetas, lambda theta: -sum(float((theta[key] - weights[key]).norm()) for key in weights))
    assert len(soup.ingredients) > 1
    assert alive["most"] <= 4 * 100


def test_lazy_weights_are_those_of_the_file(model_folder):
    lazy, whole = LazyWeights(model_folder), load_file(f"{model_folder}/model.safetensors")
    assert set(lazy) == set(whole)
    assert len(lazy) == len(whole)
    assert all(torch.equal(lazy[name], whole[name]) for name in whole)
    soup = uniform_soup({"a": lazy, "b": lazy})
    assert all(torch.equal(bits(soup[name]), bits(whole[name])) for name in whole)


def test_running_mean_of_what_it_would_be():
    thetas = three_models()
    mean = RunningMean(thetas["a"])
    mean.add(thetas["b"])
    would_be = mean.mean(thetas["c"])
    mean.add(thetas["c"])
    assert torch.equal(would_be["moved"], mean.mean()["moved"])
    assert mean.count == 3


def validation_data():
    generator = torch.Generator().manual_seed(3)
    layer = nn.Linear(6, 3)
    thetas = {
        name: {k: torch.randn(p.shape, generator=generator) for k, p in layer.named_parameters()} for name in "abc"
    }
    x = torch.randn(200, 6, generator=generator)
    truth = 0.7 * thetas["a"]["weight"] + 0.3 * thetas["c"]["weight"]
    labels = (x @ truth.T).argmax(1)

    def loss(theta):
        return functional.cross_entropy(functional_call(layer, theta, x), labels)

    return thetas, loss


def test_learned_soup_is_gradient_descent_on_the_coefficients():
    """Against Adam written out, with gradients by central differences in float64."""
    thetas, loss = validation_data()
    learned = learned_soup(thetas, loss, steps=4, learning_rate=0.1)

    def value(free):
        a = free.softmax(0)
        return float(
            loss({k: sum(a[i] * thetas[n][k].double() for i, n in enumerate("abc")).float() for k in thetas["a"]})
        )

    free, first, second = torch.zeros(3, dtype=torch.float64), torch.zeros(3).double(), torch.zeros(3).double()
    for step in range(1, 5):
        unit = 1e-3 * torch.eye(3, dtype=torch.float64)
        gradient = torch.tensor([(value(free + u) - value(free - u)) / 2e-3 for u in unit], dtype=torch.float64)
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        free = free - 0.1 * (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
    coefficients = torch.tensor(list(learned.coefficients[None].values()), dtype=torch.float64)
    torch.testing.assert_close(coefficients, free.softmax(0), atol=2e-3, rtol=0)
    expected = sum(a * thetas[name]["weight"].double() for name, a in learned.coefficients[None].items())
    torch.testing.assert_close(learned.theta["weight"].double(), expected, atol=1e-6, rtol=0)


def test_learned_soup_trains_the_temperature_with_the_coefficients():
    """Against Adam written out in float64, with gradients by central differences, for coefficients and temperature."""
    (thetas, _), layer = validation_data(), nn.Linear(6, 3)
    x, labels = torch.randn(40, 6, generator=torch.Generator().manual_seed(5)), torch.arange(40) % 3
    beta = torch.ones((), requires_grad=True)

    def loss(theta):
        return functional.cross_entropy(beta * functional_call(layer, theta, x), labels)

    learned = learned_soup(thetas, loss, steps=5, learning_rate=0.1, parameters=[beta])

    def value(free):
        a = free[:-1].softmax(0)
        weight, bias = (
            sum(a[i] * thetas[name][key].double() for i, name in enumerate("abc")) for key in ("weight", "bias")
        )
        return float(functional.cross_entropy(free[-1] * (x.double() @ weight.T + bias), labels))

    free = torch.tensor([0, 0, 0, 1], dtype=torch.float64)
    first, second = torch.zeros_like(free), torch.zeros_like(free)
    for step in range(1, 6):
        unit = 1e-4 * torch.eye(len(free), dtype=torch.float64)
        gradient = torch.tensor([(value(free + u) - value(free - u)) / 2e-4 for u in unit], dtype=torch.float64)
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        free = free - 0.1 * (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
    assert abs(float(free[-1]) - 1) > 0.1
    assert float(beta) == pytest.approx(float(free[-1]), abs=2e-3)
    assert list(learned.coefficients[None].values()) == pytest.approx(free[:-1].softmax(0).tolist(), abs=2e-3)


def test_learned_soup_beats_the_uniform_one_and_can_learn_by_group():
    thetas, loss = validation_data()
    uniform, learned = uniform_soup(thetas), learned_soup(thetas, loss, steps=200)
    by_tensor = learned_soup(thetas, loss, steps=200, group=lambda name: name)
    assert set(by_tensor.coefficients) == {"weight", "bias"}
    assert sum(by_tensor.coefficients["bias"].values()) == pytest.approx(1)
    assert float(loss(by_tensor.theta)) < float(loss(learned.theta)) < 0.9 * float(loss(uniform))
    assert learned.coefficients[None]["b"] < 0.1


def test_learned_soup_keeps_what_is_equal():
    thetas = three_models()
    learned = learned_soup(thetas, lambda theta: theta["moved"].square().sum(), steps=2)
    for name in ("frozen", "specials", "ids"):
        assert torch.equal(bits(learned.theta[name]), bits(thetas["a"][name]))
    with pytest.raises(InputError, match="at least one model"):
        learned_soup({}, lambda theta: torch.zeros(()))


def test_a_learned_soup_of_equal_models_is_that_model():
    """There is nothing to learn, and a loss that no coefficient changes has no gradient."""
    theta = three_models()["a"]
    learned = learned_soup(dict.fromkeys("ab", theta), lambda theta: theta["moved"].square().sum(), steps=2)
    assert learned.coefficients == {None: {"a": 0.5, "b": 0.5}}
    assert all(torch.equal(bits(learned.theta[name]), bits(x)) for name, x in theta.items())
