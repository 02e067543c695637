"""Clipping without noise and noise without clipping: what is trained, and that nobody takes it for private."""

import dataclasses
import math

import pytest
import torch

from bench.cli import words
from bench.dp.gradients import NotPrivate
from bench.evidence import columns
from bench.training import loop, recipe, trainer
from tests.training.test_loop import MACHINE, tiny  # noqa: F401

CLIPS, NOISES = {"clip": True, "noise": False}, {"clip": False, "noise": True}


def taken_apart(run, mechanism):
    return dataclasses.replace(run, epsilon=8.0, recipe=run.recipe | {"mechanism": mechanism})


def noise_of(run):
    return recipe.noise_of(run, 60)["noise_multiplier"]


@pytest.mark.parametrize("mechanism", [CLIPS, NOISES])
def test_nothing_is_bounded(tiny, mechanism):  # noqa: F811
    run, dataset = tiny
    run = taken_apart(run, mechanism)
    told = recipe.noise_of(run, 60)
    assert told["epsilon_rdp"] == told["epsilon_pld"] == math.inf
    record = loop.train(run, dataset, told["noise_multiplier"], MACHINE)
    privacy = record["privacy"]
    assert record["status"] == "completed"
    assert (privacy["private"], privacy["epsilon_rdp"], privacy["epsilon_pld"]) == (False, math.inf, math.inf)
    assert record["curve"][0]["epsilon_rdp"] == math.inf
    row = columns.row(record | {"provenance": {"commit": "", "source_digest": ""}})
    assert (row["private"], row["epsilon"]) == (False, "8")
    assert dict(words.specification(run))["privacy"].startswith("NOT PRIVATE: ")


def test_private_runs_say_so(tiny):  # noqa: F811
    run, dataset = tiny
    assert loop.train(run, dataset, 1.5, MACHINE)["privacy"]["private"]
    assert not loop.train(dataclasses.replace(run, epsilon=math.inf), dataset, 0.0, MACHINE)["privacy"]["private"]
    proxy = dataclasses.replace(run, recipe=run.recipe | {"budget": "proxy", "proxy_for_batch_size": 24})
    assert not loop.train(proxy, dataset, 1.5, MACHINE)["privacy"]["private"]


def test_clipping_alone_is_the_private_run_without_its_noise(tiny):  # noqa: F811
    run, dataset = tiny
    clips = taken_apart(run, CLIPS)
    assert noise_of(clips) == 0
    record = loop.train(clips, dataset, 0.0, MACHINE)
    assert (
        record["result"]["loss"] == loop.train(dataclasses.replace(run, epsilon=8.0), dataset, 0.0, MACHINE)["result"]["loss"]
    )
    assert record["privacy"]["clip_norm"] == run.recipe["clip_norm"]
    assert {"clipped", "norms"} < set(record["curve"][0])
    assert "snr" not in record["curve"][0]


def test_noise_alone_is_that_of_the_budget_on_sums_that_are_not_clipped(tiny):  # noqa: F811
    run, dataset = tiny
    noises = taken_apart(run, NOISES)
    sigma = noise_of(noises)
    assert sigma == noise_of(dataclasses.replace(run, epsilon=8.0)) > 0
    record = loop.train(noises, dataset, sigma, MACHINE)
    assert record["privacy"]["noise_multiplier"] == sigma
    assert record["privacy"]["clip_norm"] == math.inf
    assert record["machine"]["engine"] == "not-private"
    assert "snr" in record["curve"][0]
    assert not {"clipped", "norms"} & set(record["curve"][0])
    made = trainer.Trainer(noises, dataset, sigma, MACHINE)
    assert isinstance(made.engine, NotPrivate)
    made.take_step()
    noise = torch.cat([(12 * p.grad - p.summed_grad).flatten() for p in made.network.parameters()])  # B = 12
    # six standard errors of a standard deviation
    assert noise.std().item() == pytest.approx(sigma * run.recipe["clip_norm"], rel=6 / (2 * len(noise)) ** 0.5)


def test_noise_alone_may_diverge_and_says_nothing_of_epsilon(tiny):  # noqa: F811
    run, dataset = tiny
    run = taken_apart(run, NOISES)
    run = dataclasses.replace(run, recipe=run.recipe | {"optimizer": {"name": "sgd", "lr": 1e38}})
    record = loop.train(run, dataset, 1.5, MACHINE)
    assert record["status"] == "diverged"
    assert "epsilon" not in record["result"]["reason"]
