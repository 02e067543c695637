"""Physical batches: their shapes, and how many samples a GPU has room for, the memory's reading being made up."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from bench import BenchError
from bench.training import loop, physical, recipe, trainer
from tests.training.test_checkpoint import kinds, small
from tests.training.test_loop import MACHINE, numbers, tiny  # noqa: F401
from tests.waits import Waits

GIB = 2**30


@pytest.mark.parametrize("most", [1, 7, 40, 100, 576, 10_000])
@pytest.mark.parametrize("expected", [1e-7, 1.0, 12.0, 64.0, 1000.0, 4096.0])
def test_few_shapes_hold_every_logical_batch(expected, most):
    sizes = physical.shapes(expected, most)
    assert 1 <= len(sizes) <= 4
    assert all(1 <= size <= most for size in sizes)
    draws = torch.arange(30_000).view(10_000, 1, 3)
    for n in {0, 1, round(expected), round(expected + 4 * math.sqrt(expected)), round(1.5 * expected) + 1}:
        batch = torch.arange(n)
        parts = list(physical.split(batch, draws[:n], most, sizes))
        assert {len(part) for part, _, _ in parts} <= set(sizes)
        kept = [part[mask.bool()] for part, _, mask in parts]
        assert torch.equal(torch.cat([*kept, batch[:0]]), batch)
        assert all(torch.equal(draw[mask.bool()], draws[i]) for (_, draw, mask), i in zip(parts, kept, strict=True))


def test_without_shapes_parts_are_equal_and_have_no_mask():
    parts = list(physical.split(torch.arange(100), None, 40))
    assert [len(part) for part, _, _ in parts] == [34, 33, 33]
    assert all(draw is mask is None for _, draw, mask in parts)
    assert list(physical.split(torch.arange(0), None, 40)) == []


@pytest.mark.parametrize(("expected", "percent"), [(256, 6.4), (1024, 3.2), (4096, 1.6)])
def test_padding_is_what_shapes_says(expected, percent):
    drawn = np.random.default_rng(0).binomial(50_000, expected / 50_000, 1000)
    sizes = physical.shapes(expected, 50_000)
    padded = sum(len(part) for n in drawn for part, _, _ in physical.split(torch.arange(n), None, 50_000, sizes))
    # standard error of the mean padding below unit / sqrt(12 * 1000) <= 1.2 samples of 4,096, 0.3 of 256: 0.12 points
    assert 100 * (padded / drawn.sum() - 1) == pytest.approx(percent, abs=0.4)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (torch.AcceleratorError("CUDA error: out of memory"), True),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried to"),
            True,
        ),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"), True),
        (RuntimeError("GET was unable to find an engine to execute this computation"), True),
        (torch.AcceleratorError("CUDA error: an illegal memory access was encountered"), False),
        (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`"), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"), False),
    ],
)
def test_a_lost_handle_halves_the_batch_and_other_errors_go_through(tiny, monkeypatch, error, expected):  # noqa: F811
    run, dataset = tiny
    machine = MACHINE | {"engine": "fast", "physical_batch": 17}
    real = trainer.Trainer._views

    def hungry(self, part, draws):
        if len(part) > 3:
            raise error
        return real(self, part, draws)

    monkeypatch.setattr(trainer.Trainer, "_views", hungry)
    monkeypatch.setattr(trainer, "FITS", {})
    if not expected:
        with pytest.raises(type(error)) as raised:
            loop.train(run, dataset, 1.5, machine)
        assert raised.value is error
        assert trainer.FITS == {}
        return
    record = loop.train(run, dataset, 1.5, machine)
    assert record["status"] == "completed"
    assert record["machine"]["physical_batch"] in (2, 3)
    monkeypatch.setattr(trainer.Trainer, "_views", lambda *_: (_ for _ in ()).throw(error))
    with pytest.raises(BenchError, match="smallest possible batch") as raised:
        loop.train(run, dataset, 1.5, machine)
    assert str(error) in str(raised.value)


@pytest.mark.parametrize("where", ["start_step", "zeros_like"])
def test_out_of_memory_before_the_first_sample_halves_as_well(tiny, monkeypatch, where):  # noqa: F811
    run, dataset = tiny
    made = trainer.Trainer(run, dataset, 1.5, MACHINE | {"engine": "fast"})
    target = trainer.Optimizer if where == "start_step" else torch
    real, calls = getattr(target, where), []

    def full(*arguments, **more):
        calls.append(1)
        if len(calls) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(*arguments, **more)

    before = made.physical
    monkeypatch.setattr(target, where, full)
    monkeypatch.setattr(trainer, "FITS", {})
    made.take_step()
    assert made.physical < before


@pytest.mark.parametrize("runs_per_gpu", [1, 2])
def test_room_is_what_one_sample_takes_of_what_is_free(monkeypatch, runs_per_gpu):
    steps, now = [], {"peak": 0}

    def step(samples):
        steps.append(samples)
        # the first one makes a handle of 1 GiB, which stays
        now["peak"] = samples * GIB // 4 + (GIB if len(steps) == 1 else 0)

    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda _: now.update(peak=0))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 2 * GIB)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: 2 * GIB + now["peak"])
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 5 * GIB)  # 3 of them unused
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (72 * GIB, 80 * GIB))
    device = torch.device("cuda")
    assert physical.room(step, device, 1000, runs_per_gpu) == int(0.8 * (75 if runs_per_gpu == 1 else 40) * 4)
    assert steps == [8, 8]
    assert physical.room(step, device, 100, 1) == 100  # no more than a logical batch needs
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (0, 80 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 2 * GIB)
    assert physical.room(step, device, 100, 1) == 1


def test_room_where_nothing_is_counted_or_not_even_the_probe_fits(monkeypatch):
    device = torch.device("cuda")

    def fails(error):
        def step(_):
            raise error

        return step

    monkeypatch.setattr(physical, "peak_of", lambda step, samples, device: step(samples) or 0)
    assert physical.room(lambda _: None, device, 100, 1) == 100
    assert physical.room(fails(torch.OutOfMemoryError("CUDA out of memory")), device, 100, 1) == 4
    with pytest.raises(RuntimeError, match="shapes"):
        physical.room(fails(RuntimeError("shapes cannot be multiplied")), device, 100, 1)


@pytest.mark.parametrize("engine", ["fast", "opacus"])
def test_the_probe_changes_nothing_but_the_batch_that_it_finds(tiny, monkeypatch, engine):  # noqa: F811
    """Where the memory is measured, on a GPU, a run has the numbers of one that was told the batch."""
    run, dataset = tiny
    run = dataclasses.replace(run, recipe=run.recipe | {"augmentation": "crop-flip"})
    told = loop.train(run, dataset, 1.5, MACHINE | {"engine": engine, "physical_batch": 5})
    real = trainer.Trainer._first_physical_batch

    def measured(self, machine):
        """As on a GPU."""
        before = torch.get_rng_state()
        found = physical.room(self._probe, self.device, real(self, machine), 1)
        assert torch.equal(torch.get_rng_state(), before)
        assert (self.optimizer.norms, self.optimizer.original_optimizer.state) == ((), {})
        assert all(not p.summed_grad.any() for p in self.optimizer.params)
        return found

    monkeypatch.setattr(physical, "peak_of", lambda step, samples, device: step(samples) or 1)
    monkeypatch.setattr(physical, "free", lambda *_: 0.8)  # 5.12 samples
    monkeypatch.setattr(trainer.Trainer, "_first_physical_batch", measured)
    record = loop.train(run, dataset, 1.5, MACHINE | {"engine": engine, "physical_batch": 1000})
    assert record["machine"]["physical_batch"] == 5
    assert numbers(record) == numbers(told)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
def test_a_gpu_is_measured_once_and_sees_few_shapes(tiny, monkeypatch):  # noqa: F811
    run, dataset = tiny
    run = dataclasses.replace(run, recipe=run.recipe | {"steps": 20, "evaluate_every": 20})
    machine = MACHINE | {"engine": "fast", "device": "cuda", "physical_batch": "auto"}
    asked, seen, real = [], set(), trainer.ENGINES["fast"].accumulate
    monkeypatch.setattr(trainer, "FITS", {})
    monkeypatch.setattr(physical, "room", lambda step, device, most, runs: asked.append(most) or 25)

    def watched(self, images, labels, mask=None):
        if mask is not None:  # admission's two samples have none
            seen.add(len(images))
        return real(self, images, labels, mask)

    monkeypatch.setattr(trainer.ENGINES["fast"], "accumulate", watched)
    for _ in range(2):
        record = loop.train(run, dataset, 1.5, machine)
        assert seen <= set(physical.shapes(12, 25))
        assert len(seen) > 1
        assert record["machine"]["physical_batch"] == physical.shapes(12, 25)[-1]
    assert asked == [physical.shapes(12, 60)[-1]]
    other = dataclasses.replace(run, recipe=run.recipe | {"precision": "bf16"})
    loop.train(other, dataset, 1.5, machine)
    assert len(asked) == 2


def _waits(name: str, device: str, tmp_path) -> list[list[str]]:
    """What waits in three steps of a fresh run, in telling its loss, and in the same of a resumed one.

    On a CPU what the engine does is left out, which there has other forms, and so are numbers that an optimiser keeps on the
    CPU whatever the device.
    """
    run, dataset = small(name)
    run = dataclasses.replace(run, recipe=run.recipe | {"steps": 8, "evaluate_every": 8})
    found, state = [], None
    for _ in ("fresh", "resumed"):
        made = trainer.Trainer(run, dataset, 1.5, MACHINE | {"engine": "fast", "device": device, "physical_batch": "auto"})
        if state:
            made.restore(state)
        kept = made.optimizer.original_optimizer.state
        numbers = lambda kept=kept: [v for of_one in kept.values() for v in of_one.values() if v.dim() == 0]  # noqa: E731
        for _ in range(3):
            with Waits(device, numbers if device == "cpu" else list) as waits:
                if device == "cpu":
                    made.engine.accumulate = waits.leave_out(type(made.engine).accumulate.__get__(made.engine))
                made.take_step()
            found.append(waits.found)
        with Waits(device) as waits:
            assert math.isfinite(made.train_loss)
        found.append(waits.found)
        torch.save(made.state(), tmp_path / "state.pt")
        state = torch.load(tmp_path / "state.pt", weights_only=True, map_location="cpu")
    return found


@pytest.mark.parametrize("name", kinds())
@pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda",
            marks=[pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")],
        ),
    ],
)
def test_a_step_waits_once_at_most(name, device, tmp_path):
    """Of every kind of recipe, fresh and resumed: a GPU then has its next step before this one has ended."""
    found = _waits(name, device, tmp_path)
    assert len(found) == 8
    assert all(len(step) <= 1 for step in found), found


@pytest.mark.parametrize("name", recipe.OPTIMIZERS)
def test_an_optimiser_goes_on_on_another_device_as_if_it_had_begun_there(name):
    """Its way to compute stays its own, and what it reads at every step on the CPU. (Device meta stands for a GPU here.)"""
    made = {}
    for device in ("cpu", "meta"):
        weight = torch.nn.Parameter(torch.ones(3, device=device))
        kind = torch.device("cuda" if device == "meta" else "cpu")
        made[device] = weight, recipe.make_optimizer({"optimizer": {"name": name, "lr": 0.1}}, [weight], kind)
    weight, optimizer = made["cpu"]
    weight.grad = torch.ones(3)
    optimizer.step()
    numbers = {key: value.clone() for key, value in optimizer.state[weight].items() if value.dim() == 0}
    for (device, (weight, optimizer)), saved_with in zip(made.items(), (True, None), strict=True):
        state = made["cpu"][1].state_dict()
        state["param_groups"][0]["foreach"] = saved_with
        recipe.restore_optimizer(optimizer, state)
        assert optimizer.param_groups[0]["foreach"] is (True if device == "meta" else None)
        for key, value in optimizer.state[weight].items():
            assert value.device.type == ("cpu" if key in numbers else device)
            assert key not in numbers or value == numbers[key]
