"""Pitfalls of training with differential privacy that no other test covers; docs/privacy.md lists all twelve."""

import dataclasses
import math

import pytest
import torch

from bench.dp.optimizer import Optimizer
from bench.training import loop, noise, recipe
from tests.training.test_loop import MACHINE, numbers, tiny  # noqa: F401


@pytest.mark.parametrize("came", [0, 1, 3, 40])
def test_a_sum_is_divided_by_the_expected_batch_whatever_came(came):
    p = torch.nn.Parameter(torch.zeros(5, dtype=torch.float64))
    optimizer = Optimizer(torch.optim.SGD([p], lr=1.0), noise_multiplier=0.0, max_grad_norm=1.0, expected_batch_size=8.0)
    optimizer.start_step()
    optimizer.clip_factors(torch.ones(came, dtype=torch.float64))
    p.summed_grad += came
    optimizer.finish_step(1)
    assert torch.equal(p.detach(), torch.full((5,), -came / 8, dtype=torch.float64))


def test_what_is_public_does_not_depend_on_the_images(tiny):  # noqa: F811
    """N, q, B, steps, noise and what they spend; what is read off the data, norms and losses, is no part of the guarantee."""
    run, dataset = tiny
    run = dataclasses.replace(run, epsilon=8.0)
    torch.manual_seed(1)
    others = torch.randint(0, 256, dataset.train_images.shape, dtype=torch.uint8)
    told = noise.facts(run, len(dataset.train_labels))
    first, second = (
        loop.train(run, dataclasses.replace(dataset, train_images=images), told["noise_multiplier"], MACHINE)
        for images in (dataset.train_images, others)
    )
    assert first["privacy"] == second["privacy"]
    assert first["result"]["loss"] != second["result"]["loss"]
    assert first["privacy"]["adjacency"] == "zero-out"
    assert first["privacy"]["sampling"] == "poisson"


def test_noise_sampling_and_epsilon_come_from_the_same_numbers(tiny):  # noqa: F811
    """The record's epsilon is that of the very noise, rate and steps of the run, calibrated to the budget."""
    run, dataset = tiny
    run = dataclasses.replace(run, epsilon=3.0)
    sigma = noise.facts(run, len(dataset.train_labels))["noise_multiplier"]
    privacy = loop.train(run, dataset, sigma, MACHINE)["privacy"]
    spent = recipe.privacy_of(run.recipe, privacy["sample_rate"], privacy["noise_multiplier"], privacy["steps"])
    assert {key: privacy[key] for key in spent} == spent
    assert privacy["sample_rate"] * privacy["train_size"] == run.recipe["batch_size"]
    assert privacy["steps"] == run.recipe["steps"]
    accountant = run.recipe["accountant"]
    assert spent[f"epsilon_{accountant}"] == pytest.approx(3.0, abs=1e-3)
    assert spent[f"epsilon_{accountant}"] <= 3.0


@pytest.mark.parametrize("epsilon", [8.0, math.inf])
def test_diagnostics_do_not_steer_the_training(tiny, epsilon):  # noqa: F811
    """Losses, norms and accuracies are read off private data; looking at them at every step changes no weight."""
    run, dataset = tiny
    sigma = 1.5 if epsilon == 8 else 0.0
    often, once = (
        loop.train(
            dataclasses.replace(run, epsilon=epsilon, recipe=run.recipe | {"evaluate_every": every}), dataset, sigma, MACHINE
        )
        for every in (1, run.recipe["steps"])
    )
    assert len(often["curve"]) == 5 * len(once["curve"])
    assert often["result"]["loss"] == once["result"]["loss"]
    assert often["result"]["correct"] == once["result"]["correct"]
    assert numbers(often) != numbers(once)  # the curves
