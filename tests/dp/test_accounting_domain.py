"""Where the accountants answer, how long that takes, what they refuse, and what they say of published runs."""

import csv
import itertools
import math
import subprocess
import sys
import time
from fractions import Fraction

import pytest

from bench import ROOT, BenchError
from bench.commands import runs as commands
from bench.dp import accounting
from bench.dp.accounting import domain, pld
from bench.training.recipe import privacy_of

SIGMAS, RATES, STEPS, DELTAS = (0.05, 0.7, 1e4), (1e-6, 0.02, 1.0), (1, 20_000), (1e-12, 1e-5, 0.1)
# Corners and, last, the longest found: where a step's loss is mostly one value and seldom a large one.
CORNERS = [
    *itertools.product((0.05, 1e4), (1e-9, 1.0), (1, 10**6), (1e-12,)),
    (0.05, 0.1, 10**6, 1e-12),
    (1.0, 1e-6, 10**6, 1e-9),
    (1.0, 1e-4, 10**6, 1e-12),
    (0.05, 1e-3, 10, 1e-5),
]


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.long) if n == "pld" else n for n in accounting.ACCOUNTANTS]
)
def test_more_steps_less_noise_and_smaller_deltas_spend_more(name):
    """On a grid; to what PLD may lie above the exact value, and twice that where neighbours' grids differ."""

    def no_less(larger: float, smaller: float) -> bool:
        return larger >= smaller * (1 - 2 * pld.RELATIVE) - pld.ABSOLUTE

    spent = accounting.ACCOUNTANTS[name]
    found = {}
    for key in itertools.product(SIGMAS, RATES, STEPS, DELTAS):
        found[key] = spent(*key)
        assert found[key] >= 0
    for (sigma, rate, steps, delta), epsilon in found.items():
        for sign, axis, at in ((-1, SIGMAS, 0), (1, RATES, 1), (1, STEPS, 2), (-1, DELTAS, 3)):
            key = [sigma, rate, steps, delta]
            place = axis.index(key[at]) + sign
            if 0 <= place < len(axis):
                key[at] = axis[place]
                assert no_less(found[tuple(key)], epsilon), (key, axis)
    if name == "pld":
        for key, epsilon in found.items():
            assert no_less(accounting.epsilon_rdp(*key), epsilon), key
        assert any(value > 0 for value in found.values())


@pytest.mark.parametrize("spent", [*itertools.product(SIGMAS, RATES, STEPS), (0.05, 1e-3, 10)], ids=str)
def test_no_test_detects_more_than_epsilon_and_delta_allow(spent):
    """power(alpha) <= delta + e^epsilon alpha (Kairouz et al. 2015), and no test is worse than guessing."""
    detected = accounting.ledger(*spent, 1e-5)["tpr_at_1_percent_fpr"]
    bounds = [delta + 0.01 * math.exp(min(accounting.epsilon_pld(*spent, delta), 100)) for delta in DELTAS]
    assert 0.01 <= detected <= min(1, *bounds) + 1e-4  # of the curve's own grid


def test_a_ledger_knows_no_privacy_and_nothing_done():
    assert accounting.ledger(0.0, 0.1, 3, 1e-5) == {
        "epsilon_rdp": math.inf,
        "epsilon_pld": math.inf,
        "mu": math.inf,
        "mu_regret": 0.0,
        "tpr_at_1_percent_fpr": 1.0,
    }
    assert set(accounting.ledger(1.0, 0.1, 0, 1e-5).values()) == {0.0, 0.01}
    # the noise drowns next to nothing: what either says is that all tests succeed
    assert accounting.ledger(0.05, 1.0, 10**6, 1e-5)["mu"] == math.inf
    assert accounting.ledger(0.05, 1.0, 10**6, 1e-5)["tpr_at_1_percent_fpr"] == 1


def test_a_ledger_costs_little_and_nothing_again():
    recipe, spent = {"delta": 1e-5}, (4096 / 50000, 2.5617, 2468)
    first = time.process_time()
    found = privacy_of(recipe, *spent)
    taken = time.process_time() - first
    assert taken < 1.5
    assert list(found) == ["epsilon_rdp", "epsilon_pld", "mu", "mu_regret", "tpr_at_1_percent_fpr"]
    found["mu"] = None  # a caller's copy
    first = time.process_time()
    assert privacy_of(recipe, *spent)["mu"] > 0
    assert time.process_time() - first < 0.01


