"""Code of the user as a network and as a data set: as docs/extending.md says it, and each way in which it can be wrong."""

import json
import re
import sys
from pathlib import Path

import pytest
import torch
import yaml

from bench import ROOT, BenchError, data, models, plugins, source
from bench.__main__ import main
from bench.dp import admission, gradients
from bench.dp.sampling import generator
from bench.evidence import records
from bench.plan import config, resolve
from bench.report import reference

PAGE = (ROOT / "docs/extending.md").read_text()
NET, DATA = (found for found in re.findall(r"```python\n(.*?)```", PAGE, re.S) if "def " in found)
SHAPE = (1, 16, 16)


@pytest.fixture
def mine(shipped, tmp_path, monkeypatch):
    """The page's example in a working directory, with a study of 2 steps; its configuration as it is checked and merged."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    package = f"mine_{tmp_path.name.replace('-', '_')}"  # Python imports a name once
    Path(package).mkdir()
    Path(package, "__init__.py").touch()
    Path(package, "net.py").write_text(NET)
    Path(package, "data.py").write_text(DATA)
    local = re.search(r"\n(    archs:\n.*?)\n\n", PAGE, re.S)[1]
    Path("config.local.yaml").write_text(local.replace("mine.", f"{package}."))
    shipped["recipes"] = {"stripes": shipped["recipes"]["digits"] | {"dataset": "stripes", "steps": 2, "evaluate_every": 1}}
    shipped["studies"] = {
        "tiny": {"question": "Does it work?", "recipe": "stripes", "archs": ["mine"], "variants": ["baseline", "scalenorm"]}
        | {"epsilons": [8], "seeds": 1, "without_gpu": "run"}
    }
    shipped["claims"] = {}
    Path("config.yaml").write_text(yaml.safe_dump(shipped))
    return package


def edit(package: str, old: str, new: str, file: str = "net.py") -> None:
    path = Path(package, file)
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def built(variant: str = "scalenorm", seed: int = 0) -> torch.nn.Module:
    model = resolve.model_of(config.load(), "mine", variant)
    network = models.build(model, 1, 10, generator(seed, "weights"))
    models.check_logits(model, network, SHAPE, 10)
    return network


def test_it_is_described_admitted_trained_and_reported_like_any_other(mine, capsys):
    assert main(["describe", "mine", "scalenorm", "--dataset", "stripes"]) == 0
    assert "site sum: GroupNorm(4, 8" in capsys.readouterr().out
    assert main(["admit", "mine", "scalenorm", "--dataset", "stripes"]) == 0
    assert main(["train", "--study", "tiny"]) == 0
    record = records.read(next(Path("results/runs").rglob("scalenorm/*/*.json")))
    assert record["run"]["model"]["options"]["source_digest"] == plugins.digest(f"{mine}.net:build")
    assert set(record["provenance"]["plugins"]) == {f"{mine}.net:build", f"{mine}.data:read"}
    assert record["data"]["train_size"] == 400
    assert not record["data"]["official"]
    with pytest.raises(BenchError, match=r"1 of 1 records were made by code outside of the suite, stripes/mine/scalenorm"):
        reference.promote([record], Path())
    capsys.readouterr()
    assert main(["summarise"]) == 0
    assert main(["report"]) == 0
    assert "stripes/mine/scalenorm" in Path("report/report.html").read_text()
    assert main(["check"]) == 0
    said = capsys.readouterr().out
    assert f"archs.mine.family: {mine}.net:build is code of yours, which runs here" in said
    assert str(Path(mine, "data.py")) in said


def test_all_placements(mine, shipped):
    """Those of variants with the arch's norm; every one is admitted by the fast engine."""
    for variant in ("baseline", "before-add", "on-skip", "on-both", "non-affine", "shared-norm", "scalar", "first-stage"):
        network = built(variant)
        assert len(models.sites(network)) == {"baseline": 0, "on-both": 4, "first-stage": 1}.get(variant, 2)
        admission.admit(network, SHAPE, gradients.ENGINES["fast"])


def test_seeds_decide_the_weights_and_nothing_else_is_drawn(mine):
    before = torch.random.get_rng_state()
    one, again, other = built(seed=0), built(seed=0), built(seed=1)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(one[0].weight, again[0].weight)
    assert not torch.equal(one[0].weight, other[0].weight)


