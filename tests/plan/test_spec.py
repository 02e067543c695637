"""Resolution of the configuration into runs, and its refusals."""

import inspect
import math
import re
from dataclasses import replace

import pytest
import torch

from bench import RESULTS_VERSION, BenchError, models
from bench.plan import canonical, families, recipes, resolve, spec
from bench.training import recipe
from tests.factory import SMALL_ARCHS


def refused(config: dict, expected: str) -> None:
    with pytest.raises(BenchError, match=re.escape(expected)):
        resolve.studies_of(config)


def test_every_study_of_the_shipped_configuration_resolves(shipped):
    studies = resolve.studies_of(shipped)
    assert set(studies) == set(shipped["studies"])
    for name, study in shipped["studies"].items():
        seeds = study["seeds"] if isinstance(study["seeds"], int) else len(study["seeds"])
        if name == "mechanism":  # whose recipes have other epsilons
            continue
        arms = len(canonical.recipes_of(study)) * len(study["archs"]) * len(study["variants"]) * len(study["epsilons"])
        assert len({run.id for run in studies[name].runs}) == arms * seeds


def test_quick_is_the_grid_that_the_readme_promises(quick):
    runs = quick.values()
    assert len({run.variant for run in runs}) >= 4
    assert sum(math.isfinite(epsilon) for epsilon in {run.epsilon for run in runs}) >= 2
    assert math.inf in {run.epsilon for run in runs}
    assert len({run.seed for run in runs}) >= 3


def test_a_study_in_bf16_is_its_twin_in_another_precision(shipped):
    """Run by run, so that precisions pair by seed; `claim-bf16` and `headline-bf16` are cut down."""
    studies = resolve.studies_of(shipped)
    for name in ("claim", "placement", "groups", "orders", "headline"):
        twins = {(r.recipe_name, r.arch, r.variant, r.epsilon, r.seed): r.resolved() for r in studies[name].runs}
        for run in studies[f"{name}-bf16"].runs:
            twin = twins[run.recipe_name.removesuffix("-bf16"), run.arch, run.variant, run.epsilon, run.seed]
            assert run.resolved() == twin | {"id": run.id, "recipe": twin["recipe"] | {"precision": "bf16"}}
    assert len(studies["claim-bf16"].runs) == 32


def test_json_round_trip(shipped):
    for study in resolve.studies_of(shipped).values():
        for run in study.runs:
            assert spec.Run.from_json(run.json()) == run


@pytest.mark.parametrize("keys", [{3: 1.7, 10: 0.8}, {"3": 1.7, "10.0": 0.8}, {3.0: 1.7, "1e1": 0.8}])
def test_published_noise_has_one_identity_however_its_epsilons_are_written(shipped, keys):
    """Integers as keys became text in a record, which then never matched its own run."""
    shipped["recipes"]["digits"] |= {"budget": "as-published", "noise_multipliers": keys}
    shipped["studies"] = {"quick": shipped["studies"]["quick"] | {"epsilons": [3, 10]}}
    shipped["claims"] = {}
    run = resolve.studies_of(shipped)["quick"].runs[0]
    assert run.recipe["noise_multipliers"] == {"3": 1.7, "10": 0.8}
    assert spec.Run.from_json(run.json()) == run
    assert recipe.noise_of(run, 1437)["noise_multiplier"] == 1.7


def test_json_of_another_results_version_is_refused(quick):
    text = next(iter(quick.values())).json().replace(f'"results_version": {RESULTS_VERSION}', '"results_version": 0')
    with pytest.raises(BenchError, match="results version 0"):
        spec.Run.from_json(text)


@pytest.mark.parametrize("text", ["", "{}", "[]", f'{{"results_version": {RESULTS_VERSION}}}', "null"])
def test_damaged_json_is_refused(text):
    with pytest.raises(BenchError, match="not the specification of a run"):
        spec.Run.from_json(text)


def test_identity_ignores_paths_and_machine(shipped):
    before = [run.json() for study in resolve.studies_of(shipped).values() for run in study.runs]
    shipped["datasets"]["cifar10"]["path"] = "/elsewhere"
    shipped["machine"]["physical_batch"] = 7
    assert [run.json() for study in resolve.studies_of(shipped).values() for run in study.runs] == before


