"""Networks: sizes, the four sites, and what variants share."""

import pytest
import torch

from bench import models, spec
from bench.dp.sampling import generator


def build(config, arch, variant, channels=3, seed=0):
    return models.build(spec.model_of(config, arch, variant), channels, 10, generator(seed, "weights"))


@pytest.mark.parametrize(("variant", "parameters"), [("baseline", 2_447_946), ("scalenorm", 2_448_714)])
def test_parameters_are_the_authors(shipped, variant, parameters):
    """Counts of mrchntia/ScaleNorm b3c2465, computed from its code."""
    assert sum(p.numel() for p in build(shipped, "resnet9", variant).parameters()) == parameters


def test_every_variant_runs_on_every_arch(shipped):
    for arch in shipped["archs"]:
        for variant in shipped["variants"]:
            network = build(shipped, arch, variant)
            for size in (16, 32):
                assert network.eval()(torch.zeros(2, 3, size, size)).shape == (2, 10)


def test_block_is_the_three_lines_of_the_design():
    torch.manual_seed(0)
    norm = spec.Norm(kind="group", groups=2)
    model = spec.Model(
        family="resnet9", options={"width": 4}, activation="relu", norm=norm, stages=(1,),
        sites={"skip": norm, "branch": "scalar", "sum": "shared", "out": norm},
    )  # fmt: skip
    skip, branch, last = torch.nn.Conv2d(4, 4, 1), torch.nn.Conv2d(4, 4, 3, padding=1), torch.nn.GroupNorm(2, 4)
    block = models.ResidualBlock(
        skip, branch, torch.nn.ReLU(), channels=4, last_norm=last, model=model, stage=1
    )  # fmt: skip
    for p in block.parameters():
        torch.nn.init.normal_(p)
    x = torch.randn(3, 4, 8, 8)
    g = torch.nn.functional.group_norm
    a, o = block.at_skip, block.at_out
    total = g(skip(x), 2, a.weight, a.bias) + block.at_branch.gain * branch(x)
    expected = g(g(total, 2, last.weight, last.bias).relu(), 2, o.weight, o.bias)
    torch.testing.assert_close(block(x), expected)


def test_sites_of_other_stages_stay_empty(shipped):
    assert [(b, s) for b, _, s, _ in models.sites(build(shipped, "resnet9-w8", "last-stage"))] == [("res2", "sum")]
    assert [(b, s) for b, _, s, _ in models.sites(build(shipped, "resnet9-w8", "baseline"))] == []


def test_shared_site_adds_no_parameter(shipped):
    names = [
        [name for name, _ in models.named_parameters(build(shipped, "resnet9-w8", v))] for v in ("baseline", "shared-norm")
    ]
    assert names[0] == names[1]


def test_variants_share_a_prefix_of_the_parameters_and_their_values(shipped):
    """Whatever a variant adds comes last, and what it shares with the baseline starts equal."""
    base = models.named_parameters(build(shipped, "resnet9-w8", "baseline"))
    for variant in shipped["variants"]:
        mine = models.named_parameters(build(shipped, "resnet9-w8", variant))
        shared = min(len(base), len(mine))
        if "none" in variant:  # no norm layers: the weights come first and are shared
            shared = sum(p.dim() > 1 for _, p in base) + 1
        for (name, p), (other, q) in zip(base[:shared], mine[:shared], strict=True):
            assert name == other
            assert torch.equal(p, q)


def test_seed_decides_the_weights(shipped):
    first, same, other = (build(shipped, "resnet9-w8", "baseline", seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.head.weight, same.head.weight)
    assert not torch.equal(first.head.weight, other.head.weight)


def test_initialisation_is_torchs_default(shipped):
    network = build(shipped, "resnet9", "baseline")
    fan_in = network.conv3.conv.weight[0].numel()
    # kaiming_uniform with a = sqrt(5) is uniform on +-1/sqrt(fan_in), of standard deviation 1/sqrt(3 fan_in)
    assert network.conv3.conv.weight.abs().max() <= fan_in**-0.5
    assert network.conv3.conv.weight.std().item() == pytest.approx((3 * fan_in) ** -0.5, rel=0.01)


def test_groups_are_capped_at_the_channels(shipped):
    assert build(shipped, "resnet9-w16", "groups-64").conv1.norm.num_groups == 16
    assert build(shipped, "resnet9-w16", "instance").conv3.norm.num_groups == 64
    assert build(shipped, "resnet9-w16", "layer").conv3.norm.num_groups == 1
