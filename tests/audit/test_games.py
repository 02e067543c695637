"""Audits of the shipped code, as it is and under every sabotage."""

from functools import cache

import pytest
import torch

from bench.audit import game, table
from bench.audit.audit import HONEST, Audit, audit
from bench.audit.command import honest_seeds
from bench.audit.sabotage import SABOTAGES
from bench.dp.gradients import ENGINES

# What has to see a sabotage, whatever else does.
SEEN_BY = {
    "no noise": "noise",
    "noise x 0.9": "noise",
    "one layer without noise": "noise, worst tensor",
    "same noise at every step": "noise of two steps",
    "same noise in every tensor": "noise of two tensors",
    "clipping off": "shift of present canaries",
    "clip norm x 1.1": "clipped sum",
    "clipping the batch's mean": "clipped sum",
    "views clipped one by one": "shift of present canaries",
    "scaling by the actual batch": "noise, between steps",
    "fixed-size batches": "batch sizes, variance",
    "shuffled epochs": "inclusions, variance",
    "steps before a resume forgotten": "epsilon, counted",
}
played = cache(audit)


@pytest.mark.parametrize("engine", ENGINES)
def test_an_honest_engine_passes(engine):
    found = played(engine, HONEST, 1)
    assert not found.alarms
    assert found.finding("epsilon, counted").audited == pytest.approx(8, rel=1e-4)
    assert 2 < found.epsilons["mu-gdp"] < found.epsilon  # canaries are seen, and not more than is claimed


@pytest.mark.parametrize("case", SABOTAGES)
def test_a_sabotage_alarms(case):
    found = played("opacus" if case == "views clipped one by one" else "fast", case, 1)
    assert SEEN_BY[case] in {finding.name for finding in found.alarms}


def test_a_sabotage_ends_with_its_context():
    for sabotage in SABOTAGES.values():
        with sabotage():
            pass
    test_an_honest_engine_passes("fast")
    again = audit("fast", HONEST, 1)
    assert again == played("fast", HONEST, 1)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
@pytest.mark.parametrize("case", [HONEST, "noise x 0.9", "clip norm x 1.1", "same noise at every step"])
def test_audits_on_a_gpu(case):
    assert bool(audit("fast", case, 1, "cuda").alarms) == (case != HONEST)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("case", SABOTAGES)
def test_a_sabotage_alarms_in_every_seed(case, seed):
    assert audit("fast", case, seed).alarms


@pytest.mark.long
@pytest.mark.parametrize("engine", ENGINES)
def test_of_a_hundred_honest_games_one_alarms_at_most(engine):
    alarmed = [seed for seed in honest_seeds(engine, 100) if audit(engine, HONEST, seed).alarms]
    assert len(alarmed) <= 1, alarmed


def test_a_canarys_gradient_is_its_column():
    """Nearly all of it, so that a clipped one has length C there; an absent canary is an image that adds nothing."""
    torch.manual_seed(0)  # of the network's weights
    made = game.make(0)
    network = game.Network().double()
    image = made.dataset.normalise(made.dataset.train_images[game.OTHERS + 5], torch.float64)
    loss = torch.nn.functional.cross_entropy(network(image[None]), made.dataset.train_labels[game.OTHERS + 5, None])
    gradients = torch.autograd.grad(loss, tuple(network.parameters()))
    whole = torch.cat([gradient.flatten() for gradient in gradients]).norm()
    column = gradients[-1][:, game.SIZE**2 + 5].norm()
    assert column > 0.99 * whole
    assert column > 10 * game.CLIP_NORM
    assert made.absent.sum() == (~made.present).sum()
    assert 800 < made.present.sum() < 1200  # nine deviations of 2,000 coins


def finding(name, p, audited=1.0):
    return table.Finding(name=name, claimed=1, audited=audited, p=p)


def made_up(case, p, seed=0) -> Audit:
    findings = [finding("noise", p, 0.9), finding("shift of present canaries", 0.5), finding("epsilon, counted", 1.0, 8.0)]
    bounds = {"mu-gdp": 5.0 + seed, "steinke": 1.0, "clopper-pearson": 4.0}
    return Audit(engine="fast", case=case, seed=seed, epsilon=8.0, findings=findings, epsilons=bounds)


def test_a_row_for_every_case():
    found = table.table([made_up(HONEST, 0.5), made_up("noise x 0.9", 1e-9), made_up("noise x 0.9", 0.5, 1)])
    assert list(found["verdict"]) == ["passed", "missed"]
    assert list(found["alarms"]) == [0, 1]
    assert list(found["test"]) == ["noise", "noise"]
    assert list(found["epsilon_mu_gdp"]) == [5.0, 5.5]
    assert not set(found.columns) ^ set(table.COLUMNS)
    for line in [*table.lines(found), *table.details(made_up(HONEST, 1e-9))]:
        assert len(line) <= 80


def test_verdicts_are_tests_themselves():
    assert table.verdict("x", 20, 20) == "caught"
    assert table.verdict("x", 19, 20) == "missed"
    assert table.verdict(HONEST, 0, 1) == "passed"
    assert table.verdict(HONEST, 1, 1) == "alarm"
    assert table.verdict(HONEST, 2, 100) == "passed"  # as many or more have a probability of 26 %
    assert table.verdict(HONEST, 5, 100) == "alarm"
    assert made_up(HONEST, float("nan")).alarms
