"""The shipped configuration, mutated: a refusal is sentences that help, and what is accepted trains.

Hypothesis draws types, names, ranges, duplicates and what YAML makes of innocent texts. 200 mutations by default, 2,000 under
the marker `long`.
"""
# ruff: noqa: RUF001

import ast
import dataclasses
import difflib
import functools
import math
import re
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from bench import ROOT, BenchError, data
from bench.__main__ import main
from bench.dp import accounting
from bench.plan import config, datasets, resolve, spec
from bench.plan.families import FAMILIES
from bench.training import recipe
from bench.training.trainer import Trainer
from tests.training.test_loop import MACHINE

TEXT = (ROOT / "config.yaml").read_text(encoding="utf-8")
TREE = config.load(ROOT / "config.yaml", local=False)
RUNS = {run.id: run.json() for study in resolve.studies_of(TREE).values() for run in study.runs}

VALUES = [
    None, True, False, 0, 1, -1, 2, 3, 7, 8, 16, 33, 0.5, 1.5, 80.0, -0.5, 1e-30, 1e30, 10**20, 10**400, 1e-13, 0.999, 1e6,
    math.nan, math.inf, -math.inf, "", " ", "x", "08", "1e3", "1.0e3", "1e-4", "1e400", "inf", "nan", "yes", "8", "8.0", "٣",
    "１２",
    "scalenοrm", "baselin", "Resnet9", "resnet9-w8 ", "a\nb", "a\x07", "\ud800", "\u2028", "../x", "x" * 300, [], {}, [1],
    [0.9, 0.99], ["baseline"], ["x", "x"], {"a": 1}, [[]], {1: 2}, {True: 1}, "report", "all", [8, 8.0], [0.9], [0, math.inf],
]  # fmt: skip
SCALARS = [
    "010", "0x1f", "0b1", "1:20", "1:20.5", "1_000", "1e3", "1.0e3", "1.0e+3", "+.5", "5.", "-0", ".nan", ".inf", "-.inf",
    "~", "null", "yes", "No", "on", "OFF", "y",
    "'8'", '"8"', "!!int 8", "!!int x", "!!str 8", "!!float 1", "!!binary x", "!!set {}",
    "!!python/name:os.system", "!x 1", "&a 1", "*a", "&a [*a]", "2026-01-01", "2026-13-45", "[", "{", "]", "|", ">-", "\t1",
    "\x07",
    '"\\a"', '"\\0"', '"\\ud800"', "１２", "٣", "“8”", "1,000", "1.000,5", "1e400", "1.0e+400", "9" * 5000, "9" * 40, "?",
    "<<: 1", "%TAG", "@x", "`x`", "a: b", "- 1", "[1, 1]", "{a: 1, a: 2}", "é", "baseline # x", "#", "<<", "=",
]  # fmt: skip
DOCUMENTS = [
    b"", b"\n",
    b"# nothing\n", b"---\n", b"---\n---\n", b"[]", b"- 1", b"null", b"~", b"text", b"8", b"{}", b"a: 1\na: 2", b"\xff\xfe",
    b"a: \x00", b"\xe9: 1", "a: \u2028".encode(), b"[" * 3000, b"{a: " * 3000, b"x: &a [*a]", b"? [1]\n: 2", b"? {a: 1}\n: 2",
    b"%YAML 9.9\n---\na: 1", b"a: b: c", b"\ta: 1", b"a: 'x", b"<<: {a: 1}", b"<<: 3",
    b"a: &a [x, x]\n" + b"\n".join(b"%c: &%c [%s]" % (98 + i, 98 + i, b", ".join([b"*%c" % (97 + i)] * 9)) for i in range(9)),
    ("\ufeff" + TEXT).encode(), TEXT.encode("utf-16"), TEXT.replace("\n", "\r\n").encode(),
]  # fmt: skip


