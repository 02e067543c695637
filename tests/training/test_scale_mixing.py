"""Scale mixing, measured in batches, against the activations themselves."""

import copy
import dataclasses

import numpy as np
import pytest
import torch

from bench.models.residual import ResidualBlock
from bench.training import scale_mixing, trainer
from tests.dp.test_gradients import network_of
from tests.training.test_loop import MACHINE, tiny  # noqa: F401


def block_outputs(network, images):
    """Activations at the three sites of each block, by (block, site)."""
    seen, handles = {}, []

    def keep(key):
        def hook(module, inputs, output):
            seen[key] = output.double()

        return hook

    for name, block in network.named_modules():
        if isinstance(block, ResidualBlock):
            for site in ("skip", "branch", "sum"):
                handles.append(getattr(block, f"at_{site}").register_forward_hook(keep((name, site))))
    with torch.no_grad():
        network.eval()(images)
    for handle in handles:
        handle.remove()
    return seen


def test_scale_mixing_in_batches_is_that_of_all_images():
    network = network_of("resnet18-w8", "scalenorm", torch.float32)
    torch.manual_seed(0)
    images = 5 + torch.randn(10, 3, 16, 16)
    seen = block_outputs(copy.deepcopy(network), images)
    rows = scale_mixing.measure(network, images.split(4))
    assert len(rows) == 8
    for row in rows:
        for site in ("skip", "branch", "sum"):
            values = seen[row["block"], site]
            assert row[site] == pytest.approx(values.std().item(), rel=1e-5)  # six digits, convolutions in float32
            channels = values.transpose(0, 1).flatten(1).std(1)
            # three digits: half a unit of the third
            assert row[f"{site}_channels"] == pytest.approx(np.quantile(channels.numpy(), [0.25, 0.5, 0.75]), rel=5e-3)
    assert network.training
    assert not any(module._forward_hooks for module in network.modules())


def test_scale_mixing_takes_a_thousand_test_images(tiny, monkeypatch):  # noqa: F811
    run, dataset = tiny
    many = dataclasses.replace(dataset, test_images=dataset.test_images.repeat(60, 1, 1, 1))
    counts = []
    monkeypatch.setattr(scale_mixing, "measure", lambda network, batches: counts.append([len(b) for b in batches]))
    trainer.Trainer(run, many, 1.5, MACHINE).scale_mixing()
    trainer.Trainer(run, dataset, 1.5, MACHINE).scale_mixing()
    assert counts == [[250] * 4, [20]]
