"""What once passed `check` and failed in a job, or failed in words that did not help: each is refused where it stands."""

import math
import re

import pytest
import torch
import yaml

from bench import ROOT, BenchError, models
from bench.__main__ import main
from bench.dp.accounting import domain
from bench.plan import config, datasets, resolve
from bench.training import recipe
from tests.factory import SMALL_ARCHS
from tests.plan.test_config import TEXT, load

SCHEMA = yaml.safe_load(config.SCHEMA.read_text())


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("    steps: 80", "    steps: 80.0", "steps: 80.0 has a decimal point, a whole number is expected; write 80"),
        ("    steps: 80", "    steps: 1e3", "steps: '1e3' is text, a number is expected; write 1000"),
        ("    steps: 80", "    steps: 1.0e3", "steps: '1.0e3' is text, a number is expected; write 1000"),
        ("delta: 1.0e-4", "delta: 1.0e4x", "delta: '1.0e4x' is text, a number is expected"),
        ("delta: 1.0e-4", "delta: '1.0e-4'", "delta: '1.0e-4' is text, a number is expected; remove the quotes"),
        ("lr: 4.0e-3}", "lr: 4e3}", "lr: '4e3' is text, a number is expected; write 4.0e+3"),
        ("    seeds: 8\n", "    seeds: 3.0\n", "seeds: 3.0 has a decimal point, a whole number is expected; write 3"),
        ("    seeds: 8\n", "    seeds: [08]\n", "seeds.0: '08' is text, a number is expected; write 8"),
        ("    seeds: 8\n", "    seeds: [010]\n", "'010' is read as an octal number; write 10"),
        ("    seeds: 8\n", "    seeds: 1:20\n", "'1:20' is read as a number of base 60; put text into quotes, or write"),
        ("    seeds: 8\n", "    seeds: 10000000\n", "seeds: 10000000 is greater than the maximum of 1000; choose a smaller"),
        ("    steps: 80", f"    steps: 1{'0' * 400}", "is no number that is read here; write its decimal digits"),
        ("    steps: 80", "    steps: 1000001", "1000001 is greater than the maximum of 1000000"),
        ("batch_size: 192", "batch_size: 1.0e+300", "1e+300 is no number of this world; choose one of 1e-18 to 1e18"),
        ("delta: 1.0e-4", "delta: 1.0e-13", "delta: 1e-13 is less than the minimum of 1e-12"),
        ("    statement: ScaleNorm", '    statement: "a\\a" #', "statement: 'a\\x07': one line without control characters"),
        ("  scalar:   ", '  "scalar\\n": ', "'scalar\\n': names become paths"),
        ("  scalar:   ", "  on: ", "key 'on' is read as true or false; put it into quotes"),
        ("  scalar:   ", "  8: ", "key '8' is read as a number; put it into quotes"),
        ("    without_gpu: run", "    without_gpu: no", "False is not one of run, on-request, skip"),
        ("defaults:\n", "x: &a [*a]\ndefaults:\n", "an alias within what it stands for has no end"),
        ("    question: Does ever", "    question: 2026-13-45 # ", "2026-13-45 is read as a date; put text into quotes"),
        ("    steps: 80", "    steps: !!int x", "'x' is no number that is read here"),
        ("    steps: 80", "    steps: !!python/name:os.system ", "tag 'python/name:os.system' means nothing here; remove it"),
    ],
)
def test_yaml_and_numbers(tmp_path, old, new, expected):
    assert old in TEXT
    with pytest.raises(BenchError, match=re.escape(expected)) as refused:
        load(tmp_path, TEXT.replace(old, new, 1))
    assert re.match(r".*config\.yaml:\d+: ", str(refused.value))


@pytest.mark.parametrize("text", ["", "# machine: {device: cpu}\n"])
def test_a_local_file_may_be_empty(tmp_path, text):
    assert load(tmp_path, TEXT, text) == load(tmp_path, TEXT)


