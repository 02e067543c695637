"""A sample whose gradient is inf or NaN adds nothing, is counted, and leaves what the others add as it is."""

import copy
import math

import pytest
import torch

from bench.dp.gradients import ENGINES, NotPrivate
from bench.dp.optimizer import NonFiniteGradient
from bench.dp.rules import RULES, GramRule, remove
from tests.dp.rules.test_rules import LAYERS, case
from tests.dp.test_gradients import EXACT, alone, batch_of, clipped_sum, network_of, optimizer_of

# Between them they hold a layer of every rule; the large networks' cost model takes Gram norms in some, in others not.
NETWORKS = [("resnet9-w8", "scalenorm"), ("wrn10-1", "scalar"), ("resnet18-w8", "none")]
BAD = 2  # index of the sample that is spoilt
VALUES = [math.nan, math.inf, -math.inf, 1e38, 1e200]


def accumulated(network, engine, images, labels, clip_norm, split, masks=None):
    """(sum, sum of losses, norms of all samples) of a batch taken in physical batches of `split`."""
    optimizer = optimizer_of(network, clip_norm)
    engine = ENGINES[engine](network, optimizer)
    optimizer.start_step()
    masks = [None] * -(-len(images) // split) if masks is None else masks.split(split)
    parts = zip(images.split(split), labels.split(split), masks, strict=True)
    loss = sum(engine.accumulate(*part).item() for part in parts)
    return torch.cat([p.summed_grad.flatten() for p in optimizer.params]), loss, torch.cat(optimizer.norms)


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("views", [1, 3])
@pytest.mark.parametrize(("arch", "variant"), NETWORKS)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_poisoned_sample_adds_nothing(engine, arch, variant, views, value):
    network = network_of(arch, variant)
    images, labels = batch_of(5, views)
    images[BAD, -1, 0, 3, 3] = value  # one pixel of one view
    gradients = alone(network, images, labels)
    finite = gradients.norm(dim=1).isfinite()  # of some values only: float64 holds 1e38 squared
    assert finite.sum() >= 4
    assert finite[BAD] or not math.isfinite(value) or value == 1e200
    clip_norm = gradients[finite].norm(dim=1).median().item()
    expected = clipped_sum(gradients[finite], clip_norm)
    _, loss, _ = accumulated(copy.deepcopy(network), engine, images[finite], labels[finite], clip_norm, 5)
    for split in (5, 2, 1):
        found = accumulated(copy.deepcopy(network), engine, images.clone(), labels, clip_norm, split)
        assert (found[0] - expected).norm() < EXACT * expected.norm()
        assert found[1] == pytest.approx(loss, rel=EXACT)
        assert torch.equal(found[2].isfinite(), finite)
        torch.testing.assert_close(found[2][finite], gradients[finite].norm(dim=1), rtol=EXACT, atol=0)


@pytest.mark.parametrize("engine", ENGINES)
def test_values_that_overflow_in_float32_are_poison_too(engine):
    """1e38 is finite, what a convolution makes of it is not."""
    network = network_of("resnet9-w8", "none", torch.float32)
    images, labels = batch_of(4, 1, torch.float32)
    expected, loss, _ = accumulated(copy.deepcopy(network), engine, images[:3], labels[:3], 0.1, 3)
    images[3] = 1e38
    found = accumulated(copy.deepcopy(network), engine, images, labels, 0.1, 4)
    assert found[2].isfinite().tolist() == [True, True, True, False]
    # the same products, in a batch of another size: rounding of 2^-24 over sums of some 1e3 terms
    assert (found[0] - expected).norm() < 1e-5 * expected.norm()
    assert found[1] == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_all_samples_poisoned_sum_to_zero(engine):
    network = network_of("wrn10-1", "scalenorm")
    images, labels = batch_of(2, 1)
    found, loss, norms = accumulated(network, engine, images * math.nan, labels, 1.0, 2)
    assert found.abs().max() == 0
    assert loss == 0
    assert norms.isinf().all()


@pytest.mark.parametrize("engine", ENGINES)
def test_poison_that_only_pads_a_batch_is_not_counted(engine):
    network = network_of("resnet9-w8", "scalenorm")
    images, labels = batch_of(5, 1)
    expected, loss, _ = accumulated(copy.deepcopy(network), engine, images[:3], labels[:3], 0.5, 3)
    images[3:] = math.nan
    mask = torch.tensor([1.0, 1, 1, 0, 0], dtype=torch.float64)
    found = accumulated(network, engine, images, labels, 0.5, 5, mask)
    assert (found[0] - expected).norm() < EXACT * expected.norm()
    assert found[1] == pytest.approx(loss, rel=EXACT)
    assert found[2].isnan().tolist() == [False, False, False, True, True]
    assert not found[2].isinf().any()


def test_poison_that_only_pads_a_batch_does_not_stop_a_run_that_is_not_private():
    network = network_of("resnet9-w8", "baseline")
    images, labels = batch_of(3, 1)
    images[2] = math.nan
    optimizer = optimizer_of(network, 1.0)
    optimizer.start_step()
    NotPrivate(network, optimizer).accumulate(images, labels, torch.tensor([1.0, 1, 0], dtype=torch.float64))
    optimizer.finish_step(1)
    assert all(p.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("engine", ENGINES)
def test_a_private_step_goes_on(engine):
    network = network_of("resnet9-w8", "baseline")
    images, labels = batch_of(3, 1)
    images[1, 0, 0, 0, 0] = math.inf
    optimizer = optimizer_of(network, 1.0, sigma=1.0)
    before = [p.clone() for p in network.parameters()]
    optimizer.start_step()
    ENGINES[engine](network, optimizer).accumulate(images, labels)
    optimizer.finish_step(1)
    assert all(p.isfinite().all() and not torch.equal(p, q) for p, q in zip(network.parameters(), before, strict=True))


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_without_clipping_a_non_finite_sample_stops_the_step_and_leaves_the_model(value):
    network = network_of("resnet9-w8", "baseline")
    before = [p.clone() for p in network.parameters()]
    optimizer = optimizer_of(network, 1.0)
    engine = NotPrivate(network, optimizer)
    images, labels = batch_of(3, 1)
    images[1, 0, 0, 0, 0] = value
    optimizer.start_step()
    engine.accumulate(images, labels)
    with pytest.raises(NonFiniteGradient, match="the sum of the gradients is not finite"):
        optimizer.finish_step(1)
    assert all(torch.equal(p, q) for p, q in zip(network.parameters(), before, strict=True))


@pytest.mark.usefixtures("ways")
@pytest.mark.parametrize("views", [1, 3])
@pytest.mark.parametrize("where", ["x", "g", "both"])
@pytest.mark.parametrize(("make", "shape"), LAYERS)
def test_rules_keep_poison_within_its_sample(make, shape, where, views):
    """Norms of the other samples, and sums without the spoilt one, as if it were not there: by both ways of a rule."""
    layer, x, g, expected = case(make, shape, views)
    x = x.detach()
    if where != "g":
        x[BAD * views, 0] = math.nan
    if where != "x":
        g[(BAD + 1) * views - 1, 0] = math.inf
    rule = RULES[type(layer)]
    with torch.no_grad():
        _, saved = rule.forward(layer, x)
        factors = torch.rand(4, dtype=torch.float64)
        factors[BAD] = 0
        kept = factors != 0
        ways = [{p: factors @ remove(v.reshape(4, -1), factors) for p, v in rule.per_sample(layer, saved, g, 4)}]
        if isinstance(rule, GramRule):
            squares = rule.squared_norms(layer, saved, g, 4)
            assert not squares[BAD].isfinite()
            truth = sum(gradients.flatten(1).pow(2).sum(1) for gradients in expected)
            assert (squares / truth - 1)[kept].abs().max() < EXACT
            ways.append(dict(rule.weighted_sum(layer, saved, g, factors)))
    for found in ways:
        for p, gradients in zip(layer.parameters(), expected, strict=True):
            total = torch.einsum("n,n...->...", factors[kept], gradients[kept])
            assert (found[p].view_as(total) - total).norm() < EXACT * total.norm()
