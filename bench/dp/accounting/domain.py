"""What the accountants take: numbers of a mechanism that exists, and for which the answer is exact enough and at hand."""

import math

from bench import BenchError

# (smallest, largest) noise multiplier, most steps, smallest delta. Within PLD's, a ledger took 5 s and 1.1 GB at most on one
# core, measured at the corners and some 150 random places (tests allow 60 s and 2 GB); within RDP's, half a second.
NOISE = {"rdp": (0.01, 1e6), "pld": (0.05, 1e4)}
STEPS = {"rdp": 10**9, "pld": 10**6}
DELTA = {"rdp": 1e-100, "pld": 1e-12}
RATE = 1e-9
# Closer to 1 the losses of a step cannot be told from one another in double precision.
NEAR_ONE = 1e-6


class Beyond(BenchError):
    """A mechanism that exists, beyond what an accountant computes; another one may reach it."""


def check(accountant: str, noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> None:
    """BenchError for what no mechanism has; Beyond, with the way out, for what the accountant does not compute."""
    mechanism(noise_multiplier, sample_rate, steps, delta)
    name, other = accountant.upper(), ""
    if accountant == "pld" and _reached("rdp", noise_multiplier, steps, delta):
        other = " (RDP goes further: accountant: rdp)"
    low, high = NOISE[accountant]
    if noise_multiplier and not low <= noise_multiplier <= high:
        raise Beyond(f"{name} not computed: beyond noise multipliers from {low:g} to {high:g}, {noise_multiplier:g}{other}")
    if sample_rate < RATE:
        raise Beyond(f"{name} not computed: beyond sample rates from {RATE:g} to 1, {sample_rate:g}; take a larger batch")
    if steps > STEPS[accountant]:
        raise Beyond(f"{name} not computed: beyond {STEPS[accountant]:,} steps, {steps:,}{other}")
    if delta < DELTA[accountant]:
        raise Beyond(f"{name} not computed: beyond deltas from {DELTA[accountant]:g}, {delta:g}{other}")


def _reached(accountant: str, noise_multiplier: float, steps: int, delta: float) -> bool:
    low, high = NOISE[accountant]
    return (
        (low <= noise_multiplier <= high or not noise_multiplier)
        and steps <= STEPS[accountant]
        and delta >= DELTA[accountant]
    )


def mechanism(noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> None:
    """BenchError unless there is such a mechanism and such a delta; nan is refused like any other."""
    if not 0 <= noise_multiplier < math.inf:
        raise BenchError(f"noise multiplier {noise_multiplier:g}: a number from 0 is expected; 0 is no noise, epsilon inf")
    if not 0 < sample_rate <= 1:
        raise BenchError(f"sample rate {sample_rate:g}: a number above 0 and up to 1 is expected, batch size over data")
    if not (steps >= 0 and steps == int(steps)):
        raise BenchError(f"steps {steps}: a whole number from 0 is expected, empty batches included")
    if not 0 < delta < 1:
        raise BenchError(f"delta {delta:g}: a number between 0 and 1 is expected; take one far below 1 / number of samples")


def rounded(sample_rate: float) -> float:
    """The rate or, within NEAR_ONE of it, 1: more sampling spends more, so that what is said stays an upper bound."""
    return 1.0 if sample_rate > 1 - NEAR_ONE else sample_rate


def word_on_delta(delta: float, records: int) -> str:
    """Empty, or why `delta` says little for so many records: releasing one of them at random would satisfy it."""
    if delta * records < 1:
        return ""
    return f"delta {delta:g} is not below 1/{records:,}: publishing one record at random would meet it; take a smaller delta"
