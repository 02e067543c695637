"""Privacy spent by T steps of the Poisson-subsampled Gaussian mechanism, and the noise that meets a budget.

Adjacency is zero-out (Kairouz et al. 2021, arXiv 2103.00039): the number N of records, the rate q = B / N and the expected
batch B are public, and neighbouring data sets differ in one record, which in one of them contributes nothing. RDP and PLD
give the same numbers for add-or-remove-one, where N itself would be private, which a rate of B / N denies. Where a record is
replaced by another, about twice the epsilon is spent: `epsilon_replace_one`.

Epsilon by RDP (`rdp`, Opacus' bound) and by PLD (`pld`, dp-accounting's method) are both upper bounds, and the smaller
counts: PLD, to five digits for usual runs. `domain` says for which numbers they are computed; beyond, they refuse in a
sentence. PLD's rounding is covered down to its smallest delta, 1e-12 in a million steps: `composed` tilts the sums, and
tests hold the exact Gaussian there. Where a grid cannot be halved further, PLD is looser, and still a bound.
"""

from bench.dp.accounting.bounds import ACCOUNTANTS, epsilon_pld, epsilon_rdp, epsilon_replace_one, ledger
from bench.dp.accounting.calibration import SIGMA_TOLERANCE, calibrate, reach
from bench.dp.accounting.domain import Beyond, word_on_delta

__all__ = [
    "ACCOUNTANTS",
    "SIGMA_TOLERANCE",
    "Beyond",
    "calibrate",
    "epsilon_pld",
    "epsilon_rdp",
    "epsilon_replace_one",
    "ledger",
    "reach",
    "word_on_delta",
]