def test_a_recipe_that_states_a_default_is_the_same_run(shipped):
    before = resolve.studies_of(shipped)["quick"].runs[0]
    shipped["recipes"]["digits"] |= {"precision": "float32", "warmup": 0}
    after = resolve.studies_of(shipped)["quick"].runs[0]
    assert after.json() == before.json()
    assert after.setting("warmup") == before.setting("warmup") == 0
    shipped["recipes"]["digits"]["warmup"] = 3
    assert resolve.studies_of(shipped)["quick"].runs[0].json() != before.json()


def test_another_source_of_images_is_another_run(shipped):
    before = resolve.studies_of(shipped)["pocket"].runs[0].json()
    shipped["datasets"]["cifar10"]["source"] = "image_folder"
    assert resolve.studies_of(shipped)["pocket"].runs[0].json() != before


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        (
            "variants",
            ["baseline", "scalenrm"],
            "studies.quick.variants: unknown variant 'scalenrm' (did you mean 'scalenorm'?)",
        ),
        ("archs", ["resnet8"], "studies.quick.archs: unknown arch 'resnet8' (did you mean"),
        ("recipe", "digit", "studies.quick.recipe: unknown recipe 'digit' (did you mean 'digits'?)"),
        ("variants", ["batch"], "variant batch at epsilon 3: batch norm mixes samples"),
        ("variants", ["baseline", "groups-4"], "baseline and groups-4 are the same network on resnet9-w8; keep one"),
        ("variants", ["groups-32", "groups-64"], "groups-32 and groups-64 are the same network on resnet9-w8; keep one"),
        ("variants", ["instance", "groups-32"], "instance and groups-32 are the same network on resnet9-w8; keep one"),
    ],
)
def test_study_refusals(shipped, key, value, expected):
    shipped["studies"]["quick"][key] = value
    refused(shipped, expected)


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        ({"sites": {"out": "norm"}}, "sites.out: no activation follows the sum here"),
        ({"norm": {"groups": 3}}, "3 groups do not divide 8 channels; choose a divisor"),
        ({"sites": {"sum": {"groups": 3}}}, "3 groups do not divide 8 channels"),
        ({"norm": {"kind": "none"}, "sites": {"sum": "norm"}}, "there is no ordinary norm to repeat"),
        ({"norm": {"kind": "none"}, "sites": {"sum": "shared"}}, "a shared site reuses the block's last norm"),
        ({"sites": {"sum": "norm"}, "stages": [3]}, "stages: 3: the network has stages 1 to 2"),
        ({"stages": ["last"]}, "without sites changes nothing"),
        ({"sites": {"sum": {"kind": "batch"}}}, "batch norm mixes samples"),
        ({"order": "norm-relu"}, "order means nothing to family resnet9 (its own keys: width)"),
    ],
)
def test_model_refusals(shipped, variant, expected):
    shipped["variants"]["mine"] = variant
    shipped["studies"]["quick"]["variants"].append("mine")
    refused(shipped, expected)


@pytest.mark.parametrize(
    ("arch", "change", "expected"),
    [
        ("wrn16-4", {"depth": 18}, "depth: 18: three stages of equal size need 6 n + 4 layers"),
        ("wrn16-4", {"depth": 4}, "depth: 4: three stages of equal size need 6 n + 4 layers"),
        ("resnet50", {"depth": 101}, "depth: 101: 18, 34 and 50 are known"),
        ("resnet50", {"shortcut": "relu-norm"}, "shortcut means nothing to family resnet (its own keys: depth, width, stem)"),
        ("wrn16-4", {"stem": "cifar"}, "stem means nothing to family wide_resnet"),
    ],
)
def test_arch_refusals(shipped, arch, change, expected):
    shipped["archs"][arch] |= change
    shipped["studies"]["quick"]["archs"].append(arch)
    refused(shipped, expected)


def test_a_site_behind_the_activation_is_for_networks_that_have_one(shipped):
    shipped["variants"]["mine"] = {"sites": {"out": "norm"}}
    assert "out" in resolve.model_of(shipped, "resnet50", "mine").sites
    with pytest.raises(BenchError, match="no activation follows the sum here"):
        resolve.model_of(shipped, "wrn16-4", "mine")


def test_variants_may_change_what_only_some_families_have(shipped):
    shipped["variants"]["mine"] = {"order": "norm-relu", "weight_standardisation": False}
    options = resolve.model_of(shipped, "wrn16-4", "mine").options
    assert (options["order"], options["shortcut"], options["weight_standardisation"]) == ("norm-relu", "relu-norm", False)


