"""Wrong configurations get a sentence each: place, value, way out; all of them at once."""

import re

import pytest

from bench import ROOT, BenchError
from bench.plan import config

TEXT = (ROOT / "config.yaml").read_text()


def load(tmp_path, text: str, local: str | None = None) -> dict:
    (tmp_path / "config.yaml").write_text(text)
    if local is not None:
        (tmp_path / "config.local.yaml").write_text(local)
    return config.load(tmp_path / "config.yaml")


def line_of(text: str, part: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), 1) if part in line)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("delta: 1.0e-4", "delta: 1e-4", "recipes.digits.delta: '1e-4' is text, a number is expected; write 1.0e-4"),
        ("{sum: shared}", "{sum: shred}", "'shred' is not one of norm, shared, scalar (did you mean 'shared'?)"),
        ("{sum: scalar}", "{sun: scalar}", "variants.scalar.sites.sun: unknown key 'sun' (did you mean 'sum'?)"),
        ("{kind: layer}}  ", "{kind: lyer}}  ", "variants.layer.norm.kind: 'lyer' is not one of group, layer"),
        ("{groups: 2}", "{groups: 0}", "variants.groups-2.norm.groups: 0 is less than the minimum of 1"),
        (
            "epsilons: [1, 3, 8, .inf]",
            "epsilons: [1, 3, 8, inf]",
            "'inf' is text, a number is expected; YAML writes infinity as .inf",
        ),
        ("  scalar:   ", "  Scalar_x: ", "'Scalar_x': names become paths: small letters, digits and '-' only"),
        ("epsilons: [1, 3, 8, .inf]", "epsilons: [1, .nan]", "studies.quick.epsilons.1: .nan is not a number; write one"),
        (
            "epsilons: [1, 3, 8, .inf]",
            "epsilons: [0]",
            "studies.quick.epsilons.0: 0 is less than or equal to the minimum",
        ),
        ("epsilons: [1, 3, 8, .inf]", "epsilons: [-.inf]", "studies.quick.epsilons.0: -inf is less than or equal to"),
        ("batch_size: 192", "batch_size: .nan", "recipes.digits.batch_size: .nan is not a number"),
        ("lr: 4.0e-3}", "lr: .inf}", "recipes.digits.optimizer.lr: .inf is not a finite number; only an epsilon and"),
        ("lr: 4.0e-3}", "lr: 1, momentum_decay: .nan}", "recipes.digits.optimizer.momentum_decay: .nan is not a number"),
        ("    steps: 80\n", "", "recipes.digits: 'steps' is a required property"),
        (
            "name: nadam, lr: 4.0e-3",
            "name: nadm, lr: 4.0e-3",
            "'nadm' is not one of sgd, nadam, adam (did you mean 'nadam'?)",
        ),
    ],
)
def test_sentence(tmp_path, old, new, expected):
    assert TEXT.count(old) >= 1
    with pytest.raises(BenchError, match=re.escape(expected)) as error:
        load(tmp_path, TEXT.replace(old, new, 1))
    assert str(error.value).startswith(str(tmp_path / "config.yaml"))


def test_the_line_is_that_of_the_key(tmp_path):
    text = TEXT.replace("delta: 1.0e-4", "delta: 1e-4")
    with pytest.raises(BenchError, match=rf"config.yaml:{line_of(text, 'delta: 1e-4')}: recipes.digits.delta"):
        load(tmp_path, text)


def test_the_line_of_a_merged_key_is_where_it_is_written(tmp_path):
    text = TEXT.replace("steps: 384 ", "steps: 3.5 ", 1)
    with pytest.raises(BenchError) as error:
        load(tmp_path, text)
    line = line_of(text, "steps: 3.5")
    for heir in ("pocket", "pocket-lr-1e-3", "pocket-bf16"):
        assert f"config.yaml:{line}: recipes.{heir}.steps: " in str(error.value)


@pytest.mark.parametrize("value", [".nan", "0", "-1"])
def test_an_epsilon_that_is_none_is_refused_with_its_line(tmp_path, value):
    text = TEXT.replace("epsilons: [1, 3, 8, .inf]", f"epsilons:\n      - 8\n      - {value}", 1)
    with pytest.raises(BenchError, match=rf"config.yaml:{line_of(text, f'      - {value}')}: studies.quick.epsilons.1: "):
        load(tmp_path, text)


def test_all_errors_at_once(tmp_path):
    text = TEXT.replace("epsilons: [1, 3, 8, .inf]", "epsilons: [1, 3, 8, 0]", 1).replace("{sum: scalar}", "{sun: scalar}")
    with pytest.raises(BenchError) as error:
        load(tmp_path, text)
    assert len(str(error.value).splitlines()) == 2


def test_broken_yaml_has_line_and_column(tmp_path):
    with pytest.raises(BenchError, match=r"config\.yaml:2:\d+: "):
        load(tmp_path, "a: 1\nb: [1, }\n")


def test_a_key_written_twice_is_refused(tmp_path):
    text = TEXT.replace("  scalenorm:  ", "  baseline:  ", 1)
    with pytest.raises(BenchError, match="key 'baseline' stands here a second time"):
        load(tmp_path, text)


@pytest.mark.parametrize(("text", "expected"), [("", "a mapping of keys is expected"), ("- 1", "a mapping of keys")])
def test_not_a_mapping(tmp_path, text, expected):
    with pytest.raises(BenchError, match=expected):
        load(tmp_path, text)


def test_missing_file(tmp_path):
    with pytest.raises(BenchError, match="no such file"):
        config.load(tmp_path / "config.yaml")


def test_local_file_is_merged_over(tmp_path):
    local = "datasets: {cifar10: {path: /somewhere, source: image_folder}}\nmachine: {threads: 2}\n"
    loaded = load(tmp_path, TEXT, local)
    assert loaded["datasets"]["cifar10"]["path"] == "/somewhere"
    assert loaded["datasets"]["cifar10"]["image_size"] == 32
    assert loaded["machine"]["threads"] == 2
    assert loaded["machine"]["device"] == "auto"


def test_local_file_cannot_change_what_decides_numbers(tmp_path):
    with pytest.raises(BenchError, match="only `datasets` and `machine` may differ"):
        load(tmp_path, TEXT, "recipes: {}\n")


def test_error_in_the_local_file_names_it(tmp_path):
    with pytest.raises(
        BenchError, match=r"config\.local\.yaml:1: machine\.thread: unknown key 'thread' \(did you mean 'threads'"
    ):
        load(tmp_path, TEXT, "machine: {thread: 2}\n")


def test_a_list_of_what_is_known_is_one_line():
    assert config.did_you_mean("x", ["pocket", "a\nb"]) == r" (known: 'a\nb', pocket)"
