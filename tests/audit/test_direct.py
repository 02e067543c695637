"""The direct tests on made-up games: true claims give p-values that are uniform, and each test sees what it is there for."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from bench.audit import bounds, direct
from bench.audit.watch import Seen

STEPS, SAMPLES, CANARIES, SIGMA, RATE, CLIP_NORM = 20, 500, 400, 1.2, 0.3, 2.0
TENSORS = {"a.weight": slice(0, 300), "a.bias": slice(300, 310), "gain": slice(310, 311), "b.weight": slice(311, 611)}
PRIVACY = {
    "noise_multiplier": SIGMA, "clip_norm": CLIP_NORM, "sample_rate": RATE, "delta": 1e-5, "mu": 9.0,
    "epsilon_pld": direct.epsilon_of(SIGMA, RATE, STEPS, 1e-5),
}  # fmt: skip


def made_up(seed: int) -> Seen:
    source = np.random.default_rng(seed)
    drawn = source.random((STEPS, SAMPLES)) < RATE
    present = source.random(CANARIES) < 0.5
    scores = SIGMA * source.standard_normal((STEPS, CANARIES)) + (drawn[:, -CANARIES:] & present)
    return Seen(
        residuals=SIGMA * CLIP_NORM * source.standard_normal((STEPS, 611)),
        sums=10 * source.standard_normal((STEPS, 611)) + 5,
        scores=scores, drawn=drawn, present=present, tensors=TENSORS, privacy=PRIVACY,
    )  # fmt: skip


def alarms(seen: Seen, level=1e-4) -> set[str]:
    return {finding.name for finding in direct.findings(seen) if not finding.p >= level}


def test_p_values_of_true_claims_are_uniform_or_larger():
    """Kolmogorov-Smirnov's statistic of p-values that lie below the uniform law, over 300 games, at a level of 1e-5 each.

    The shift of present canaries is one-sided, and what is the smallest of several is Bonferroni's: both may only be large.
    """
    games = [direct.findings(made_up(seed)) for seed in range(300)]
    for findings in zip(*games, strict=True):
        p = [finding.p for finding in findings]
        assert stats.kstest(p, "uniform", alternative="greater").pvalue > 1e-5, findings[0].name
        if findings[0].name in ("noise", "noise, between steps", "clipped sum", "clipped sum, between steps"):
            assert stats.kstest(p, "uniform").pvalue > 1e-5, findings[0].name
    assert sum(bool(alarms(made_up(seed))) for seed in range(300)) <= 3


def changed(seen: Seen, **fields) -> Seen:
    return dataclasses.replace(seen, **fields)


def scaled_by_the_step(seen: Seen) -> Seen:
    return changed(seen, residuals=seen.residuals * np.linspace(0.8, 1.18, STEPS)[:, None])


def one_tensor_without_noise(seen: Seen) -> Seen:
    residuals = seen.residuals.copy()
    residuals[:, TENSORS["gain"]] = 0
    return changed(seen, residuals=residuals)


def copied(seen: Seen) -> Seen:
    residuals = seen.residuals.copy()
    residuals[:, TENSORS["b.weight"]] = residuals[:, TENSORS["a.weight"]]
    return changed(seen, residuals=residuals)


def repeated_step(seen: Seen) -> Seen:
    residuals = seen.residuals.copy()
    residuals[13] = residuals[4]
    return changed(seen, residuals=residuals)


def two_halves(seen: Seen) -> Seen:
    residuals = seen.residuals.copy()
    residuals[:, 150:300] = -residuals[:, :150]
    return changed(seen, residuals=residuals)


def now_more_now_less(seen: Seen) -> Seen:
    signs = np.where(np.arange(STEPS) % 2, 1, -1)[:, None]
    return changed(seen, residuals=seen.residuals + 0.05 * signs * seen.sums)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda seen: changed(seen, residuals=0.95 * seen.residuals), {"noise"}),
        (lambda seen: changed(seen, residuals=1.05 * seen.residuals), {"noise"}),
        (one_tensor_without_noise, {"noise, worst tensor"}),
        (scaled_by_the_step, {"noise, between steps"}),
        (repeated_step, {"noise of two steps"}),
        (copied, {"noise of two tensors"}),
        (two_halves, {"noise of two tensors"}),
        (lambda seen: changed(seen, residuals=seen.residuals + 0.02 * seen.sums), {"clipped sum"}),
        (lambda seen: changed(seen, residuals=seen.residuals - 0.02 * seen.sums), {"clipped sum"}),
        (now_more_now_less, {"clipped sum, between steps"}),
        (lambda seen: changed(seen, scores=0.9 * seen.scores), {"noise, absent canaries"}),
        (lambda seen: changed(seen, scores=seen.scores + 0.2 * seen.present), {"shift of present canaries"}),
        (lambda seen: changed(seen, drawn=np.random.default_rng(1).random((STEPS, SAMPLES)) < 0.35), {"sampling rate"}),
        (lambda seen: changed(seen, drawn=np.sort(seen.drawn, 1)), {"inclusions, variance"}),
        (lambda seen: changed(seen, drawn=np.arange(SAMPLES) % 10 < np.full((STEPS, 1), 3)), {"batch sizes, variance"}),
        (lambda seen: changed(seen, privacy=PRIVACY | {"epsilon_pld": 0.99 * PRIVACY["epsilon_pld"]}), {"epsilon, counted"}),
        (lambda seen: changed(seen, privacy=PRIVACY | {"clip_norm": 1.9}), {"noise"}),
        (lambda seen: changed(seen, residuals=np.full_like(seen.residuals, np.nan)), {"noise", "clipped sum"}),
    ],
)  # fmt: skip
def test_every_test_sees_what_it_is_there_for(change, expected):
    assert not alarms(made_up(7))
    assert expected <= alarms(change(made_up(7)))


def test_mean_and_judge_of_a_game():
    seen = made_up(3)
    found = {finding.name: finding for finding in direct.findings(seen)}
    drawn = seen.drawn[:, -CANARIES:] & seen.present
    assert found["shift of present canaries"].audited == pytest.approx(seen.scores[drawn].mean())
    assert found["sampling rate"].audited == pytest.approx(seen.drawn.mean())
    judged, epsilons = bounds.bounds(seen)
    assert judged.p == 1  # a claim of mu 9 is far above what twenty steps give
    assert 0 < judged.audited < 9
    assert epsilons["steinke"] < epsilons["mu-gdp"]
