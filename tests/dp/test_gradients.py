"""Every engine against the gradient of each sample alone, for every family and variant of the configuration."""

import copy
import gc
import itertools
import weakref

import pytest
import torch
from torch.nn.functional import cross_entropy

from bench import models
from bench.dp import fast, gradients
from bench.dp.gradients import ENGINES, NotPrivate
from bench.dp.optimizer import SLACK, Optimizer
from bench.dp.sampling import generator
from bench.plan import config, resolve
from bench.training.recipe import set_precision
from tests.factory import SMALL_ARCHS

CONFIG = config.load(config.ROOT / "config.yaml", local=False)
CONFIG["archs"] |= SMALL_ARCHS  # exactness does not depend on the width
CONFIG["variants"]["out"] = {"sites": {"out": "norm"}}
# every variant on one family; the kinds of site on the others, whose layers they meet
VARIANTS = [v for v in CONFIG["variants"] if v not in ("batch", "out")]
CASES = [
    *(("resnet9-w8", variant) for variant in VARIANTS),
    *(("wrn10-1", variant) for variant in ("baseline", "scalenorm", "on-both", "shared-norm", "scalar")),
    *(("resnet18-w8", variant) for variant in ("baseline", "scalenorm", "shared-norm", "out")),
    *((arch, "scalenorm") for arch in SMALL_ARCHS if arch not in ("resnet9-w8", "wrn10-1", "resnet18-w8")),
]
# Sums of some 1e5 products in float64 differ by rounding only: about sqrt(1e5) * 1.1e-16 relative.
EXACT = 1e-10


def network_of(arch, variant, dtype=torch.float64):
    network = models.build(resolve.model_of(CONFIG, arch, variant), 3, 10, generator(0, "weights")).to(dtype)
    torch.manual_seed(1)
    for p in network.parameters():  # norms and gains away from 1 and 0, where mistakes hide
        p.data.add_(0.1 * torch.randn_like(p))
    return network


def optimizer_of(network, clip_norm, sigma=0.0, batch=4.0, seed=0):
    names, parameters = zip(*network.named_parameters(), strict=True)
    return Optimizer(
        torch.optim.SGD(parameters, lr=1.0), noise_multiplier=sigma, max_grad_norm=clip_norm,
        expected_batch_size=batch, seed=seed, names=names,
    )  # fmt: skip


def batch_of(n, views, dtype=torch.float64):
    torch.manual_seed(n)
    return torch.randn(n, views, 3, 16, 16, dtype=dtype), torch.randint(0, 10, (n,))


def alone(network, images, labels):
    """Gradient of each sample by itself, (n, P): the definition."""
    parameters = [p for _, p in network.named_parameters()]
    rows = []
    for views, label in zip(images, labels, strict=True):
        loss = cross_entropy(network(views), label.repeat(len(views)))  # mean over the views
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)]))
    return torch.stack(rows)


def clipped_sum(gradients, clip_norm, added=1e-6):
    factors = (clip_norm / (gradients.norm(dim=1) + added)).clamp(max=1)
    return factors @ gradients


def summed(network, engine_class, images, labels, clip_norm, split):
    optimizer = optimizer_of(network, clip_norm)
    engine = engine_class(network, optimizer)
    optimizer.start_step()
    loss = sum(engine.accumulate(i, y).item() for i, y in zip(images.split(split), labels.split(split), strict=True))
    assert not any(p.summed_grad.requires_grad for p in optimizer.params)  # a graph would keep every batch in memory
    return torch.cat([p.summed_grad.flatten() for p in optimizer.params]), loss