def test_an_edited_network_is_another_one(mine):
    """Its records stand aside, and what was imported before is not trained under the new name."""
    old = resolve.studies_of(config.load())["tiny"].runs[0]
    built()
    edit(mine, "nn.MaxPool2d(2)", "nn.AvgPool2d(2)")
    new = resolve.studies_of(config.load())["tiny"].runs[0]
    assert old.id == new.id
    assert not records.matches({"run": json.loads(old.json())}, new)
    for run in (old, new):
        with pytest.raises(BenchError, match=r"net\.py was edited since this run was planned; give the command again"):
            models.build(run.model, 1, 10)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("def build", "def built", r"net\.py has no function build; define it there"),
        ("from torch import nn", "from torhc import nn", r"cannot be imported: ModuleNotFoundError: .*net\.py:1\)"),
        ("from torch import nn", "from torch import nn nn", r"cannot be imported: SyntaxError: .*line 1"),
        ("from torch import nn", "from torch import nn\nexit(3)", r"cannot be imported: SystemExit: 3"),
        ("    width, layers", "    raise ValueError('no')\n    width, layers", r"net:build: ValueError: no \(.*net\.py:8\)"),
        ("    return nn.Seq", "    return list, nn.Seq", "returns tuple, and a torch.nn.Module is expected"),
        ("nn.Linear(width, classes)", "nn.Linear(width, 7)", r"images \(2, 1, 16, 16\) give \(2, 7\), and logits \(2, 10\)"),
        ("nn.Linear(width, classes)", "nn.Linear(9, classes)", "net:build: RuntimeError: mat1 and mat2 shapes"),
        ("make_norm(width, model.norm)", "nn.BatchNorm2d(width)", r"layer 1\.branch\.1: batch norm mixes samples"),
        ("stage=stage", "stage=9", r"no block fills site sum in stages \[1, 2\]; hand `model`"),
        ("layers += [block,", "layers += [branch,", "no bench.models.residual.ResidualBlock, so no sites"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_network_is_said(mine, old, new, expected):
    edit(mine, old, new)
    with pytest.raises(BenchError, match=expected):
        built()


def test_a_layer_without_a_rule_is_refused_by_its_name(mine):
    edit(mine, "activation()", "nn.PReLU()")
    with pytest.raises(BenchError, match="not admitted to private training: no rule for PReLU"):
        admission.admit(built(), SHAPE, gradients.ENGINES["fast"])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"family": "nowhere.net:build"}, r"archs\.mine\.family: nowhere\.net:build: no module nowhere in /"),
        ({"family": "mine net:build"}, "'mine net:build': code of yours is named package.module:function"),
        (
            {"stage_channels": []},
            "nothing says that this network has residual blocks with sites; give its arch stage_channels",
        ),
        ({"stage_channels": [8, 6]}, "4 groups do not divide 6 channels"),
        ({"source_digest": "0"}, r"archs\.mine\.source_digest: found out by the bench; remove it"),
        ({"depth": {"a": 1}}, r"archs\.mine\.depth: "),
    ],
)
def test_the_plan_refuses_what_it_can_know(mine, change, expected):
    local = yaml.safe_load(Path("config.local.yaml").read_text())
    local["archs"]["mine"] |= change
    Path("config.local.yaml").write_text(yaml.safe_dump(local))
    with pytest.raises(BenchError, match=expected):
        resolve.studies_of(config.load())


def test_variants_without_sites_need_no_residual_blocks(mine):
    local = yaml.safe_load(Path("config.local.yaml").read_text())
    del local["archs"]["mine"]["stage_channels"]
    Path("config.local.yaml").write_text(yaml.safe_dump(local))
    edit(mine, 'model.options["stage_channels"]', "range(2)")
    edit(mine, "layers += [block,", "layers += [branch,")
    assert models.sites(built("baseline")) == []
    assert resolve.model_of(config.load(), "mine", "baseline").stages == ()


def test_a_local_file_adds_archs_of_own_code_and_no_others(mine):
    for archs in ({"resnet9": {"family": f"{mine}.net:build"}}, {"new": {"family": "resnet9", "width": 8}}, ["mine"]):
        Path("config.local.yaml").write_text(yaml.safe_dump({"archs": archs}))
        with pytest.raises(BenchError, match="only `datasets` and `machine` may differ"):
            config.load()


def test_a_folder_without_init_is_a_package_too(mine, monkeypatch):
    """Wherever Python looks at first: the command `bench` does not look into the working directory by itself."""
    Path(mine, "__init__.py").unlink()
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", str(Path.cwd()))])
    assert len(models.sites(built())) == 2


def test_planning_runs_none_of_it(mine):
    edit(mine, "from torch import nn", "raise SystemExit('ran')")
    Path(mine, "__init__.py").write_text("raise SystemExit('ran')")
    assert len(resolve.studies_of(config.load())["tiny"].runs) == 2


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("return tensors, False", "return tensors", r"returns dict, and a pair is expected, \(tensors, official\)"),
        ("tensors[f\"{split}_labels\"]", "tensors[f\"{split}_label\"]", "returns the tensors .*'train_label'"),
        (".to(torch.uint8)", ".float()", r"train_images: float32 of shape \(400, 1, 16, 16\), and uint8 of shape \(N, 1, "),
        ("size, size)", "size, 8)", r"train_images: uint8 of shape \(400, 1, 16, 8\)"),
        ("= labels\n", "= labels[1:]\n", r"train_labels: int64 of shape \(399,\), and int64 of shape \(400,\)"),
        ("= labels\n", "= labels - 1\n", "train_labels: -1 among them, and classes count from 0"),
        ("= labels\n", "= labels + (count == 100)\n", "test_labels has classes that no training image has; the last of "),
        ("(count) % 10", "(count) % 0", r"data:read: RuntimeError: .*data\.py:7\)"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_data_is_said(mine, old, new, expected):
    edit(mine, old, new, "data.py")
    with pytest.raises(BenchError, match=expected):
        data.load("stripes", config.load()["datasets"]["stripes"])


def test_a_source_that_is_not_there_is_refused_by_the_plan(mine):
    edit(".", f"{mine}.data", "nowhere", "config.local.yaml")
    with pytest.raises(BenchError, match=r"datasets\.stripes\.source: nowhere:read: no module nowhere"):
        resolve.studies_of(config.load())


def test_data_are_read_anew_after_an_edit_of_the_code_its_keys_or_its_files(mine):
    spec = config.load()["datasets"]["stripes"] | {"path": "held.bin"}
    Path("held.bin").write_bytes(b"1")
    seen = {source.fingerprint("stripes", spec)}
    Path("held.bin").write_bytes(b"22")
    seen.add(source.fingerprint("stripes", spec))
    Path(mine, "data.py").write_text(f"{DATA}\n# edited\n")
    seen.add(source.fingerprint("stripes", spec))
    assert len(seen) == 3
    del spec["path"]
    data.load("stripes", spec)
    data.load("stripes", spec | {"draws": 3, "label": "Other"})
    data.load("stripes", spec | {"draws": 4})
    assert len(list(Path("data/cache").iterdir())) == 3
