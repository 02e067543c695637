"""What is measured while a run trains, against what the steps' own tensors say."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch

from bench import models
from bench.dp.gradients import ENGINES
from bench.evidence import records
from bench.plan import resolve
from bench.training import loop, measurements, trainer
from tests.dp.test_gradients import alone, batch_of, network_of, optimizer_of
from tests.factory import SMALL_ARCHS, record_of
from tests.training.test_loop import MACHINE, tiny  # noqa: F401


@pytest.mark.parametrize("engine", ENGINES)
def test_norms_and_clipped_fraction_are_those_of_the_samples(engine):
    network = network_of("resnet9-w8", "scalenorm")
    images, labels = batch_of(10, 2)
    norms = alone(network, images, labels).norm(dim=1)
    clip_norm = norms.sort().values[6].item() * 1.001  # three of ten are above
    optimizer = optimizer_of(network, clip_norm)
    made, found = measurements.Measurements(network, optimizer), ENGINES[engine](network, optimizer)
    padding = torch.tensor([1.0] * 6 + [0.0] * 2, dtype=torch.float64)
    for part, mask in ((slice(0, 4), None), (slice(4, 12), padding)):  # two steps, the second padded with two samples
        indices = torch.arange(12)[part] % 10
        optimizer.start_step()
        found.accumulate(images[indices].clone(), labels[indices], mask)
        made.add()
    point = made.point()
    assert point["clipped"] == 0.3
    assert point["norms"] == pytest.approx(np.quantile(norms.numpy(), [0.1, 0.5, 0.9]), rel=5e-3)  # three digits
    assert made.nonfinite == 0
    assert "snr" not in point  # without noise
    assert made.point() == {}  # forgotten


def test_samples_without_a_gradient_are_counted_and_not_in_the_norms():
    network = network_of("resnet9-w8", "baseline")
    optimizer = optimizer_of(network, 1e-3)
    made, engine = measurements.Measurements(network, optimizer), ENGINES["fast"](network, optimizer)
    images, labels = batch_of(4, 1)
    images[1:3] = math.nan
    for _ in range(2):
        optimizer.start_step()
        engine.accumulate(images, labels)
        made.add()
    assert (made.since, made.nonfinite) == (4, 4)
    saved = json.loads(json.dumps(made.state()["counted"])), made.state()["norms"].clone()
    point = made.point()
    assert point["clipped"] == 1.0
    assert all(map(math.isfinite, point["norms"]))
    assert (made.since, made.nonfinite) == (0, 4)
    again = measurements.Measurements(network, optimizer)
    again.restore({"counted": saved[0], "norms": saved[1]})
    assert again.nonfinite == 4
    assert again.point() == point
    optimizer.start_step()
    engine.accumulate(images[1:2], labels[1:2])
    made.add()
    assert made.point() == {"clipped": None, "norms": None}


def test_signal_to_noise_by_stage():
    network = network_of("wrn10-1", "scalenorm")
    optimizer = optimizer_of(network, 1.5, sigma=2.0)
    made, engine = measurements.Measurements(network, optimizer), ENGINES["fast"](network, optimizer)
    optimizer.start_step()
    engine.accumulate(*batch_of(4, 1))
    sums = {name: p.summed_grad.clone() for name, p in network.named_parameters()}
    optimizer.finish_step(1)
    made.add()
    found = dict(zip(made.stages, made.point()["snr"], strict=True))
    assert list(found) == ["stem", "1", "2", "3", "head"]
    tops = {"stem": ("conv",), "1": ("stage1",), "2": ("stage2",), "3": ("stage3",), "head": ("last", "head")}
    for stage, names in tops.items():
        part = torch.cat([g.flatten() for name, g in sums.items() if name.split(".")[0] in names])
        # the noise itself, of d normal numbers: its norm is sigma C sqrt(d) to a relative 1 / sqrt(2 d), d here 64 and more
        assert found[stage] == pytest.approx((part.norm() / (2.0 * 1.5 * len(part) ** 0.5)).item(), rel=5e-3)


@pytest.mark.parametrize("arch", SMALL_ARCHS)
def test_stages_hold_every_parameter_once_and_every_block_in_its_stage(arch, shipped):
    shipped["archs"] |= SMALL_ARCHS
    network = models.build(resolve.model_of(shipped, arch, "scalenorm"), 3, 10)
    found = measurements.stages(network)
    assert sorted(id(p) for group in found.values() for p in group) == sorted(id(p) for p in network.parameters())
    numbers = [name for name in found if name.isdigit()]
    assert list(found) == ["stem", *numbers, "head"]
    assert numbers == [str(i + 1) for i in range(len(resolve.model_of(shipped, arch, "scalenorm").stages))]
    (head,) = [m for m in network.modules() if isinstance(m, torch.nn.Linear)]
    assert any(p is head.weight for p in found["head"])


def test_a_run_tells_what_it_measured(tiny):  # noqa: F811
    run, dataset = tiny
    record = loop.train(run, dataset, 1.5, MACHINE)
    for point in record["curve"]:
        assert len(point["snr"]) == 4
        assert 0 <= point["clipped"] <= 1
        assert point["norms"] == sorted(point["norms"])
    assert record["privacy"]["nonfinite_samples"] == 0
    plain = loop.train(dataclasses.replace(run, epsilon=math.inf), dataset, 0.0, MACHINE)
    assert set(plain["curve"][0]) == {"step", "epsilon_rdp", "train_loss", "test_loss", "accuracy"}


def test_a_run_goes_on_past_samples_without_a_gradient(tiny, monkeypatch):  # noqa: F811
    """They are counted each time that they are drawn, and the loss is the mean over the others."""
    run, dataset = tiny
    run = dataclasses.replace(run, recipe=run.recipe | {"evaluate_every": 5})
    poisoned, drawn, real = 7, [], trainer.Trainer._views
    batches = trainer.poisson_batch

    def views(self, part, draws):
        images = real(self, part, draws)
        images[part == poisoned] = math.nan
        return images

    def batch(size, rate, source):
        drawn.append(batches(size, 0.8, source))
        return drawn[-1]

    monkeypatch.setattr(trainer.Trainer, "_views", views)
    monkeypatch.setattr(trainer, "poisson_batch", batch)
    record = loop.train(run, dataset, 1.5, MACHINE | {"engine": "fast"})
    times = sum((indices == poisoned).sum().item() for indices in drawn)
    assert times > 0
    assert record["status"] == "completed"
    assert record["privacy"]["nonfinite_samples"] == times
    assert all(map(math.isfinite, (record["result"]["loss"], record["curve"][-1]["train_loss"])))


def test_a_diverged_private_run_says_that_epsilon_does_not_cover_the_stop(tiny):  # noqa: F811
    run, dataset = tiny
    run = dataclasses.replace(run, recipe=run.recipe | {"optimizer": {"name": "sgd", "lr": 1e38}})
    record = loop.train(run, dataset, 1.5, MACHINE)
    assert record["status"] == "diverged"
    assert record["result"]["reason"].endswith("which the epsilon of these steps does not cover")
    plain = loop.train(dataclasses.replace(run, epsilon=math.inf), dataset, 0.0, MACHINE)
    assert plain["status"] == "diverged"
    assert "epsilon" not in plain["result"]["reason"]


@pytest.mark.parametrize(("evaluations", "blocks", "most"), [(50, 6, 16_000), (10, 2, 6_000)])
def test_a_record_stays_small(quick, tmp_path, evaluations, blocks, most):
    """Numbers of as many digits as they have in a run: WRN-16-4 with fifty evaluations, ResNet-9 with ten (CIFAR-10)."""
    record = record_of(next(iter(quick.values())), 61.234567890123456)
    stages = ("stem", "1", "2", "3", "head")
    point = {"step": 12345, "epsilon_rdp": 7.12345, "train_loss": 1.12345, "test_loss": 1.12345, "accuracy": 61.35}
    point |= {"clipped": 0.987, "norms": [1.23e-05, 12.3, 1230.0], "snr": [0.0123] * len(stages)}
    row = {site: 1.23456 for site in ("skip", "branch", "sum")}
    row |= {f"{site}_channels": [0.123, 1.23, 12.3] for site in row}
    record |= {"curve": [point] * evaluations, "scale_mixing": [{"block": "stage1.0"} | row] * blocks}
    records.write(record, tmp_path / "record.json")
    text = (tmp_path / "record.json").read_text()
    assert len(text) <= most
    assert records.read(tmp_path / "record.json") == {"format": 1} | records._finite(record)
    assert max(map(len, text.splitlines())) < 1000  # a point a line, as a person may read it