def test_a_control_character_is_named_by_its_line(tmp_path):
    text = TEXT.replace("    steps: 80", "    steps: 80 # \x07", 1)
    with pytest.raises(BenchError, match=rf"config\.yaml:{text[: text.index(chr(7))].count(chr(10)) + 1}: a control char"):
        load(tmp_path, text)


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        ({"name": "sgd", "lr": 4, "nesterov": True}, "nesterov: it needs a momentum above 0 and no dampening"),
        ({"name": "sgd", "lr": 4, "momentum": True}, "momentum: True: a number from 0 is expected"),
        ({"name": "sgd", "lr": 4, "nesterov": 1}, "nesterov: 1: true or false is expected"),
        ({"name": "adam", "lr": 4, "betas": 0.9}, "betas: 0.9: two numbers from 0 to below 1 are expected, say [0.9, 0.999]"),
        ({"name": "adam", "lr": 4, "betas": [0.9, 1]}, "betas: [0.9, 1]: two numbers from 0 to below 1"),
        ({"name": "adam", "lr": 4, "weight_decay": -1}, "weight_decay: -1: a number from 0 is expected"),
        ({"name": "adam", "lr": 4, "eps": [1e-8]}, "eps: [1e-08]: a number from 0 is expected"),
        ({"name": "adam", "lr": 4, "eps": "1e-8"}, "eps: '1e-8' is text, a number is expected; write 1.0e-8"),
    ],
)
def test_what_an_optimiser_does_not_take(shipped, optimizer, expected):
    shipped["recipes"]["digits"]["optimizer"] = optimizer
    with pytest.raises(BenchError, match=re.escape(f"recipes.digits.optimizer.{expected}")):
        resolve.studies_of(shipped)


@pytest.mark.parametrize(
    "optimizer",
    [
        {"name": "sgd", "lr": 4, "momentum": 0.9, "nesterov": True, "weight_decay": 0, "dampening": 0},
        {"name": "adam", "lr": 0.1, "betas": [0.0, 0.999], "eps": 0},
        {"name": "nadam", "lr": 1, "momentum_decay": 4e-3},
    ],
)
def test_what_it_takes_torch_takes(shipped, optimizer):
    shipped["recipes"]["digits"]["optimizer"] = optimizer
    resolve.studies_of(shipped)
    weight = torch.nn.Parameter(torch.ones(2))
    weight.grad = torch.ones(2)
    recipe.make_optimizer(shipped["recipes"]["digits"], [weight], torch.device("cpu")).step()
    assert weight.isfinite().all()


def test_the_names_of_steps_are_those_of_the_workflow(shipped):
    rules = {
        name
        for path in (ROOT / "Snakefile", *(ROOT / "workflow/rules").glob("*.smk"))
        for name in re.findall(r"^rule (\w+):", path.read_text(), re.M)
    }
    assert rules == resolve.TARGETS
    shipped["claims"] = {}
    for name in rules:
        shipped["studies"] = {name: shipped["studies"].popitem()[1]}
        with pytest.raises(BenchError, match=f"studies.{name}: {name} is the name of a step of the pipeline; rename"):
            resolve.studies_of(shipped)


@pytest.mark.parametrize(
    ("name", "keys", "expected"),
    [
        ("cifar10", {"image_size": 16}, "datasets.cifar10.image_size: source cifar10 has images of 32 pixels; set 32"),
        ("cifar10", {"mean": [0.5]}, "datasets.cifar10.mean: 1 values; images of cifar10 have 3 channels"),
        ("digits", {"std": [0.5] * 3}, "datasets.digits.std: 3 values; images of digits have 1 channels"),
        ("imagenette", {"mean": [0.5] * 2}, "datasets.imagenette.mean: 2 values; images of imagenette have 1 or 3 channels"),
        ("imagenette", {"mean": [0.5]}, "datasets.imagenette.std: 3 values, and mean has 1"),
    ],
)
def test_what_no_image_of_a_data_set_can_be(shipped, name, keys, expected):
    shipped["datasets"][name] |= keys
    with pytest.raises(BenchError, match=re.escape(expected)):
        resolve.studies_of(shipped)


