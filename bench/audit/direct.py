"""Direct tests of a game: is the noise the claimed noise, the sum the clipped sum, the batch Poisson, the epsilon counted?

Each test holds one number that the record claims, or that follows from it, against what the auditor saw, and has a p-value:
the probability of what was seen, or of worse, if the claim is true. A game alarms where one of the p-values is below
FALSE_ALARMS over their number, so that an honest game alarms with a probability of at most FALSE_ALARMS (Bonferroni).
"""

import itertools
import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
from dp_accounting.pld import PLDAccountant
from scipy import stats

from bench.audit.watch import Seen

FALSE_ALARMS = 0.01
COUNTED = 1e-3  # relative, between two accountants that discretise differently


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One test: what is claimed, what was seen in its place, and the p-value of the claim."""

    name: str
    claimed: float
    audited: float
    p: float


def findings(seen: Seen) -> list[Finding]:
    """All direct tests of a game."""
    std = seen.privacy["noise_multiplier"] * seen.privacy["clip_norm"]
    noise = seen.residuals / std  # (T, d): standard normal where the claims are true
    return [*_noise(noise, seen.tensors), *_independence(noise, seen.tensors), *_sums(seen, noise, std),
            *_canaries(seen), *_batches(seen), _epsilon(seen)]  # fmt: skip


def _noise(noise: np.ndarray, tensors: dict[str, slice]) -> list[Finding]:
    """Its standard deviation over the claimed one: of all, of the tensor that differs most, and of every step."""
    whole = _size("noise", noise)
    parts = [_size(name, noise[:, part]) for name, part in tensors.items()]
    worst = min(parts, key=lambda part: part.p)
    squares, d = (noise**2).sum(1), noise.shape[1]
    spread = float((((squares - d) ** 2) / (2 * d)).sum())  # a chi-square of d degrees is normal for d of some thousands
    return [
        whole,
        Finding(name="noise, worst tensor", claimed=1, audited=worst.audited, p=_of_several(worst.p, len(parts))),
        Finding(name="noise, between steps", claimed=1, audited=spread / len(noise), p=stats.chi2.sf(spread, len(noise))),
    ]


def _size(name: str, noise: np.ndarray) -> Finding:
    squares = float((noise**2).sum())
    return Finding(name=name, claimed=1, audited=math.sqrt(squares / noise.size), p=_two_sided(squares, noise.size))


def _independence(noise: np.ndarray, tensors: dict[str, slice]) -> list[Finding]:
    """Correlations of the noise at every two steps, and of every two tensors, of which the shorter one's length is compared,
    and of the two halves of each.
    """
    unit = noise / np.maximum(np.linalg.norm(noise, axis=1, keepdims=True), np.finfo(float).tiny)
    steps = (unit @ unit.T)[np.triu_indices(len(noise), 1)]
    parts = [noise[:, part] for part in tensors.values()]
    pairs = [(a[:, : min(a.shape[1], b.shape[1])], b[:, : min(a.shape[1], b.shape[1])])
             for a, b in itertools.combinations(parts, 2)]  # fmt: skip
    pairs += [(part[:, : part.shape[1] // 2], part[:, -(part.shape[1] // 2) :]) for part in parts if part.shape[1] > 1]
    correlations = [_correlation(a, b) for a, b in pairs]
    return [
        _largest("noise of two steps", steps, [noise.shape[1]] * len(steps)),
        _largest("noise of two tensors", correlations, [a.size for a, _ in pairs]),
    ]


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    lengths = np.linalg.norm(a) * np.linalg.norm(b)
    return float((a * b).sum() / lengths) if lengths else 0.0


def _largest(name: str, correlations, sizes: list[int]) -> Finding:
    """The correlation, about the known means of zero, that is least likely: r sqrt((n - 1) / (1 - r^2)) is Student's t."""
    r = np.clip(np.asarray(correlations), -1 + 1e-15, 1 - 1e-15)
    freedom = np.asarray(sizes) - 1
    ps = 2 * stats.t.sf(np.abs(r) * np.sqrt(freedom / (1 - r**2)), freedom)
    worst = int(ps.argmin())
    return Finding(name=name, claimed=0, audited=float(r[worst]), p=_of_several(float(ps[worst]), len(ps)))


