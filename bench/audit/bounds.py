"""Lower bounds on epsilon from guesses of the canaries' coins, at a confidence of 95 %, and the test that judges the claim.

The judge is one-run mu-GDP (Xiang et al. 2025, arXiv 2509.08704): under a claim of mu the guesses are no better than in the
game of m independent Gaussian canaries, N(0, 1) against N(mu, 1), of which those with the largest likelihood ratios are
guessed. There the number of errors has a law in closed form, which is used instead of the paper's Chernoff bound. Beside it
stand the one-run bound for (epsilon, delta) (Steinke et al. 2023, arXiv 2305.08846), far looser, and that of Gaussian DP from
Clopper-Pearson intervals of two error rates (Nasr et al. 2023, arXiv 2302.07956), which takes canaries as independent.
"""

import math

import numpy as np
from scipy import special, stats
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from bench.audit.direct import Finding
from bench.audit.watch import Seen

CONFIDENCE = 0.95
GUESSED = 0.5  # of the canaries, those of which the auditor is surest
QUANTILES = (np.arange(200) + 0.5) / 200


def log_ratios(seen: Seen) -> np.ndarray:
    """(m,): log-likelihood of each canary present against absent, given its scores, for the claimed sigma and rate."""
    sigma, rate = seen.privacy["noise_multiplier"], seen.privacy["sample_rate"]
    return np.logaddexp(math.log1p(-rate), math.log(rate) + (seen.scores - 0.5) / sigma**2).sum(0)


def bounds(seen: Seen) -> tuple[Finding, dict[str, float]]:
    """(the judge's finding, {bound: epsilon})."""
    ratios, claims = log_ratios(seen), seen.privacy
    m = len(ratios)
    guesses = round(GUESSED * m)
    surest = np.argsort(-np.abs(ratios), kind="stable")[:guesses]
    errors = int(((ratios[surest] > 0) != seen.present[surest]).sum())
    mu = largest_refused(lambda mu: errors_p_value(errors, guesses, m, mu))
    epsilons = {
        "mu-gdp": epsilon_of_mu(mu, claims["delta"]),
        "steinke": largest_refused(lambda epsilon: steinke_p_value(errors, guesses, m, epsilon, claims["delta"])),
        "clopper-pearson": epsilon_of_mu(mu_of_rates(ratios, seen.present), claims["delta"]),
    }
    p = errors_p_value(errors, guesses, m, claims["mu"])
    return Finding(name="mu, one run", claimed=claims["mu"], audited=mu, p=p), epsilons


def errors_p_value(errors: int, guesses: int, m: int, mu: float) -> float:
    """P(at most `errors` errors) in the ideal game, where the `guesses` canaries of largest |L| of `m` are guessed.

    |L|, L ~ N(mu^2 / 2, mu^2) by symmetry, is above the largest |L| that is not guessed for all that are; given that one they
    are independent, so that the errors are binomial; its quantile is Beta(m - guesses, guesses + 1).
    """
    if mu <= 0:
        mu = 1e-9
    half = mu / 2
    surface = np.linspace(0, half + 12, 4001)  # |L| / mu
    cdf = ndtr(surface - half) - ndtr(-surface - half)
    level = special.betaincinv(m - guesses, guesses + 1, QUANTILES) if guesses < m else np.zeros(1)
    threshold = np.interp(level, cdf, surface)
    above = ndtr(half - threshold) + ndtr(-threshold - half)
    wrong = ndtr(-threshold - half) / above
    return float(stats.binom.cdf(errors, guesses, wrong).mean())


def steinke_p_value(errors: int, guesses: int, m: int, epsilon: float, delta: float) -> float:
    """Steinke et al. 2023, theorem 5.2: of `guesses` - `errors` right guesses or more, under (epsilon, delta)."""
    right = guesses - errors
    law = stats.binom(guesses, special.expit(epsilon))
    beta = law.sf(right - 1)
    i = np.arange(1, right + 1)
    alpha = np.max((law.sf(right - i - 1) - beta) / i, initial=0)
    return float(min(1, beta + 2 * m * delta * alpha))


def mu_of_rates(ratios: np.ndarray, present: np.ndarray) -> float:
    """The largest mu that the error rates at some threshold refuse, with Bonferroni over nineteen thresholds."""
    thresholds = np.quantile(ratios, np.arange(1, 20) / 20)
    level = (1 - CONFIDENCE) / (2 * len(thresholds))
    guessed = ratios > thresholds[:, None]
    alpha = _clopper_pearson((guessed & ~present).sum(1), (~present).sum(), level)
    beta = _clopper_pearson((~guessed & present).sum(1), present.sum(), level)
    return float(max(0.0, np.max(-ndtri(alpha) - ndtri(beta))))


def _clopper_pearson(errors: np.ndarray, of: int, level: float) -> np.ndarray:
    """Upper confidence limits of the rates."""
    return np.where(errors < of, stats.beta.ppf(1 - level, errors + 1, np.maximum(of - errors, 1)), 1.0)


def largest_refused(p_value, top: float = 60.0) -> float:
    """The largest claim whose p-value is below 1 - CONFIDENCE, p-values growing with it; 0 where none is."""
    level = 1 - CONFIDENCE
    if p_value(0.0) >= level:
        return 0.0
    return top if p_value(top) < level else brentq(lambda claim: p_value(claim) - level, 0.0, top, xtol=1e-4)


def epsilon_of_mu(mu: float, delta: float) -> float:
    """Dong, Roth & Su 2022, corollary 2.13."""
    if mu <= 0:
        return 0.0

    def missing(epsilon: float) -> float:
        return ndtr(mu / 2 - epsilon / mu) - math.exp(epsilon + special.log_ndtr(-mu / 2 - epsilon / mu)) - delta

    return 0.0 if missing(0.0) <= 0 else brentq(missing, 0.0, mu**2 / 2 + 8 * mu, xtol=1e-6)