def test_a_batch_larger_than_a_known_data_set(shipped):
    shipped["recipes"]["digits"]["batch_size"] = 1438
    with pytest.raises(BenchError, match=r"recipes\.digits\.batch_size: 1438 exceeds the 1,437 training samples"):
        resolve.studies_of(shipped)


def test_sizes_that_random_batches_make(shipped):
    shipped["datasets"]["digits"]["image_size"] = 8
    shipped["studies"] = {"quick": shipped["studies"]["quick"] | {"variants": ["batch"], "epsilons": [math.inf]}}
    shipped["claims"] = {}
    with pytest.raises(
        BenchError, match="variant batch on resnet9-w8: images of 8 pixels leave its last norms one value each"
    ):
        resolve.studies_of(shipped)


@pytest.mark.parametrize("arch", SMALL_ARCHS)
@pytest.mark.parametrize("variant", ["baseline", "scalenorm", "groups-32", "instance", "layer", "batch", "none"])
def test_too_small_is_what_torch_refuses_of_one_sample(shipped, arch, variant):
    """At every size of image up to 40 pixels: the built network on a batch of one sample, in training mode."""
    shipped["archs"][arch] = SMALL_ARCHS[arch]
    model = resolve.model_of(shipped, arch, variant)
    network = models.build(model, 3, 10).train()
    for size in (8, 9, 15, 16, 17, 31, 32, 33, 40):
        refused = False
        try:
            network(torch.zeros(1, 3, size, size))
        except ValueError as error:
            assert "Expected more than 1 value per channel" in str(error)
            refused = True
        assert refused == (datasets.too_small(model, {"image_size": size}) is not None), size


def test_the_limits_of_the_schema_are_those_of_the_accountants():
    keys = SCHEMA["properties"]["recipes"]["additionalProperties"]["properties"]
    noise = keys["noise_multipliers"]["additionalProperties"]
    assert (noise["minimum"], noise["maximum"]) == domain.NOISE["pld"]
    assert keys["steps"]["maximum"] == domain.STEPS["pld"]
    assert keys["delta"]["minimum"] == domain.DELTA["pld"]


def test_the_sizes_of_known_data_sets(tmp_path, monkeypatch, shipped):
    from bench import data

    monkeypatch.chdir(tmp_path)
    found = data.load("digits", shipped["datasets"]["digits"])
    assert datasets.TRAIN_SIZES["digits"] == len(found.train_labels)
    assert datasets.CHANNELS["digits"] == found.train_images.shape[1]


@pytest.mark.parametrize(
    ("keys", "epsilons", "expected"),
    [
        ({}, [1e-4], "accountant: rdp, delta 0.0001, 80 steps at rate 0.133612): out of reach, noise multipliers end at"),
        ({"accountant": "pld"}, [1e7], "met with hardly any noise, below 0.05; use epsilon .inf, a smaller one or more"),
    ],
)
def test_check_refuses_an_epsilon_that_no_noise_meets(shipped, tmp_path, monkeypatch, capsys, keys, epsilons, expected):
    monkeypatch.chdir(tmp_path)
    shipped["recipes"]["digits"] |= keys
    shipped["studies"] = {"quick": shipped["studies"]["quick"] | {"epsilons": epsilons}}
    shipped["claims"] = {}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(shipped))
    assert main(["check"]) == 1
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("quick, pocket", ["quick", "pocket"]),
        ("quick,", ["quick"]),
        ("", []),
        (None, []),
        (1, ["1"]),
        (["a", " b"], ["a", "b"]),
    ],
)
def test_studies_as_snakemake_hands_them_over(value, names):
    assert config.names_asked(value) == names