def test_batch_norm_may_train_without_privacy(shipped):
    shipped["studies"]["quick"] |= {"variants": ["batch"], "epsilons": [math.inf]}
    assert resolve.studies_of(shipped)["quick"].runs[0].model.mixes_samples


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"dataset": "digit"}, "unknown dataset 'digit'"),
        (
            {"optimizer": {"name": "sgd", "lr": 1.0, "momentun": 0.9}},
            "unknown argument 'momentun' (did you mean 'momentum'?)",
        ),
        ({"optimizer": {"name": "sgd", "lr": 1.0, "momentum": "1e-1"}}, "'1e-1' is text, a number is expected"),
        ({"budget": "as-published"}, "noise_multipliers belong to budget: as-published"),
        ({"noise_multipliers": {"8": 1.0}}, "noise_multipliers belong to budget: as-published"),
        ({"noise_multipliers": {"eight": 1.0}}, "noise_multipliers: 'eight' is not an epsilon; a finite number above 0"),
        ({"noise_multipliers": {math.inf: 1.0}}, "noise_multipliers: inf is not an epsilon"),
        ({"noise_multipliers": {True: 1.0}}, "noise_multipliers: True is not an epsilon"),
        ({"noise_multipliers": {8: 1.0, "8.0": 2.0}}, "noise_multipliers: 8 and '8.0' are the same epsilon; keep one"),
        ({"budget": "proxy"}, "proxy_for_batch_size belongs to budget: proxy"),
        ({"proxy_for_batch_size": 4096}, "proxy_for_batch_size belongs to budget: proxy"),
        (
            {"mechanism": {"clip": False, "noise": False}},
            "recipes.digits.mechanism: neither clipping nor noise is what epsilon .inf means",
        ),
        (
            {"mechanism": {"noise": False}},
            "studies.quick.epsilons: inf: nothing is clipped or noised there, so the mechanism of recipe digits changes",
        ),
        ({"views": 4}, "recipes.digits.views: without augmentation it changes nothing"),
        ({"warmup": 80}, "recipes.digits.warmup: 80 steps of 80: the learning rate would never be reached for a step"),
        ({"schedule": "plateau-on-test-loss", "warmup": 5}, "recipes.digits.warmup: the plateau schedule has no warm-up"),
        (
            {"budget": "as-published", "noise_multipliers": {"8": 1.0}},
            "has no published noise multiplier for it (has: 8)",
        ),
    ],
)
def test_recipe_refusals(shipped, change, expected):
    shipped["recipes"]["digits"] |= change
    refused(shipped, expected)


def test_a_study_may_compare_recipes_and_its_claim_then_names_one(shipped):
    runs = resolve.studies_of(shipped)["headline"].runs
    assert {run.recipe_name for run in runs} == {"de-wrn", "de-wrn-as-published"}
    del shipped["claims"]["headline-wrn40"]["recipe"]
    refused(shipped, "claims.headline-wrn40.recipe: study headline has several; name one of de-wrn, de-wrn-as-published")


@pytest.mark.parametrize("part", ["clip", "noise"])
def test_a_claim_about_a_mechanism_taken_apart_says_so(shipped, part):
    shipped["recipes"]["de-wrn"]["mechanism"] = {part: False}
    refused(
        shipped,
        f"claims.headline-wrn40.recipe: runs of de-wrn are not private (mechanism: {{{part}: false}}); a claim",
    )
    shipped["claims"]["headline-wrn40"]["private"] = False
    resolve.studies_of(shipped)


def test_beside_a_whole_mechanism_its_parts_have_no_epsilon_inf(shipped):
    runs = resolve.studies_of(shipped)["mechanism"].runs
    arms = {(run.recipe_name, run.epsilon) for run in runs}
    assert arms == {("pocket", 8), ("pocket", math.inf), ("pocket-clip-only", 8), ("pocket-noise-only", 8)}
    shipped["studies"]["mechanism"]["recipe"] = ["pocket-clip-only", "pocket-noise-only"]
    shipped["claims"] = {}
    refused(shipped, "studies.mechanism.epsilons: inf: nothing is clipped or noised there")