@pytest.mark.parametrize("views", [1, 4])
@pytest.mark.parametrize(("arch", "variant"), CASES)
@pytest.mark.parametrize("engine", ENGINES)
def test_clipped_sum(engine, arch, variant, views):
    network = network_of(arch, variant)
    images, labels = batch_of(5, views)
    gradients = alone(network, images, labels)
    clip_norm = gradients.norm(dim=1).median().item()  # clips some samples and not others
    expected = clipped_sum(gradients, clip_norm)
    for split in (5, 2, 1):  # of the logical batch into physical ones
        found, loss = summed(copy.deepcopy(network), ENGINES[engine], images, labels, clip_norm, split)
        assert (found - expected).norm() < EXACT * expected.norm()
        assert loss == pytest.approx(
            sum(cross_entropy(network(v), y.repeat(views)).item() for v, y in zip(images, labels, strict=True))
        )


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("views", [1, 4])
@pytest.mark.parametrize(("arch", "variant"), CASES)
def test_clipped_sum_in_the_ways_of_a_gpu(arch, variant, views):
    network = network_of(arch, variant)
    images, labels = batch_of(5, views)
    gradients = alone(network, images, labels)
    clip_norm = gradients.norm(dim=1).median().item()
    expected = clipped_sum(gradients, clip_norm)
    found, _ = summed(network, ENGINES["fast"], images, labels, clip_norm, 2)
    assert (found - expected).norm() < EXACT * expected.norm()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
@pytest.mark.parametrize("views", [1, 4])
@pytest.mark.parametrize(("arch", "variant"), CASES)
def test_clipped_sum_on_a_gpu(arch, variant, views):
    network = network_of(arch, variant)
    images, labels = batch_of(5, views)
    gradients = alone(network, images, labels)
    clip_norm = gradients.norm(dim=1).median().item()
    expected = clipped_sum(gradients, clip_norm)
    found, _ = summed(network.cuda(), ENGINES["fast"], images.cuda(), labels.cuda(), clip_norm, 2)
    assert (found.cpu() - expected).norm() < EXACT * expected.norm()


@pytest.mark.parametrize("engine", ENGINES)
def test_norms_one_sample_at_a_time(engine):
    """A clip norm far below every norm turns the sum of one sample into its direction: its norm is then the clip norm."""
    network = network_of("resnet9-w8", "scalenorm")
    images, labels = batch_of(3, 1)
    for image, label in zip(images, labels, strict=True):
        found, _ = summed(copy.deepcopy(network), ENGINES[engine], image[None], label[None], 1e-3, 1)
        norm = alone(network, image[None], label[None]).norm().item()
        assert found.norm().item() == pytest.approx(1e-3 * norm / (norm + 1e-6), rel=EXACT)


@pytest.mark.parametrize("arch", ["resnet9-w8", "wrn10-1", "wrn10-1-orders"])
@pytest.mark.parametrize("engine", ENGINES)
def test_float32(engine, arch):
    network = network_of(arch, "scalenorm")
    images, labels = batch_of(5, 1)
    gradients = alone(network, images, labels)
    clip_norm = gradients.norm(dim=1).median().item()
    expected = clipped_sum(gradients, clip_norm)
    found, _ = summed(copy.deepcopy(network).float(), ENGINES[engine], images.float(), labels, clip_norm, 5)
    # rounding, and the margin by which factors stay below C
    assert (found.double() - expected).norm() < (1e-5 + SLACK * 2**-24) * expected.norm()


@pytest.mark.usefixtures("ways")
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("arch", ["resnet9-w8", "wrn10-1"])
def test_bf16_clips_as_exactly_as_float32(arch, engine):
    """The clipped gradient of one sample has the clip norm, though its activations carry 8 bits."""

    def built():
        network = network_of(arch, "scalenorm", torch.float32)
        network.forward = torch.autocast("cpu", torch.bfloat16)(network.forward)
        return network

    images, labels = batch_of(3, 2, torch.float32)
    for views, label in zip(images, labels, strict=True):
        network = built()
        found, _ = summed(built(), ENGINES[engine], views[None], label[None], 0.01, 1)
        assert found.dtype == torch.float32
        # never more, and less by the margins only: SLACK's 7.6e-6 and that of Gram norms
        assert 0.01 * (1 - 3e-5) < found.double().norm().item() <= 0.01
        # torch's own gradient differs in what it rounds to 8 bits: weight gradients, but not the outputs of norms
        (gradient,) = alone(network, views[None], label[None])
        assert (found / found.norm() - gradient / gradient.norm()).norm() < 2**-6