def _sums(seen: Seen, noise: np.ndarray, std: float) -> list[Finding]:
    """What is released along the exact clipped sum, over that sum: in the mean of the steps, and how it varies."""
    lengths = np.linalg.norm(seen.sums, axis=1)
    along = (noise * seen.sums).sum(1) / lengths  # standard normal
    total = float(np.linalg.norm(lengths))
    z = float(along @ lengths) / total
    squares, steps = float((along**2).sum()), len(along)
    return [
        Finding(name="clipped sum", claimed=1, audited=1 + z * std / total, p=2 * stats.norm.sf(abs(z))),
        Finding(name="clipped sum, between steps", claimed=1, audited=squares / steps, p=_two_sided(squares, steps)),
    ]


def _canaries(seen: Seen) -> list[Finding]:
    """The noise in the columns of absent canaries; the mean shift of present ones, drawn, over the C that is allowed."""
    sigma = seen.privacy["noise_multiplier"]
    drawn = seen.drawn[:, -len(seen.present) :] & seen.present
    shifts = seen.scores[drawn]
    mean = float(shifts.mean())
    above = stats.norm.sf((mean - 1) * math.sqrt(len(shifts)) / sigma)
    absent = _size("noise, absent canaries", seen.scores[:, ~seen.present] / sigma)
    return [absent, Finding(name="shift of present canaries", claimed=1, audited=mean, p=above)]


def _batches(seen: Seen) -> list[Finding]:
    """Batch sizes and inclusions against Binomial laws with the claimed rate."""
    rate, (steps, size) = seen.privacy["sample_rate"], seen.drawn.shape
    variance = rate * (1 - rate)
    sizes = float(((seen.drawn.sum(1) - size * rate) ** 2).sum() / (size * variance))
    samples = float(((seen.drawn.sum(0) - steps * rate) ** 2).sum() / (steps * variance))
    count = int(seen.drawn.sum())
    # the variance of a squared standardised binomial is 2 and its excess kurtosis; of a chi-square it is 2
    scale = math.sqrt(1 + (1 - 6 * variance) / (2 * steps * variance))
    z = (samples - size) / math.sqrt(2 * size) / scale
    return [
        Finding(name="sampling rate", claimed=rate, audited=count / seen.drawn.size,
                p=stats.binomtest(count, seen.drawn.size, rate).pvalue),
        Finding(name="batch sizes, variance", claimed=1, audited=sizes / steps, p=_two_sided(sizes, steps)),
        Finding(name="inclusions, variance", claimed=1, audited=samples / size, p=2 * stats.norm.sf(abs(z))),
    ]  # fmt: skip


def _epsilon(seen: Seen) -> Finding:
    """The record's epsilon against dp-accounting's for the steps that the auditor counted; both bounds err upwards."""
    claims = seen.privacy
    spent = epsilon_of(claims["noise_multiplier"], claims["sample_rate"], len(seen.drawn), claims["delta"])
    covered = spent <= claims["epsilon_pld"] * (1 + COUNTED)
    return Finding(name="epsilon, counted", claimed=claims["epsilon_pld"], audited=spent, p=float(covered))


@cache
def epsilon_of(noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> float:
    """By dp-accounting, add-or-remove-one, whose losses are those of zero-out."""
    event = PoissonSampledDpEvent(sample_rate, GaussianDpEvent(noise_multiplier))
    return PLDAccountant().compose(event, steps).get_epsilon(delta)


def _two_sided(squares: float, freedom: int) -> float:
    """Of a sum of squares that is chi-square if the claim is true; NaN of NaN, which alarms."""
    return _of_several(np.minimum(stats.chi2.cdf(squares, freedom), stats.chi2.sf(squares, freedom)), 2)


def _of_several(p: float, tests: int) -> float:
    return float(np.minimum(1.0, p * tests))  # Python's min would make 1 of NaN