@pytest.mark.parametrize(
    "corner", [*(pytest.param(corner, marks=pytest.mark.long) for corner in CORNERS[:-1]), CORNERS[-1]], ids=str
)
def test_corners_take_a_minute_and_two_gigabytes_at_most(corner):
    code = (
        "import resource, sys, time; from bench.dp import accounting;"
        "before = time.process_time(); found = accounting.ledger(*map(eval, sys.argv[1:]));"
        "print(time.process_time() - before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20);"
        "assert 0 <= found['epsilon_pld'] <= found['epsilon_rdp'] * (1 + 1e-4)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, corner)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    seconds, gigabytes = map(float, done.stdout.split())
    assert seconds < 60
    assert gigabytes < 2


@pytest.mark.parametrize(
    ("spent", "says"),
    [
        ((math.nan, 0.1, 1, 1e-5), "noise multiplier nan: a number from 0"),
        ((math.inf, 0.1, 1, 1e-5), "noise multiplier inf"),
        ((-1.0, 0.1, 1, 1e-5), "noise multiplier -1"),
        ((1.0, 0.0, 1, 1e-5), "sample rate 0: a number above 0"),
        ((1.0, 1.5, 1, 1e-5), "sample rate 1.5"),
        ((1.0, math.nan, 1, 1e-5), "sample rate nan"),
        ((1.0, 0.1, -1, 1e-5), "steps -1: a whole number"),
        ((1.0, 0.1, 1, 0.0), "delta 0: a number between"),
        ((1.0, 0.1, 1, 1.0), "delta 1: a number between"),
        ((1.0, 0.1, 1, math.nan), "delta nan"),
        ((1e300, 0.1, 1, 1e-5), "not computed: beyond noise multipliers"),
        ((1e-3, 0.1, 1, 1e-5), "not computed: beyond noise multipliers"),
        ((1.0, 1e-10, 1, 1e-5), "not computed: beyond sample rates"),
        ((1.0, 0.1, 10**10, 1e-5), "not computed: beyond .* steps"),
        ((1.0, 0.1, 1, 1e-101), "not computed: beyond deltas"),
    ],
)
def test_what_is_no_mechanism_or_beyond_is_refused(spent, says):
    for accountant in (*accounting.ACCOUNTANTS.values(), accounting.epsilon_replace_one, accounting.ledger):
        with pytest.raises(BenchError, match=says):
            accountant(*spent)


def test_pld_beyond_its_domain_names_the_way_out():
    for spent in ((0.03, 0.1, 1, 1e-5), (1.0, 0.1, 1, 1e-16), (100.0, 0.1, 10**7, 1e-5)):
        with pytest.raises(accounting.Beyond, match=r"^PLD not computed: beyond .* \(RDP goes further: accountant: rdp\)$"):
            accounting.epsilon_pld(*spent)
        assert 0 < accounting.epsilon_rdp(*spent) < math.inf


def test_the_verb_names_the_smaller_bound(capsys):
    commands.epsilon(None, 2.561, 4096 / 50000, 2468, 1e-5)
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "Both are upper bounds, so the smaller counts: epsilon 7.99898569, by PLD."
    assert lines[3:] == [
        "mu of Gaussian DP 1.6705, regret 0.0050",
        "Any membership test with 1 % false positives detects at most 24.78 %.",
    ]
    commands.epsilon(None, 1.0, 0.1, 1, 1e-16)
    out = capsys.readouterr().out
    assert "PLD not computed: beyond deltas from 1e-12, 1e-16" in out
    assert "inf" not in out
    commands.epsilon(None, 1.0, 0.1, 1, 0.5)
    assert "-" not in capsys.readouterr().out
    with pytest.raises(BenchError, match=r"RDP not computed.*; PLD not computed"):
        commands.epsilon(None, 1e300, 0.1, 1, 1e-5)


def test_a_delta_that_says_little_is_told():
    assert accounting.word_on_delta(1e-5, 50_000) == ""
    assert accounting.word_on_delta(2e-5, 50_000).startswith("delta 2e-05 is not below 1/50,000:")


def test_the_safe_side_of_rates_next_to_one():
    assert domain.rounded(1 - 1e-7) == 1
    assert domain.rounded(0.999) == 0.999
    assert accounting.epsilon_pld(1.0, 1 - 1e-7, 10, 1e-5) == accounting.epsilon_pld(1.0, 1.0, 10, 1e-5)


def test_published_mu_is_what_the_published_noise_spends():
    with open(ROOT / "results/reference/published.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    known = [row for row in rows if row["sigma"]]
    assert len(known) == 29
    for row in rows:
        given = [bool(row[name]) for name in ("sigma", "q", "T", "mu", "noise_source")]
        assert all(given) or not any(given), row["id"]
    for row in known:
        assert row["delta"], row["id"]
        spent = float(row["sigma"]), float(Fraction(row["q"])), int(row["T"]), float(row["delta"])
        # written to three digits; the grid's part is 1e-4
        assert accounting.ledger(*spent)["mu"] == pytest.approx(float(row["mu"]), abs=6e-4), row["id"]