@pytest.mark.parametrize("engine", ["fast", "opacus"])
def test_norms_and_sums_are_never_tf32(engine, monkeypatch):
    """On a GPU tf32 would let a clipped gradient exceed the clip norm; the passes themselves may have it."""
    seen = []
    parts = [(fast._Tape, name) for name in ("receive", "squared_norms", "weighted_sums")]
    if engine == "opacus":
        parts = [(gradients.GradSampleHooks, "capture_backprops_hook"), (gradients, "squared_norms"), (gradients, "remove")]
    for owner, name in parts:
        real = getattr(owner, name)

        def watched(*arguments, name=name, real=real, **more):
            seen.append((name, torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32))
            return real(*arguments, **more)

        monkeypatch.setattr(owner, name, watched)
    network = network_of("resnet9-w8", "baseline")
    try:
        set_precision("tf32", network, torch.device("cuda"))
        summed(network, ENGINES[engine], *batch_of(2, 1), 1.0, 2)
        assert {name for name, *_ in seen} == {name for _, name in parts}
        assert {tuple(allowed) for _, *allowed in seen} == {(False, False)}
        assert torch.backends.cuda.matmul.allow_tf32
    finally:
        set_precision("float32", network, torch.device("cpu"))


@pytest.mark.parametrize("engine", ENGINES)
def test_zero_gradients_stay_zero(engine):
    network = network_of("resnet9-w8", "baseline")
    torch.nn.init.zeros_(network.head.weight)
    torch.nn.init.zeros_(network.head.bias)
    images, labels = batch_of(2, 1)
    found, _ = summed(network, ENGINES[engine], images, labels, 1.0, 2)
    others = found[: -network.head.bias.numel()]
    assert torch.isfinite(found).all()
    # a zero head passes no gradient below it: convolutions get exactly zero
    assert others[: network.conv1.conv.weight.numel()].abs().max() == 0


def test_not_private_is_every_engine_without_clipping():
    network = network_of("resnet9-w8", "scalenorm")
    images, labels = batch_of(5, 2)
    expected, _ = summed(copy.deepcopy(network), NotPrivate, images, labels, 1.0, 5)
    for engine in ENGINES.values():
        found, _ = summed(copy.deepcopy(network), engine, images, labels, 1e30, 2)
        assert (found - expected).norm() < EXACT * expected.norm()


def test_noise_has_the_right_size_and_an_empty_batch_is_a_step():
    network = network_of("resnet9-w8", "baseline")
    before = torch.cat([p.detach().flatten() for _, p in network.named_parameters()])
    optimizer = optimizer_of(network, clip_norm=1.5, sigma=2.0, batch=8.0)
    optimizer.start_step()
    optimizer.finish_step(1)
    moved = before - torch.cat([p.detach().flatten() for _, p in network.named_parameters()])
    n = moved.numel()
    # lr 1: the step is noise of standard deviation sigma * C / B; six standard errors of a standard deviation
    assert moved.std().item() == pytest.approx(2.0 * 1.5 / 8.0, rel=6 / (2 * n) ** 0.5)
    assert abs(moved.mean().item()) < 6 * (2.0 * 1.5 / 8.0) / n**0.5


@pytest.mark.parametrize("arch", ["resnet9-w8", "wrn10-1", "resnet18-w8"])
def test_fifty_steps_of_fast_and_opacus_end_in_the_same_parameters(arch):
    """Same weights, batches and noise in float64: NAdam keeps the engines' rounding, about 1e-15 a step, well below 1e-8."""
    ends = []
    for engine in ("fast", "opacus"):
        network = models.build(resolve.model_of(CONFIG, arch, "scalenorm"), 3, 10, generator(0, "weights")).double()
        parameters = [p for _, p in network.named_parameters()]
        optimizer = Optimizer(
            torch.optim.NAdam(parameters, lr=1e-3), noise_multiplier=1.0, max_grad_norm=1.0,
            expected_batch_size=4,
        )  # fmt: skip
        make = ENGINES[engine](network, optimizer)
        for step in range(50):
            images, labels = batch_of(step % 5 + 1, 1)
            optimizer.start_step()
            make.accumulate(images, labels)
            optimizer.finish_step(step)
        ends.append(torch.cat([p.detach().flatten() for p in parameters]))
    assert (ends[0] - ends[1]).norm() < 1e-8 * ends[1].norm()