def paths(tree, keys: tuple = ()) -> list[tuple]:
    """The keys of everything in a tree."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path for key, value in items for path in ((*keys, key), *paths(value, (*keys, key)))]


PATHS = paths(TREE)
LINES = [number for number, line in enumerate(TEXT.splitlines()) if re.search(r": \S", line.partition("#")[0])]


def at(tree, keys):
    return functools.reduce(lambda inside, key: inside[key], keys, tree)


def changed(tree, keys: tuple, change) -> dict:
    """A copy of `tree` in which `change(container, key)` was done at `keys`; nothing is shared, so no anchors are dumped."""
    tree = unshared(tree)
    change(at(tree, keys[:-1]), keys[-1])
    return tree


def unshared(value):
    if isinstance(value, dict):
        return {key: unshared(item) for key, item in value.items()}
    return [unshared(item) for item in value] if isinstance(value, list) else value


def dumped(tree) -> bytes:
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=False).encode()


def put(value):
    return lambda inside, key: inside.__setitem__(key, value)


def renamed(name):
    def change(inside, key):
        if isinstance(inside, dict):
            items = [(name if k == key else k, v) for k, v in inside.items()]
            inside.clear()
            inside.update(items)
        else:
            inside.append(inside[key])

    return change


@st.composite
def trees(draw) -> bytes:
    """The shipped tree with one to two values replaced, removed, renamed or doubled."""
    tree = TREE
    for _ in range(draw(st.sampled_from([1, 1, 1, 2]))):
        # a section, then a place in it: claims are as likely as recipes
        section = draw(st.sampled_from(sorted(TREE)))
        keys = draw(st.sampled_from([keys for keys in PATHS if keys[0] == section]))
        value = at(TREE, keys)
        like = [at(TREE, other) for other in PATHS if other[-1] == keys[-1]]
        change = draw(
            st.one_of(
                st.sampled_from(VALUES).map(put),
                st.sampled_from(like).map(put),
                st.just(lambda inside, key: inside.__delitem__(key)),
                st.sampled_from(
                    [f"{keys[-1]}x", f"{keys[-1]}"[::-1], "Ab", "ѕum", True, 8, None, "a\n", "a b", "x" * 99]
                ).map(renamed),
                *(
                    [st.sampled_from([value * 2, value / 2, -value, value + 1, 0.1 * value]).map(put)]
                    if is_number(value)
                    else []
                ),
            )
        )
        try:
            tree = changed(tree, keys, change)
        except (KeyError, IndexError, TypeError, AttributeError):  # the first change has removed the second's place
            continue
    return dumped(tree)


def is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


@st.composite
def texts(draw) -> bytes:
    """The shipped text with a value, a line or a character changed."""
    lines = TEXT.splitlines()
    number = draw(st.sampled_from(LINES))
    line = lines[number]
    kind = draw(st.sampled_from(["value", "value", "value", "inside", "doubled", "removed", "indented", "character"]))
    if kind == "value":
        lines[number] = f"{line.partition(': ')[0]}: {draw(st.sampled_from(SCALARS))}"
    elif kind == "inside" and (words := list(re.finditer(r"(?<=[\[{:,] )[^\s,\[\]{}#]+|(?<=[\[{])[^\s,\[\]{}:#]+", line))):
        word = draw(st.sampled_from(words))
        lines[number] = line[: word.start()] + draw(st.sampled_from(SCALARS)) + line[word.end() :]
    elif kind == "doubled":
        lines.insert(number, line)
    elif kind == "removed":
        del lines[number]
    elif kind == "indented":
        lines[number] = draw(st.sampled_from([" ", "\t", "  ", "\u00a0"])) + line
    else:
        place = draw(st.integers(0, len(line)))
        lines[number] = line[:place] + draw(st.sampled_from("\t:#{}[]&*!|>'\"%@`-?,\x07\u200b\u00a00é")) + line[place + 1 :]
    return "\n".join(lines).encode()


@st.composite
def overlays(draw) -> bytes:
    """A config.local.yaml."""
    tree = {key: unshared(TREE[key]) for key in draw(st.sampled_from([["machine"], ["datasets"], ["machine", "datasets"]]))}
    keys = draw(st.sampled_from(paths(tree)))
    return dumped(changed(tree, keys, put(draw(st.sampled_from(VALUES)))))


mutations = st.one_of(
    st.tuples(st.just("config.yaml"), st.one_of(trees(), trees(), trees(), texts(), texts(), st.sampled_from(DOCUMENTS))),
    st.tuples(st.just("config.local.yaml"), st.one_of(overlays(), st.sampled_from(DOCUMENTS))),
)

SENTENCE = re.compile(r"\S*config(?:\.local)?\.yaml(?::\d+)?(?::\d+)?: (?P<rest>\S.*)")
WAY_OUT = re.compile(
    r"; \w|did you mean|\(known: |\(none of |is expected|are expected|is not one of|names become paths|write |is missing"
    r"|its own keys|only|to 40|are known|has stages"
)
FOLLOWED = re.compile(r"; write (?P<write>[-+.\d]\S*)$|\(did you mean '(?P<mean>[^']+)'\?\)|; remove the (?P<quotes>quotes)$")


def answer(folder: Path, name: str, content: bytes, capsys) -> tuple[int, list[str]]:
    """(exit code, lines on stderr) of `bench runs` on this file; nothing in the folder may change."""
    files = {"config.yaml": TEXT.encode(), "config.local.yaml": b"{}"} | {name: content}
    for file, text in files.items():
        (folder / file).write_bytes(text)
    code = main(["--config", str(folder / "config.yaml"), "runs"])
    printed = capsys.readouterr()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
    assert "Traceback" not in printed.err
    return code, printed.err.splitlines()


def follow(name: str, content: bytes, line: str) -> bytes | None:
    """The file after what a sentence advises was done; None where it advises nothing that can be done without thinking."""
    advice, where = FOLLOWED.search(line), re.search(r"\.yaml:(\d+): '([^']*)' is read as", line)
    if not advice:
        return None
    if where:  # of a token in a line
        lines = content.decode().split("\n")
        number = int(where[1]) - 1
        if where[2] not in lines[number]:
            return None
        lines[number] = lines[number].replace(where[2], advice["write"], 1)
        return "\n".join(lines).encode()
    tree = unshared(yaml.load(content, Loader=config.LOADER))
    parts = SENTENCE.fullmatch(line)["rest"].split(": ")
    keys = [int(key) if key.isdigit() else key for key in parts[0].split(".")]
    try:
        container = at(tree, keys[:-1])
        old = container[keys[-1]]
        if advice["mean"] and (unknown := re.search(r"unknown key '([^']*)'", line)):
            renamed(advice["mean"])(container, unknown[1])
        elif advice["mean"] and isinstance(old, list):
            wrong = ast.literal_eval(re.search(r"'[^']*'", line)[0])  # a tab stands there as \t
            container[keys[-1]] = [advice["mean"] if item == wrong else item for item in old]
        else:
            container[keys[-1]] = advice["mean"] or yaml.safe_load(old if advice["quotes"] else advice["write"])
    except (KeyError, IndexError, TypeError):  # a place that merged keys or the other file have
        return None
    return dumped(tree)


@functools.cache
def images(channels: int, size: int) -> data.Dataset:
    torch.manual_seed(0)
    pixels, labels = torch.randint(0, 256, (24, channels, size, size), dtype=torch.uint8), torch.arange(24) % 10
    return data.Dataset(
        name="noise", label="Noise", official=False, digest="0", classes=10, mean=(0.5,) * channels, std=(0.3,) * channels,
        train_images=pixels, train_labels=labels, test_images=pixels[:4], test_labels=labels[:4],
    )  # fmt: skip


@functools.cache
def noise_of(*budget) -> float:
    sigma = accounting.calibrate(*budget)
    accounting.ledger(sigma, *budget[1:4])
    return sigma


def small(run: spec.Run) -> tuple[spec.Run, int]:
    """The run with the fewest layers and channels that its keys allow, and the smallest images."""
    model, family = run.model, FAMILIES[run.model.family]
    norms = [norm for norm in (model.norm, *model.sites.values()) if isinstance(norm, spec.Norm) and norm.groups]
    options = dict(model.options)
    if options.get("depth", 0) > 18:
        options["depth"] = {"wide_resnet": 10, "resnet": options["depth"]}[model.family]
    for width in (1, 2, 4, 8, 16, 32, options["width"]):
        narrow = options | {"width": min(width, options["width"])}
        if all(c % min(norm.groups, c) == 0 for norm in norms for c in family.norm_channels(narrow)):
            break
    model = dataclasses.replace(model, options=narrow)
    sizes = (size for size in (8, 16, 32, 64) if not datasets.too_small(model, {"image_size": size}))
    size = next(sizes, run.dataset["image_size"])
    keys = {"batch_size": min(8, run.recipe["batch_size"]), "steps": 2, "evaluate_every": 2}
    keys |= {"views": min(2, run.recipe["views"])} if "views" in run.recipe else {}
    keys |= {"warmup": min(1, run.recipe["warmup"])} if "warmup" in run.recipe else {}
    return dataclasses.replace(run, model=model, recipe=run.recipe | keys), size


def trains(folder: Path) -> None:
    """What was accepted resolves, meets its budget and takes a step: a run that the mutation has changed, or the first."""
    content = config.load(folder / "config.yaml")
    runs = [run for study in resolve.studies_of(content).values() for run in study.runs]
    if not runs:
        return
    run = next((run for run in runs if RUNS.get(run.id) != run.json()), runs[0])
    assert spec.Run.from_json(run.json()) == run
    size = datasets.TRAIN_SIZES.get(run.dataset["source"], 9469)
    sigma = 0.0
    if math.isfinite(run.epsilon):
        try:
            recipe.reach(run, size)
        except BenchError as error:  # `check` says so
            assert re.search(r"out of reach|hardly any noise|exceeds the", str(error))
            return
        if run.recipe["budget"] == "as-published":
            sigma = run.recipe["noise_multipliers"][spec.epsilon_text(run.epsilon)]
        else:
            rate = run.recipe.get("proxy_for_batch_size", run.recipe["batch_size"]) / size
            sigma = noise_of(run.epsilon, rate, *(run.recipe[key] for key in ("steps", "delta", "accountant")))
    run, pixels = small(run)
    machine = MACHINE | {key: content["machine"][key] for key in ("engine", "physical_batch")}
    if run.setting("precision") == "tf32":  # on GPUs
        run = dataclasses.replace(run, recipe=run.recipe | {"precision": "float32"})
    trainer = Trainer(run, images(len(run.dataset["mean"]), pixels), sigma, machine)
    trainer.take_step()


def examine(folder: Path, name: str, content: bytes, capsys) -> str:
    """'accepted' or 'refused', and either as it should be; AssertionError says for which file it was not."""
    lines: list[str] = []
    try:
        return _examine(folder, name, content, capsys, lines)
    except Exception as error:
        before = TEXT if b"#" in content else dumped(unshared(TREE)).decode()
        diff = difflib.unified_diff(
            before.splitlines(), content.decode(errors="replace").splitlines(), name, name, "", "", 0, ""
        )
        told = "\n".join([*list(diff)[:12], *lines, f"{type(error).__name__}: {error}"])
        raise AssertionError(told) from error


def _examine(folder: Path, name: str, content: bytes, capsys, told: list[str]) -> str:
    code, lines = answer(folder, name, content, capsys)
    told += lines
    if code == 0:
        assert not lines
        trains(folder)
        return "accepted"
    assert code == 1
    assert lines
    for line in lines:
        sentence = SENTENCE.fullmatch(line)
        assert sentence, line
        assert len(line) < 1500, line
        assert WAY_OUT.search(sentence["rest"]), line
        if (better := follow(name, content, line)) is not None:
            assert line not in answer(folder, name, better, capsys)[1], f"followed in vain: {line}"
    return "refused"


def fuzz(folder: Path, capsys, count: int) -> None:
    seen = {"accepted": 0, "refused": 0}

    @settings(
        max_examples=count,
        phases=[Phase.generate],  # of trees as large as this one a shrunk example takes minutes; the difference is told
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    @given(mutations)
    def one(mutation):
        seen[examine(folder, *mutation, capsys)] += 1

    one()
    assert seen["accepted"] > count / 20, seen  # a fuzzer of refusals only would test half
    print(seen)


def test_two_hundred_mutations(tmp_path, capsys):
    fuzz(tmp_path, capsys, 200)


@pytest.mark.long
def test_two_thousand_mutations(tmp_path, capsys):
    fuzz(tmp_path, capsys, 2000)


@pytest.mark.parametrize("content", DOCUMENTS, ids=range(len(DOCUMENTS)))
def test_whole_documents(content, tmp_path, capsys):
    for name in ("config.yaml", "config.local.yaml"):
        examine(tmp_path, name, content, capsys)


@pytest.mark.long
@pytest.mark.parametrize("value", SCALARS, ids=range(len(SCALARS)))
@pytest.mark.parametrize("line", ["    steps: 80", "    delta: 1.0e-4", "    without_gpu: run"])
def test_a_value_as_yaml_reads_it(line, value, tmp_path, capsys):
    key = line.partition(":")[0]
    examine(tmp_path, "config.yaml", TEXT.replace(line, f"{key}: {value}", 1).encode(), capsys)
