"""Pairs are pairs: whatever else a variant has, what it shares with the baseline sees equal draws at every step."""

import dataclasses
import math

import pytest
import torch

from bench import models
from bench.dp import optimizer as optimizers
from bench.plan import resolve
from bench.training import trainer
from tests.training.test_checkpoint import CONFIG, small
from tests.training.test_loop import MACHINE

STEPS = 20


def draws_of(variant: str, monkeypatch, epsilon: float = 8.0) -> tuple[list, list, dict]:
    """(batches, augmentation draws, noise by (step, parameter)) of twenty steps of a recipe with two views an image."""
    run, dataset = small("de-wrn")
    model = resolve.model_of(CONFIG, "resnet9-w8", variant)
    recipe = run.recipe | {"optimizer": {"name": "sgd", "lr": 0.01}}
    run = dataclasses.replace(run, variant=variant, model=model, epsilon=epsilon, recipe=recipe)
    batches, views, noise = [], [], {}
    real = trainer.poisson_batch, trainer.augment.draw, optimizers.noise

    def keep_noise(seed, step, name, like):
        noise[step, name] = real[2](seed, step, name, like)
        return noise[step, name]

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "poisson_batch", lambda *a: batches.append(real[0](*a)) or batches[-1])
        patch.setattr(trainer.augment, "draw", lambda *a: views.append(real[1](*a)) or views[-1])
        patch.setattr(optimizers, "noise", keep_noise)
        taken = trainer.Trainer(run, dataset, 1.0, MACHINE | {"engine": "fast"})
        for _ in range(STEPS):
            taken.take_step()
    return batches, views, noise


@pytest.fixture(scope="module")
def baseline():
    with pytest.MonkeyPatch.context() as patch:
        return draws_of("baseline", patch)


@pytest.mark.parametrize("variant", [name for name in CONFIG["variants"] if name not in ("baseline", "batch")])
def test_a_variant_shares_every_draw_with_the_baseline(variant, baseline, monkeypatch):
    batches, views, noise = draws_of(variant, monkeypatch)
    for mine, theirs in ((batches, baseline[0]), (views, baseline[1])):
        assert len(mine) == STEPS
        assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))
    network = models.build(resolve.model_of(CONFIG, "resnet9-w8", variant), 3, 10)
    names = dict(network.named_parameters()).keys()
    assert noise.keys() == {(step, name) for step in range(1, STEPS + 1) for name in names}
    shared = noise.keys() & baseline[2].keys()
    assert {name for _, name in shared} >= {name for name, p in network.named_parameters() if p.dim() > 1}
    assert all(torch.equal(noise[key], baseline[2][key]) for key in shared)


def test_without_privacy_pairs_share_their_batches(baseline, monkeypatch):
    batches, views, _ = draws_of("scalenorm", monkeypatch, math.inf)
    assert all(torch.equal(a, b) for a, b in zip(batches, baseline[0], strict=True))
    assert all(torch.equal(a, b) for a, b in zip(views, baseline[1], strict=True))


def test_no_two_steps_share_their_draws(baseline):
    batches, _, noise = baseline
    assert len({tuple(batch.tolist()) for batch in batches}) == STEPS
    assert len({tuple(values[:2].flatten().tolist()) for values in noise.values()}) == len(noise)