@pytest.mark.parametrize("engine", [*ENGINES, "not-private"])
def test_a_mask_removes_samples(engine):
    network = network_of("resnet9-w8", "scalenorm")
    images, labels = batch_of(5, 2)
    expected, _ = summed(copy.deepcopy(network), ENGINES.get(engine, NotPrivate), images[:3], labels[:3], 0.5, 3)
    optimizer = optimizer_of(network, 0.5)
    make = ENGINES.get(engine, NotPrivate)(network, optimizer)
    optimizer.start_step()
    make.accumulate(images, labels, torch.tensor([1.0, 1, 1, 0, 0], dtype=torch.float64))
    found = torch.cat([p.summed_grad.flatten() for p in optimizer.params])
    assert (found - expected).norm() < EXACT * expected.norm()


def test_fast_leaves_the_layers_as_they_were_and_refuses_what_it_does_not_know():
    network = network_of("resnet9-w8", "shared-norm")
    images, labels = batch_of(2, 1)
    summed(network, ENGINES["fast"], images, labels, 1.0, 2)
    assert not any("forward" in vars(module) for module in network.modules())
    strange = torch.nn.Sequential(torch.nn.ConvTranspose2d(3, 4, 3))
    with pytest.raises(TypeError, match=r"no rule for ConvTranspose2d; add one to bench/dp/rules"):
        ENGINES["fast"](strange, optimizer_of(network, 1.0))


def test_out_of_memory_in_the_backward_pass_leaves_nothing_behind(monkeypatch):
    """A batch half as large finds the memory of the one that did not fit."""
    network = network_of("resnet9-w8", "scalenorm")
    seen, receive, conv = [], fast._Tape.receive, type(fast.RULES[torch.nn.Conv2d])
    gradient, calls = conv.input_gradient, itertools.count(1)

    def watched(self, use):
        seen.extend(weakref.ref(tensor) for tensor in (*use.saved, use.gradient))
        receive(self, use)

    def full(*arguments):
        if next(calls) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return gradient(*arguments)

    monkeypatch.setattr(fast._Tape, "receive", watched)
    monkeypatch.setattr(conv, "gram_is_cheaper", lambda *_: True)  # the tape keeps what two layers saw
    monkeypatch.setattr(conv, "input_gradient", full)
    with pytest.raises(torch.OutOfMemoryError):
        summed(network, ENGINES["fast"], *batch_of(2, 1), 1.0, 2)
    gc.collect()  # frames of the traceback
    assert len(seen) > 4
    assert not any(ref() is not None for ref in seen)


@pytest.mark.parametrize("engine", ["fast", "opacus"])
def test_after_running_out_of_memory_a_smaller_batch_is_summed_as_ever(engine, monkeypatch):
    network, (images, labels) = network_of("resnet9-w8", "shared-norm"), batch_of(5, 2)
    expected, _ = summed(copy.deepcopy(network), ENGINES[engine], images[:2], labels[:2], 0.5, 2)
    optimizer = optimizer_of(network, 0.5)
    make, calls = ENGINES[engine](network, optimizer), itertools.count(1)
    owner, name = (fast._Tape, "receive") if engine == "fast" else (gradients._Hooks, "rearrange_grad_samples")
    real = getattr(owner, name)

    def full(*arguments, **more):
        if next(calls) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(*arguments, **more)

    monkeypatch.setattr(owner, name, full)
    with pytest.raises(torch.OutOfMemoryError):
        make.accumulate(images, labels)
    optimizer.start_step()
    make.accumulate(images[:2], labels[:2])
    found = torch.cat([p.summed_grad.flatten() for p in optimizer.params])
    assert torch.equal(found, expected)
