import math

import pytest
import torch
from scipy import stats

from bench.dp.sampling import PURPOSES, generator, poisson_batch


def test_purposes_and_seeds_give_different_streams():
    draws = {
        (seed, purpose): torch.rand(4, generator=generator(seed, purpose)).tolist() for seed in (0, 1) for purpose in PURPOSES
    }
    assert len({tuple(draw) for draw in draws.values()}) == len(draws)
    assert torch.rand(4, generator=generator(1, "noise")).tolist() == draws[1, "noise"]


def test_unknown_purpose_is_refused():
    with pytest.raises(ValueError, match="unknown purpose 'nois'"):
        generator(0, "nois")


def test_inclusions_are_independent_bernoulli_of_exactly_the_rate():
    """Size and inclusion counts against their binomial laws, at a level of 1e-6 each: a false alarm in 500,000 changes."""
    size, rate, draws = 200, 1 / 49, 20_000
    source = generator(0, "batches")
    batches = [poisson_batch(size, rate, source) for _ in range(draws)]
    sizes = torch.tensor([len(batch) for batch in batches])
    counts = torch.bincount(torch.cat(batches), minlength=size)
    assert stats.binomtest(int(sizes.sum()), size * draws, rate).pvalue > 1e-6
    assert stats.binomtest(int((sizes == 0).sum()), draws, (1 - rate) ** size).pvalue > 1e-6
    spread = ((counts - draws * rate) ** 2 / (draws * rate * (1 - rate))).sum().item()
    assert 1e-6 < stats.chi2.cdf(spread, size) < 1 - 1e-6
    variance = sizes.double().var().item() / (size * rate * (1 - rate))
    assert abs(variance - 1) < 6 * math.sqrt(2 / draws)


def test_no_sample_comes_twice_and_rate_one_takes_all():
    assert poisson_batch(50, 1.0, generator(0, "batches")).tolist() == list(range(50))
    batch = poisson_batch(1000, 0.5, generator(0, "batches"))
    assert len(batch.unique()) == len(batch)
