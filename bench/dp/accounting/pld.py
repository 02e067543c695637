"""Epsilon by the privacy loss distribution of T steps of the Poisson-subsampled Gaussian mechanism.

An upper bound, as Google's dp-accounting has it (Sommer et al. 2019; Doroshenko et al. 2022, arXiv 2207.04380), whose grid
follows the mechanism: its spacing starts at a hundredth of the standard deviation of a step's loss and is halved until
epsilon stays where it is. dp-accounting's fixed spacing of 1e-4 takes 9 GB at noise multiplier 0.01, no end at a million
steps without sampling, and means nothing where losses are smaller than it; tests hold both against each other.
"""

from bench.dp.accounting.composed import Step
from bench.dp.accounting.composed import epsilon as of_one_side
from bench.dp.accounting.onestep import Gaussians, Pair, TooFine, on_grid

# The spacing is fine enough once halving it moves epsilon by less, relatively; a third of that is then left, as the error
# goes with the square of the spacing.
RELATIVE = 2e-5
# Epsilon below which nobody looks, so that no grid is refined for it.
ABSOLUTE = 1e-9


def epsilon(gaussians: Gaussians, steps: int, delta: float) -> tuple[float, float]:
    """(epsilon, how far above the exact value it may lie, estimated from the last halving); never below it, never below 0."""
    spacing, best, moved = start(gaussians), None, 0.0
    for _ in range(60):
        try:
            found = _at(on_grid(gaussians, spacing), steps, delta)
        except TooFine:
            if best is not None:
                break
            spacing *= 2
            continue
        if best is not None:
            moved = best - found
            best = min(best, found)
            if moved <= RELATIVE * best + ABSOLUTE:
                break
        best = found if best is None else best
        spacing /= 2
    return best, max(moved, 0) / 3


def start(gaussians: Gaussians) -> float:
    """A first spacing, which the one step's grid affords."""
    return max(gaussians.scale / 100, gaussians.range / 2**16)


def _at(pair: Pair, steps: int, delta: float) -> float:
    """The larger of what a record's removal and its addition reveal."""
    return max(
        of_one_side(Step(side.first, side.spacing, side.upper), side.lost, steps, delta) for side in (pair, pair.reversed)
    )
