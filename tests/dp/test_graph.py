"""Replayed sums are those of the engine, whatever changed between two replays; a fake graph shows it on a CPU."""

import copy
import math

import pytest
import torch

from bench.dp.fast import Fast
from bench.dp.graph import Captured
from tests.dp.test_gradients import batch_of, network_of, optimizer_of


class Fake:
    """A graph as a GPU's: what is computed anew goes to the same memory every time."""

    made = 0

    def __init__(self, function):
        Fake.made += 1
        function()
        self.function, self.outputs = function, [output.clone() for output in function()]

    def replay(self):
        for kept, output in zip(self.outputs, self.function(), strict=True):
            kept.copy_(output)
        return self.outputs


@pytest.fixture(autouse=True)
def none_made(monkeypatch):
    monkeypatch.setattr(Fake, "made", 0)


def pair(graph=Fake, device="cpu", dtype=torch.float64):
    """(engine, optimiser) as they are, and of a copy with graphs."""
    engines = []
    for captured in (False, True):
        network = network_of("resnet9-w8", "scalenorm", dtype).to(device)
        optimizer = optimizer_of(network, 0.5)
        engine = Fast(network, optimizer)
        engines.append((Captured(engine, graph) if captured else engine, optimizer))
    return engines


def step(engine, optimizer, batches):
    """(losses, sums, norms) of a step over physical batches (images, labels, mask), then taken."""
    optimizer.start_step()
    losses = [engine.accumulate(*batch) for batch in batches]  # read when all have run
    found = [*losses, *(p.summed_grad.clone() for p in optimizer.params), *optimizer.norms]
    optimizer.finish_step(1)
    return found


def batches(seed, n=4, spoil=None):
    """Two physical batches of n samples, the second padded by one."""
    torch.manual_seed(seed)
    images, labels = torch.randn(2 * n, 1, 3, 16, 16, dtype=torch.float64), torch.randint(0, 10, (2 * n,))
    if spoil is not None:
        images[1, 0, 0, 0, 0] = spoil
    mask = torch.ones(2 * n, dtype=torch.float64)
    mask[-1 - seed % 2 :] = 0
    return list(zip(images.split(n), labels.split(n), mask.split(n), strict=True))


def same(found, expected):
    assert len(found) == len(expected)
    assert all(torch.equal(a.nan_to_num(-1.0), b.nan_to_num(-1.0)) for a, b in zip(found, expected, strict=True))


def test_steps_are_those_of_the_engine():
    """Other images, masks, weights, a sample without a finite gradient, another shape and back."""
    (plain, optimizer), (captured, other) = pair()
    for seed, n, spoil in ((0, 4, None), (1, 4, math.nan), (2, 3, None), (3, 4, math.inf), (4, 3, None), (5, 4, None)):
        given = batches(seed, n, spoil)
        same(step(captured, other, given), step(plain, optimizer, given))
    assert Fake.made == 2
    assert all(torch.equal(p, q) for p, q in zip(optimizer.params, other.params, strict=True))


def test_a_batch_without_a_mask_is_a_shape_of_its_own():
    (plain, optimizer), (captured, other) = pair()
    images, labels = batch_of(3, 1)
    given = [(images, labels), (images, labels, torch.tensor([1.0, 0, 1])), (images, labels), (images + 1, labels)]
    same(step(captured, other, given), step(plain, optimizer, given))
    assert Fake.made == 1


def test_restored_weights_are_those_that_a_replay_sees():
    (plain, optimizer), (captured, other) = pair()
    state = copy.deepcopy(captured.engine.network.state_dict())
    first = batches(0)
    before = step(plain, optimizer, first)
    step(captured, other, first)
    captured.engine.network.load_state_dict(state)
    same(step(captured, other, first), before)


def test_norms_and_losses_outlive_the_next_replay():
    captured, optimizer = pair()[1]
    step(captured, optimizer, batches(0))
    optimizer.start_step()
    first, second = batches(1)
    loss = captured.accumulate(*first)
    told, kept = optimizer.norms[0].clone(), loss.clone()
    captured.accumulate(*second)
    assert torch.equal(optimizer.norms[0], told)
    assert not torch.equal(optimizer.norms[0], optimizer.norms[1])
    assert torch.equal(loss, kept)


def test_what_cannot_be_captured_runs_as_it_is_and_is_told_once():
    def refuse(function):
        function()
        raise RuntimeError("operation not permitted when stream is capturing")

    (plain, optimizer), (captured, other) = pair(refuse)
    given = batches(0)
    with pytest.warns(UserWarning, match="without a CUDA graph, which could not be captured: operation not") as told:
        same(step(captured, other, given), step(plain, optimizer, given))
        same(step(captured, other, given), step(plain, optimizer, given))
    assert len(told) == 1


def test_out_of_memory_forgets_the_graphs(monkeypatch):
    captured, optimizer = pair()[1]
    step(captured, optimizer, batches(0))
    assert len(captured.graphs) == 1

    def full(*_):
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(captured.engine, "accumulate", full)
    optimizer.start_step()
    with pytest.raises(torch.OutOfMemoryError):
        captured.accumulate(*batches(0, 5)[0])  # a new shape
    assert not captured.graphs
    monkeypatch.undo()
    step(captured, optimizer, batches(1))
    assert len(captured.graphs) == 1


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
def test_on_a_gpu(recwarn):
    from bench.dp.graph import CudaGraph

    (plain, optimizer), (captured, other) = pair(CudaGraph, "cuda")
    for seed, spoil in ((0, None), (1, math.nan), (2, None)):
        given = [tuple(tensor.cuda() for tensor in batch) for batch in batches(seed, 4, spoil)]
        found, expected = step(captured, other, given), step(plain, optimizer, given)
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, equal_nan=True, rtol=1e-10, atol=1e-12)
    if not captured.works:
        pytest.skip(f"this device captures no graphs: {recwarn.list[-1].message}")
    assert [graph is not None for graph in captured.graphs.values()] == [True]
