import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

from bench.dp.sampling import PURPOSES, generator, noise, poisson_batch, stream

# Probability of a false alarm of one test here; there are about 400, so that one in 2,500 changes meets one by accident.
LEVEL = 1e-6


def test_purposes_seeds_steps_and_names_give_different_streams():
    keys = list(itertools.product((0, 1), PURPOSES, ((), (1,), (2,), (1, "a.weight"), (1, "b.weight"), (11,))))
    draws = {key: tuple(stream(key[0], key[1], *key[2]).random(4)) for key in keys}
    assert len(set(draws.values())) == len(draws)
    assert tuple(stream(1, "noise", 1, "a.weight").random(4)) == draws[1, "noise", (1, "a.weight")]
    first, same, other = (torch.rand(4, generator=generator(seed, "weights")) for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_unknown_purpose_is_refused():
    for draw in (stream, generator):
        with pytest.raises(ValueError, match="unknown purpose 'nois'"):
            draw(0, "nois")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_noise_is_standard_normal(dtype):
    """Kolmogorov-Smirnov, and the share beyond 4 standard deviations, where a clipped or coarse generator would show."""
    values = torch.cat([noise(0, step, "w", torch.empty(50_000, dtype=dtype)) for step in range(20)]).double().numpy()
    assert stats.kstest(values, "norm").pvalue > LEVEL
    assert stats.binomtest(int((np.abs(values) > 4).sum()), len(values), 2 * stats.norm.sf(4)).pvalue > LEVEL
    assert noise(0, 1, "w", torch.empty(3, 4, dtype=dtype)).dtype == dtype
    assert noise(0, 1, "gain", torch.empty(())).shape == ()


def test_noise_is_independent_between_steps_parameters_and_seeds():
    """All pairs of 24 vectors, that differ in seed, step or name: their correlations are normal with variance 1 / n."""
    n, like = 100_000, torch.empty(100_000)
    keys = list(itertools.product((0, 1), (1, 2, 3), ("conv1.weight", "conv1.bias", "res1.at_sum.weight", "head.weight")))
    vectors = np.stack([noise(seed, step, name, like).double().numpy() for seed, step, name in keys])
    correlations = np.corrcoef(vectors)[np.triu_indices(len(keys), 1)] * math.sqrt(n)
    assert stats.norm.sf(np.abs(correlations).max()) * 2 * len(correlations) > LEVEL
    # and jointly: the sum of their squares, which many small correlations would move
    assert LEVEL < stats.chi2.cdf((correlations**2).sum(), len(correlations)) < 1 - LEVEL
    # lagged: a stream that begins where another one is at later
    for lag in (1, 2, 4, 624):
        lagged = [float(a[:-lag] @ b[lag:]) / math.sqrt(n - lag) for a, b in itertools.permutations(vectors[:6], 2)]
        assert LEVEL < stats.chi2.cdf(np.square(lagged).sum(), len(lagged)) < 1 - LEVEL


def test_inclusions_are_independent_bernoulli_of_exactly_the_rate():
    """Size and inclusion counts against their binomial laws, at a level of 1e-6 each: a false alarm in 500,000 changes."""
    size, rate, draws = 200, 1 / 49, 20_000
    batches = [poisson_batch(size, rate, stream(0, "batches", step)) for step in range(draws)]
    sizes = torch.tensor([len(batch) for batch in batches])
    counts = torch.bincount(torch.cat(batches), minlength=size)
    assert stats.binomtest(int(sizes.sum()), size * draws, rate).pvalue > 1e-6
    assert stats.binomtest(int((sizes == 0).sum()), draws, (1 - rate) ** size).pvalue > 1e-6
    spread = ((counts - draws * rate) ** 2 / (draws * rate * (1 - rate))).sum().item()
    assert 1e-6 < stats.chi2.cdf(spread, size) < 1 - 1e-6
    variance = sizes.double().var().item() / (size * rate * (1 - rate))
    assert abs(variance - 1) < 6 * math.sqrt(2 / draws)


def test_no_sample_comes_twice_and_rate_one_takes_all():
    assert poisson_batch(50, 1.0, stream(0, "batches", 1)).tolist() == list(range(50))
    batch = poisson_batch(1000, 0.5, stream(0, "batches", 1))
    assert len(batch.unique()) == len(batch)
