"""Networks: sizes, the four sites, and what variants share."""

import pytest
import torch
import torch.nn.functional as F

from bench import layers, models
from bench.dp.sampling import generator
from bench.plan import resolve, spec
from tests.factory import SMALL_ARCHS


def build(config, arch, variant, channels=3, seed=0):
    return models.build(resolve.model_of(config, arch, variant), channels, 10, generator(seed, "weights"))


@pytest.mark.parametrize(("variant", "parameters"), [("baseline", 2_447_946), ("scalenorm", 2_448_714)])
def test_parameters_are_the_authors(shipped, variant, parameters):
    """Counts of mrchntia/ScaleNorm b3c2465, computed from its code."""
    assert sum(p.numel() for p in build(shipped, "resnet9", variant).parameters()) == parameters


@pytest.mark.parametrize(
    ("arch", "variant", "parameters"),
    [
        ("wrn16-4", "baseline", 2_753_818),  # as DPDL counts jax_privacy's; the others follow from it
        ("wrn16-4", "scalenorm", 2_755_610),
        ("wrn40-4", "baseline", 8_961_306),
        ("wrn40-4", "scalenorm", 8_966_682),
    ],
)
def test_parameters_are_de_et_als(shipped, arch, variant, parameters):
    with torch.device("meta"):
        network = models.build(resolve.model_of(shipped, arch, variant), 3, 10)
    assert sum(p.numel() for p in network.parameters()) == parameters


@pytest.mark.parametrize(("depth", "parameters"), [(18, 11_689_512), (34, 21_797_672), (50, 25_557_032)])
def test_parameters_are_torchvisions(shipped, depth, parameters):
    shipped["archs"]["resnet50"]["depth"] = depth
    with torch.device("meta"):
        network = models.build(resolve.model_of(shipped, "resnet50", "baseline"), 3, 1000)
    assert sum(p.numel() for p in network.parameters()) == parameters


def test_every_variant_runs_on_every_family(shipped):
    shipped["archs"] |= SMALL_ARCHS
    for arch in SMALL_ARCHS:
        for variant in shipped["variants"]:
            network = build(shipped, arch, variant).eval()
            with torch.no_grad():
                assert network(torch.zeros(2, 3, 16, 16)).shape == (2, 10)