def test_a_whole_mechanism_is_not_in_the_identity_and_a_part_of_one_is_complete(shipped):
    def first(recipe):
        shipped["recipes"]["pocket"] = recipe
        shipped["studies"].pop("mechanism", None)
        shipped["claims"] = {}
        return resolve.studies_of(shipped)["pocket"].runs[0]

    plain = dict(shipped["recipes"]["pocket"])
    run = first(plain)
    assert "mechanism" not in run.recipe
    assert run.setting("mechanism") == {"clip": True, "noise": True}
    for whole in ({}, {"clip": True}, {"noise": True, "clip": True}):
        assert first(plain | {"mechanism": whole}).json() == run.json()
    parts = [first(plain | {"mechanism": part}) for part in ({"clip": False}, {"clip": False, "noise": True})]
    assert parts[0].recipe["mechanism"] == {"clip": False, "noise": True}
    assert parts[0].json() == parts[1].json() != run.json()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"study": "clam"}, "unknown study 'clam' (did you mean 'claim'?)"),
        ({"variant": "on-skip"}, "unknown variant of its study 'on-skip'"),
        ({"epsilon": 5}, "5 is not an epsilon of study claim"),
    ],
)
def test_claim_refusals(shipped, change, expected):
    shipped["claims"]["scalenorm-helps-eps8"] |= change
    refused(shipped, expected)


def test_optimizer_arguments_are_torchs():
    for name, arguments in recipes.OPTIMIZER_ARGUMENTS.items():
        assert set(arguments) <= set(inspect.signature(recipe.OPTIMIZERS[name]).parameters)


def test_family_facts_agree_with_the_built_networks(shipped):
    shipped["archs"] |= SMALL_ARCHS
    for arch in shipped["archs"]:
        model = resolve.model_of(shipped, arch, "scalenorm")
        family = families.FAMILIES[model.family]
        with torch.device("meta"):  # shapes only
            network = models.build(model, 3, 10)
            by_stage = [models.sites(models.build(replace(model, stages=(stage,)), 3, 10)) for stage in model.stages]
        norms = {layer.num_channels for layer in network.modules() if isinstance(layer, torch.nn.GroupNorm)}
        assert norms == family.norm_channels(model.options)
        sums = [{layer.num_channels for *_, layer in filled} for filled in by_stage]
        assert sums == [{channels} for channels in family.sum_channels(model.options)]
        blocks = [module for module in network.modules() if isinstance(module, models.ResidualBlock)]
        assert sum(map(len, by_stage)) == len(blocks)
        assert any(not isinstance(block.act, torch.nn.Identity) for block in blocks) == family.activation_after_sum


@pytest.mark.parametrize("arch", sorted(SMALL_ARCHS))
@pytest.mark.parametrize("stages", [["first"], ["last"], "all"])
def test_equal_networks_are_those_with_equal_layers(shipped, arch, stages):
    """The canonical text against the layers of the built networks, for every pair of norms at the sum."""
    shipped["archs"] |= SMALL_ARCHS
    norms = [{"groups": count} for count in (1, 8, 16, 32, 64, 128, 1024)] + [{"kind": "layer"}, {"kind": "instance"}]
    norms += [{"affine": False}, {"kind": "instance", "affine": False}]
    models_of, layers = {}, {}
    for number, norm in enumerate(norms):
        for place, keys in (("all", {"norm": norm}), ("sum", {"sites": {"sum": norm}, "stages": stages})):
            name = f"{place}-{number}"
            shipped["variants"][name] = keys
            models_of[name] = resolve.model_of(shipped, arch, name)
            with torch.device("meta"):
                layers[name] = repr(models.build(models_of[name], 3, 10))
    same = 0
    for one, first in models_of.items():
        for two, second in models_of.items():
            equal = layers[one] == layers[two]
            assert (canonical.network(first) == canonical.network(second)) == equal, (one, two)
            same += equal and one != two
    assert same  # 1024 groups and instance, for two


@pytest.mark.parametrize(
    ("epsilon", "text"),
    [
        (8, "8"), (8.0, "8"), (7.42, "7.42"), (math.inf, "inf"), (0.5, "0.5"), (10.0, "10"), (2.65680440, "2.6568044"),
        (1.0e-5, "0.00001"), (1000000, "1000000"), (1e22, "10000000000000000000000"), (0.1 + 0.2, "0.30000000000000004"),
    ],
)  # fmt: skip
def test_epsilon_text(shipped, epsilon, text):
    """All digits, and no sign that the paths of the workflow have no room for."""
    assert spec.epsilon_text(epsilon) == text
    assert float(text) == epsilon
    assert re.fullmatch(r"[0-9.]+|inf", text)
    shipped["studies"]["pocket"]["epsilons"] = [epsilon]
    shipped["claims"] = {}
    run = resolve.studies_of(shipped)["pocket"].runs[0]
    assert run.path.parts[-2] == f"eps{text}"
    assert spec.Run.from_json(run.json()).epsilon == epsilon
