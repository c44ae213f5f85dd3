"""Every mixing as a choice of two factors, against what it must equal and against reference vectors."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from limbeck.errors import ConfigError
from limbeck.recsys.mixers import (
    Attention,
    FactorisationMachine,
    Permutation,
    UniMixing,
    UniMixingLite,
    mix,
    permutation,
    token_mix,
)
from limbeck.recsys.sinkhorn import row_residual, sinkhorn


def exact(values) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def put(module: torch.nn.Module, **values: torch.Tensor) -> torch.nn.Module:
    module = module.double()
    with torch.no_grad():
        for name, value in values.items():
            module.get_parameter(name).copy_(value)
    return module


@pytest.mark.parity
def test_reference_vectors(parity, walk_sections) -> None:
    def case(given) -> None:
        x, close = exact(given["X"]), {"rtol": 1e-12, "atol": 1e-14}
        n, b = given["T"] * given["D"] // given["B"], given["B"]
        mixing = put(
            UniMixing(n, b, iterations=given["n_sinkhorn"]), between=exact(given["W_G"]), inside=exact(given["W_B"])
        )
        mixing.temperature = given["tau"]
        weights, local = mixing.factors()
        torch.testing.assert_close(weights, exact(given["S_G"]), **close)
        torch.testing.assert_close(local, exact(given["S_B"]), **close)
        torch.testing.assert_close(mixing(x), exact(given["out"]), **close)
        torch.testing.assert_close(mixing.fixed().double()(x), exact(given["out"]), rtol=1e-5, atol=1e-6)
        assert row_residual(weights) == pytest.approx(given["row_residual"], rel=1e-6)
        assert torch.equal(token_mix(x, given["T"]), exact(given["tokenmixer_H_eq_T"]))

        lite, values = given["lite"], {}
        for ours, theirs in {"left": "A_G", "right": "B_G", "basis": "Z", "omega": "omega"}.items():
            values[ours] = exact(lite[theirs])
        small = UniMixingLite(n, b, rank=2, bases=3, iterations=given["n_sinkhorn"])
        small = put(small, **values)
        small.temperature = given["tau"]
        for found, expected in zip(small.factors(), ("S_G", "S_B"), strict=True):
            torch.testing.assert_close(found, exact(lite[expected]), **close)

    walk_sections(parity("unimixer"), {"cases": lambda cases: [case(one) for one in cases]}, ignore=["reference"])


def test_mixing_tokens_twice_changes_nothing_and_is_a_permutation_of_blocks() -> None:
    x = drawn(2, 4, 8)
    assert torch.equal(token_mix(token_mix(x, 4), 4), x)
    assert torch.equal(token_mix(x, 4), x.view(2, 4, 4, 2).transpose(1, 2).reshape(2, 4, 8))
    for heads, block in ((4, 2), (4, 1), (2, 4), (2, 2), (8, 1)):
        g = permutation(4, 8, heads, block).double()
        assert (g.sum(0) == 1).all() and (g.sum(1) == 1).all()
        whole = torch.kron(g, torch.eye(block, dtype=torch.float64))
        assert torch.equal((x.flatten(1) @ whole.T).reshape(x.shape), token_mix(x, heads))
        assert torch.equal(g, g.T) == (heads == 4)


def test_unimixing_with_the_permutation_is_the_token_mixer_bit_for_bit() -> None:
    x, g = drawn(3, 4, 8), permutation(4, 8, 4, 2).double()
    assert torch.equal(mix(x, g, torch.eye(2, dtype=torch.float64).repeat(16, 1, 1)), Permutation(4)(x))
    mixing = UniMixing(16, 2, start=g).double()
    mixing.temperature = 0.02
    torch.testing.assert_close(mixing(x), token_mix(x, 4), atol=1e-10, rtol=0)


def test_attention_is_the_choice_of_a_softmax_and_one_local_factor() -> None:
    x, layer = drawn(3, 4, 8), Attention(8).double()
    expected = scaled_dot_product_attention(x @ layer.query, x @ layer.key, x @ layer.value)
    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-14)
    shared = layer.value.expand(4, 8, 8)
    weights = ((x @ layer.query) @ (x @ layer.key).mT / 8**0.5).softmax(-1)
    torch.testing.assert_close(mix(x, weights, shared), expected, rtol=1e-12, atol=1e-14)


def test_products_of_tokens_hold_the_second_order_of_a_factorisation_machine() -> None:
    x = drawn(4, 8)
    products = x @ x.T
    pairs = sum(float(x[i] @ x[j]) for i in range(4) for j in range(i + 1, 4))
    assert float((products.sum() - products.trace()) / 2) == pytest.approx(pairs, rel=1e-12)
    ones = put(FactorisationMachine(4, 8), projection=torch.ones(4, 8, dtype=torch.float64))(x).detach()
    assert float((ones[:, 0].sum() - products.trace()) / 2) == pytest.approx(pairs, rel=1e-12)


@pytest.mark.parametrize(("tokens", "width", "block"), [(4, 8, 2), (3, 6, 9), (2, 6, 4), (4, 8, 8)])
def test_the_factors_are_one_large_matrix(tokens: int, width: int, block: int) -> None:
    x, n = drawn(2, tokens, width), tokens * width // block
    weights, local = drawn(n, n, seed=1), drawn(n, block, block, seed=2)
    whole = (weights[:, None, :, None] * local.permute(2, 0, 1)[None]).reshape(n * block, n * block)
    torch.testing.assert_close(mix(x, weights, local).flatten(1), x.flatten(1) @ whole.T, rtol=1e-12, atol=1e-12)


def test_the_small_form_with_everything_is_the_full_form() -> None:
    n, b, x, zero = 8, 4, drawn(2, 4, 8), torch.eye(8, dtype=torch.float64)
    between, inside = drawn(n, n, seed=1), drawn(n, b, b, seed=2)
    full = put(UniMixing(n, b), between=between, inside=inside)
    lite = put(UniMixingLite(n, b, rank=n, bases=n), left=between, right=zero, basis=inside, omega=zero)
    torch.testing.assert_close(lite(x), full(x), rtol=1e-12, atol=1e-14)
    soft = put(
        UniMixingLite(n, b, rank=n, bases=n, softmax=True), left=between, right=zero, basis=inside, omega=60 * zero
    )
    torch.testing.assert_close(soft(x), full(x), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("n", "b", "r", "k"), [(16, 8, 4, 4), (6, 3, 2, 5)])
def test_parameters(n: int, b: int, r: int, k: int) -> None:
    def count(module: torch.nn.Module) -> int:
        return sum(one.numel() for one in module.parameters())

    assert count(UniMixing(n, b)) == n * n + n * b * b
    assert count(UniMixingLite(n, b, rank=r, bases=k)) == 2 * n * r + k * b * b + n * k
    assert count(Permutation(4)) == 0


def test_equal_numbers_stay_as_they_are() -> None:
    x = torch.full((2, 4, 8), 0.7, dtype=torch.float64)
    mixing = UniMixing(8, 4, iterations=200).double()
    torch.testing.assert_close(mixing(x), x, rtol=1e-10, atol=0)


def test_noise_alone_starts_at_the_mean_of_all_blocks() -> None:
    x = drawn(1, 4, 8)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        full, lite = UniMixing(64, 2).double(), UniMixingLite(64, 2, rank=4).double()
    weights = full.factors()[0].detach()
    assert (weights - 1 / 64).abs().max() < 0.1 / 64 and weights.std() > 0
    assert float(full.between.detach().std()) == pytest.approx(0.02, rel=0.1) and float(
        lite.raw()[0].detach().std()
    ) == pytest.approx(0.02, rel=0.3)
    free = UniMixing(4, 8, start=torch.eye(4), constrained=False).double()
    assert 0 < (free(x) - x).abs().max() < 0.6
    assert torch.equal(free.factors()[1], free.inside)


def test_constants_and_their_rounding() -> None:
    g, x = permutation(4, 8, 4, 2), drawn(2, 4, 8).float()
    mixing = UniMixing(16, 2, start=g)
    mixing.temperature = 0.1
    as_it_is, whole = mixing.fixed(), mixing.fixed(round_above=0.95)
    torch.testing.assert_close(as_it_is(x), mixing(x), rtol=1e-6, atol=1e-6)
    assert torch.equal(whole.weights, g)
    assert torch.equal(whole.local, as_it_is.local) and not torch.equal(as_it_is.weights, g)
    mixing.temperature = 1.0
    assert (mixing.fixed(round_above=0.95).weights - sinkhorn(mixing.between.detach())).abs().max() < 1e-6
    assert not list(whole.parameters())


def test_what_does_not_fit() -> None:
    with pytest.raises(ConfigError, match="3 heads: take a divisor"):
        token_mix(torch.zeros(1, 4, 8), 3)
    with pytest.raises(ConfigError, match="the block divides 2"):
        permutation(4, 8, 4, 8)
    with pytest.raises(ConfigError, match="as many heads as tokens"):
        UniMixing(8, 4, start=permutation(4, 8, 2, 4))
    with pytest.raises(ConfigError, match="32 numbers a sample cannot be cut into 5 blocks"):
        mix(torch.zeros(1, 4, 8), torch.eye(5))