def test_every_variant_is_built_on_every_arch(shipped):
    with torch.device("meta"):  # shapes only
        for arch in shipped["archs"]:
            networks = [models.build(resolve.model_of(shipped, arch, v), 3, 10) for v in shipped["variants"]]
            assert networks[0](torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def de_et_al(p, x, depth, order="relu-norm", shortcut="relu-norm", scalenorm=False):
    """Logits of the Wide ResNet as De et al. 2022 describe and publish it, from parameters by name; 16 groups."""

    def norm(x, name):
        grouped = x.reshape(len(x), 16, -1)
        mean, variance = grouped.mean(-1, keepdim=True), grouped.var(-1, keepdim=True, correction=0)
        x = ((grouped - mean) / (variance + 1e-5).sqrt()).reshape(x.shape)
        return x * p[f"{name}.weight"].view(-1, 1, 1) + p[f"{name}.bias"].view(-1, 1, 1)

    def before(x, name, order):
        return norm(F.relu(x), f"{name}.norm") if order == "relu-norm" else F.relu(norm(x, f"{name}.norm"))

    def conv(x, name, stride=1):
        w = p[f"{name}.weight"]
        fan_in = w.shape[1] * w.shape[2] * w.shape[3]
        mean = w.mean((1, 2, 3), keepdim=True)
        variance = w.var((1, 2, 3), keepdim=True, correction=0)
        scale = torch.rsqrt(torch.clamp(variance * fan_in, min=1e-4)) * p[f"{name}.gain"].view(-1, 1, 1, 1)
        return F.conv2d(x, w * scale - mean * scale, p[f"{name}.bias"], stride, padding=w.shape[-1] // 2)

    x = conv(x, "conv")
    for stage in (1, 2, 3):
        for i in range((depth - 4) // 6):
            block = f"stage{stage}.{i}"
            stride = 2 if stage > 1 and i == 0 else 1
            skip = x
            if i == 0:
                skip = conv(before(x, f"{block}.skip.0", shortcut), f"{block}.skip.1", stride)
            x = conv(before(x, f"{block}.branch.0", order), f"{block}.branch.1", stride)
            x = conv(before(x, f"{block}.branch.2", order), f"{block}.branch.3")
            x = x + skip
            if scalenorm:
                x = norm(x, f"{block}.at_sum")
    x = before(x, "last", "relu-norm")
    return F.linear(x.mean((2, 3)), p["head.weight"], p["head.bias"])


@pytest.mark.parametrize("variant", ["baseline", "scalenorm"])
@pytest.mark.parametrize("arch", [
    "wrn16-4", "wrn16-4-norm-relu", "wrn16-4-norm-relu-shortcut-relu-norm", "wrn16-4-relu-norm-shortcut-norm-relu"
])  # fmt: skip
def test_wide_resnet_is_de_et_als(shipped, arch, variant):
    network = build(shipped, arch, variant).double()
    torch.manual_seed(0)
    for parameter in network.parameters():
        parameter.data.add_(0.3 * torch.randn_like(parameter))
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    parameters = dict(network.named_parameters())
    options = {key: shipped["archs"][arch][key] for key in ("depth", "order", "shortcut")}
    expected = de_et_al(parameters, x, **options, scalenorm=variant == "scalenorm")
    # sums of some 1e3 products through 16 layers, in float64
    torch.testing.assert_close(network(x), expected, rtol=1e-10, atol=1e-10)


def test_wide_resnet_without_weight_standardisation_has_plain_convolutions(shipped):
    shipped["variants"]["mine"] = {"weight_standardisation": False}
    network = build(shipped, "wrn16-4", "mine")
    convolutions = [layer for layer in network.modules() if isinstance(layer, torch.nn.Conv2d)]
    assert {type(layer) for layer in convolutions} == {torch.nn.Conv2d}
    # TAN's count (facebookresearch/tan): De et al.'s less the gains
    assert sum(p.numel() for p in network.parameters()) == 2_751_562
    weight = network.stage3[1].branch[3].weight
    fan_in = weight[0].numel()
    # six standard errors of a standard deviation
    assert weight.std().item() == pytest.approx(fan_in**-0.5, rel=6 / (2 * weight.numel()) ** 0.5)
    assert weight.abs().max() <= 2 / 0.8796 * fan_in**-0.5
    assert all((layer.bias == 0).all() for layer in convolutions)


def test_scalenorm_of_a_resnet_stands_between_sum_and_activation(shipped):
    """The authors' place (mrchntia/ScaleNorm b3c2465, resnet_pytorch.py): add, norm, activation; a norm of its own."""
    network = build(shipped, "resnet50", "scalenorm")
    assert len(models.sites(network)) == 16
    block = network.stage2[0]
    x = torch.randn(2, 256, 4, 4)
    torch.testing.assert_close(block(x), F.mish(block.at_sum(block.skip(x) + block.branch(x))))


def test_every_activation_is_the_configured_one(shipped):
    """Of the authors' ResNet-50, stage 1 kept another."""
    kinds = {type(m) for m in build(shipped, "resnet50", "baseline").modules()} & {layers.Mish, torch.nn.ReLU}
    assert kinds == {layers.Mish}


def test_stems(shipped):
    shipped["archs"] |= SMALL_ARCHS
    x = torch.zeros(1, 3, 32, 32)
    for arch, size in (("resnet18-w8", 32), ("resnet50-w8", 8)):
        network = build(shipped, arch, "baseline")
        assert network.pool(network.conv(x)).shape[2:] == (size, size)


def test_resnets_start_as_torchvisions(shipped):
    weight = build(shipped, "resnet50", "baseline").stage3[0].branch[3].weight
    # N(0, 2 / fan_out); six standard errors of a standard deviation
    assert weight.std().item() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=6 / (2 * weight.numel()) ** 0.5)


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
    names = [[name for name, _ in build(shipped, "resnet9-w8", v).named_parameters()] for v in ("baseline", "shared-norm")]
    assert names[0] == names[1]


@pytest.mark.parametrize("arch", SMALL_ARCHS)
def test_what_variants_share_starts_equal(shipped, arch):
    shipped["archs"] |= SMALL_ARCHS
    base = dict(build(shipped, arch, "baseline").named_parameters())
    weights = {name for name in base if base[name].dim() > 1}
    for variant in shipped["variants"]:
        mine = dict(build(shipped, arch, variant).named_parameters())
        assert weights <= mine.keys()
        assert all(torch.equal(base[name], mine[name]) for name in base.keys() & mine.keys())


def test_seed_decides_the_weights(shipped):
    first, same, other = (build(shipped, "resnet9-w8", "baseline", seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.head.weight, same.head.weight)
    assert not torch.equal(first.head.weight, other.head.weight)


def test_resnet9_starts_as_ever(shipped):
    """Exactly the weights of the records: from the version of this suite that had no other network (torch 2.13)."""
    network = build(shipped, "resnet9-w8", "baseline")
    assert network.head.weight[0, :3].tolist() == [0.08369526267051697, -0.07263163477182388, 0.02532610483467579]
    assert sum(p.double().sum().item() for p in network.parameters()) == pytest.approx(187.40051338569947, abs=1e-9)


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
