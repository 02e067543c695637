"""The pipeline as a user runs it, on a tiny configuration in a folder of its own."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from PIL import Image

from bench import ROOT
from tests.checkout import checkout
from tests.once import once

pytestmark = pytest.mark.slow


def tiny(shipped: dict) -> dict:
    """Quick with 4 steps, one finite epsilon, two variants and one seed; a variant that nobody uses yet."""
    shipped["recipes"]["digits"] |= {"batch_size": 32, "steps": 4, "evaluate_every": 2}
    shipped["variants"]["on-skip-last"] = {"sites": {"skip": "norm"}, "stages": ["last"]}
    shipped["studies"]["quick"] |= {"variants": ["baseline", "scalenorm"], "epsilons": [8, float("inf")], "seeds": 1}
    shipped["machine"]["device"] = "cpu"
    return shipped


def write(config: dict, folder: Path, sort_keys: bool = False) -> None:
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=sort_keys))


def snakemake(folder: Path, *arguments: str, snakefile=ROOT / "Snakefile", **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(snakefile), "--directory", str(folder)]
    return subprocess.run(
        [*command, "--cores", "2", "--show-failed-logs", *arguments],
        capture_output=True, text=True, check=False, env=os.environ | environment,
    )  # fmt: skip


def planned(folder: Path, *arguments: str) -> dict[str, int]:
    """Jobs that a dry run lists, by rule."""
    done = snakemake(folder, "-n", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    listing = re.search(r"^job +count\n[- ]+\n(.*?)^total", done.stdout + done.stderr, re.M | re.S)
    return {row.split()[0]: int(row.split()[1]) for row in listing[1].splitlines()} if listing else {}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, _shipped):
    """A folder in which the tiny configuration has been run, to be read only."""

    def make(folder):
        write(tiny(json.loads(json.dumps(_shipped))), folder)
        done = snakemake(folder)
        assert done.returncode == 0, done.stdout + done.stderr

    return once(tmp_path_factory, "user", make)


@pytest.fixture
def folder(finished, tmp_path_factory):
    """A copy of it to play with, beside it: the rules' relative paths to this repository stay the same."""
    copy = tmp_path_factory.mktemp("copy")
    return shutil.copytree(finished, copy, dirs_exist_ok=True)


@pytest.fixture
def config(shipped):
    return tiny(json.loads(json.dumps(shipped)))


def test_a_run_leaves_records_tables_and_report(finished):
    records = sorted(path.relative_to(finished / "results/runs").as_posix() for path in finished.rglob("seed*.json"))
    assert records == [f"digits/resnet9-w8/{v}/eps{e}/seed0.json" for v in ("baseline", "scalenorm") for e in ("8", "inf")]
    assert len((finished / "results/runs.csv").read_text().splitlines()) == 5
    report = (finished / "report/report.html").read_text()
    assert "scalenorm" in report
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//(?!www\.w3\.org)[^"']*\.(?:js|css|png|svg|woff2?)""", report)
    assert not list(finished.rglob("*.partial"))


def test_a_second_run_does_nothing(folder):
    done = snakemake(folder)
    assert done.returncode == 0
    assert "Nothing to be done" in done.stdout + done.stderr


def test_comments_and_order_of_keys_change_nothing(folder, config):
    write(config, folder, sort_keys=True)
    (folder / "config.yaml").write_text("# a remark\n" + (folder / "config.yaml").read_text())
    assert planned(folder) == {}


def test_adding_a_variant_trains_its_runs_only_and_removing_it_none(folder, config):
    config["studies"]["quick"]["variants"].append("on-skip-last")
    write(config, folder)
    assert planned(folder) == {"train": 2, "summarise": 1, "report": 1, "all": 1}
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("seed*.json")}
    assert snakemake(folder).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    for table in ("results/runs.csv", "results/summary.csv", "report/report.html"):
        assert "on-skip-last" in (folder / table).read_text()
    assert "on-skip-last" in (folder / "results/figures/quick-accuracy.svg").read_text()
    config["studies"]["quick"]["variants"].remove("on-skip-last")
    write(config, folder)
    assert planned(folder) == {"summarise": 1, "report": 1, "all": 1}
    assert snakemake(folder).returncode == 0
    assert "on-skip-last" not in (folder / "results/runs.csv").read_text()


@pytest.mark.parametrize(
    ("change", "jobs"),
    [
        (lambda c: c["studies"]["quick"].update(seeds=2), {"train": 4, "summarise": 1, "report": 1, "all": 1}),
        (
            lambda c: c["variants"]["scalenorm"]["sites"].update(sum={"groups": 2}),
            {"train": 2, "summarise": 1, "report": 1, "all": 1},
        ),
        (lambda c: c["recipes"]["digits"].update(clip_norm=2.0), {"train": 4, "summarise": 1, "report": 1, "all": 1}),
        (
            lambda c: c["recipes"]["digits"].update(delta=2e-4),
            {"calibrate": 2, "train": 4, "summarise": 1, "report": 1, "all": 1},
        ),
        (lambda c: c["recipes"]["pocket"].update(steps=3), {}),
        (lambda c: c["machine"].update(physical_batch=3), {}),
        (lambda c: c["datasets"]["cifar10"].update(path="/elsewhere"), {}),
        (lambda c: c["claims"]["it-is-the-sum"].update(range=[1.0, 2.0]), {"summarise": 1, "report": 1, "all": 1}),
    ],
    ids=["seed", "variant", "recipe", "budget", "other-recipe", "machine", "path", "claim"],
)
def test_what_an_edit_runs_again(folder, config, change, jobs):
    change(config)
    write(config, folder)
    assert planned(folder) == jobs


def test_an_epsilon_of_many_digits_has_its_own_paths(folder, config):
    config["studies"]["quick"]["epsilons"] = [2.65680440, 1.0e-5, 1000000]
    write(config, folder)
    assert planned(folder) == {"calibrate": 3, "train": 6, "summarise": 1, "report": 1, "all": 1}
    config["studies"]["quick"] |= {"variants": ["baseline"], "epsilons": [2.65680440]}
    write(config, folder)
    done = snakemake(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "digits,resnet9-w8,baseline,2.6568044,0,completed" in (folder / "results/runs.csv").read_text()
    assert planned(folder) == {}


PICTURES = {"label": "Pictures", "source": "image_folder", "image_size": 16, "mean": [0.5], "std": [0.3]}


@pytest.fixture(scope="module")
def with_pictures(tmp_path_factory, _shipped):
    """A folder in which one arm was run on an image folder of 60 training and 20 test images, one seed."""

    def make(folder):
        for number in range(80):
            place = folder / "pictures" / ("train" if number < 60 else "test") / ("ant", "bee")[number % 2]
            place.mkdir(parents=True, exist_ok=True)
            Image.new("L", (16, 16), 3 * number).save(place / f"{number}.bmp")
        write(pictured(_shipped), folder)
        done = snakemake(folder)
        assert done.returncode == 0, done.stdout + done.stderr

    return once(tmp_path_factory, "pictures", make)


def pictured(shipped: dict, seeds: int = 1, **keys) -> dict:
    config = tiny(json.loads(json.dumps(shipped)))
    config["datasets"]["pictures"] = PICTURES | {"path": "pictures"} | keys
    config["recipes"]["digits"] |= {"dataset": "pictures", "batch_size": 12}
    config["studies"]["quick"] |= {"variants": ["baseline"], "epsilons": [8], "seeds": seeds}
    return config


@pytest.fixture
def pictures(with_pictures, tmp_path_factory):
    return shutil.copytree(with_pictures, tmp_path_factory.mktemp("copy"), dirs_exist_ok=True)


def test_where_data_lie_trains_nothing(pictures, _shipped):
    assert planned(pictures) == {}
    (pictures / "elsewhere").mkdir()
    moved = (pictures / "pictures").rename(pictures / "elsewhere/images")
    assert planned(pictures) == {}  # not there, as a disk that is not mounted
    (pictures / "config.local.yaml").write_text("datasets: {pictures: {path: elsewhere/images}}\n")
    assert planned(pictures) == {}
    (moved / "train/ant/0.bmp").touch()
    assert planned(pictures) == {}
    write(pictured(_shipped, path=str(moved)), pictures)
    (pictures / "config.local.yaml").unlink()
    assert planned(pictures) == {}
    write(pictured(_shipped, seeds=2, path=str(moved)), pictures)
    assert planned(pictures) == {"train": 1, "summarise": 1, "report": 1, "all": 1}


def test_changed_data_train_all_of_their_runs_again(pictures, _shipped):
    """Images were deleted under the same path, and a seed was added: noise for 60 images trained 32, means mixed both."""
    for path in sorted((pictures / "pictures/train").rglob("*.bmp"))[:28]:
        path.unlink()
    write(pictured(_shipped, seeds=2), pictures)
    jobs = {"dataset": 1, "calibrate": 1, "train": 2, "summarise": 1, "report": 1, "all": 1}
    assert planned(pictures) == jobs
    done = snakemake(pictures)
    assert done.returncode == 0, done.stdout + done.stderr
    made = [json.loads(path.read_text()) for path in pictures.glob("results/runs/**/seed*.json")]
    assert [record["data"]["train_size"] for record in made] == [32, 32]
    assert all(record["privacy"]["epsilon_rdp"] <= 8 for record in made)
    summary = (pictures / "results/summary.csv").read_text()
    assert made[0]["data"]["digest"][:12] in summary
    assert planned(pictures) == {}
    Image.new("L", (16, 16), 200).save(next((pictures / "pictures/test").rglob("*.bmp")))  # in place, of the same size
    assert planned(pictures) == jobs


def test_a_run_by_hand_on_changed_data_makes_the_others_stale(pictures, _shipped):
    write(pictured(_shipped, seeds=2), pictures)
    (pictures / "pictures/train/ant/0.bmp").unlink()
    run = "digits/resnet9-w8/baseline/eps8/seed1"
    for verb in (["train", run], ["summarise"]):
        done = subprocess.run(
            [sys.executable, "-m", "bench", *verb], cwd=pictures, env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    assert len((pictures / "results/runs.csv").read_text().splitlines()) == 2  # seed 0 is of other data
    assert (
        "made from other data: 1 of 2; run `python -m bench train --study quick`"
        in (pictures / "results/not_run.csv").read_text()
    )
    assert planned(pictures)["train"] == 2


def test_studies_are_targets_and_can_be_chosen(folder):
    assert planned(folder, "quick") == {"quick": 1}
    assert planned(folder, "pocket")["train"] == 256
    assert planned(folder, "--config", "studies=quick,pocket")["train"] == 256
    done = snakemake(folder, "-n", "--config", "studies=quik")
    assert done.returncode == 1
    assert "unknown study 'quik' (did you mean 'quick'?)" in done.stdout + done.stderr


def test_partial_reports_what_exists(folder):
    for path in folder.rglob("scalenorm/*/seed0.json"):
        path.unlink()
    assert snakemake(folder, "partial").returncode == 0
    assert len((folder / "results/runs.csv").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda c: c["studies"]["quick"]["variants"].append("scalenrm"),
            "unknown variant 'scalenrm' (did you mean 'scalenorm'?)",
        ),
        (
            lambda c: c["recipes"]["digits"].update(delta="1e-5"),
            "recipes.digits.delta: '1e-5' is text, a number is expected",
        ),
        (
            lambda c: c["variants"]["scalenorm"].update(sites={"out": "norm"}),
            "sites.out: no activation follows the sum here",
        ),
    ],
)
def test_wrong_configuration_gets_a_sentence_and_loses_nothing(folder, config, change, expected):
    before = sorted(folder.rglob("seed*.json"))
    change(config)
    write(config, folder)
    done = snakemake(folder)
    assert done.returncode == 1
    assert expected in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert sorted(folder.rglob("seed*.json")) == before


def test_missing_dataset_gets_a_sentence(folder):
    (folder / "config.local.yaml").write_text("datasets: {cifar10: {source: image_folder, path: /no/such/place}}\n")
    done = snakemake(folder, "pocket")
    assert done.returncode == 1
    assert "/no/such/place: no such folder or archive" in done.stdout + done.stderr


def test_damaged_record_gets_a_sentence_and_can_be_made_again(folder):
    damaged = folder / "results/runs/digits/resnet9-w8/scalenorm/epsinf/seed0.json"
    damaged.write_text(damaged.read_text()[:100])
    done = snakemake(folder)
    assert done.returncode == 1
    assert "damaged record" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    damaged.unlink()
    assert planned(folder)["train"] == 1


def test_a_deleted_record_or_table_is_made_again(folder):
    (folder / "results/summary.csv").unlink()
    assert planned(folder) == {"summarise": 1, "report": 1, "all": 1}
    (folder / "results/runs/digits/resnet9-w8/scalenorm/epsinf/seed0.json").unlink()
    assert planned(folder) == {"train": 1, "summarise": 1, "report": 1, "all": 1}


STOPPED_ONCE = """
import runpy, sys
from pathlib import Path
if "train" in sys.argv and not Path("stopped").exists():
    Path("stopped").touch()
    sys.exit(75)
sys.path.pop(0)
del sys.modules["bench"]
runpy.run_module("bench", run_name="__main__", alter_sys=True)
"""


def test_a_run_that_stops_for_later_is_retried_when_asked(folder):
    """Exit code 75 once, from a `bench` in the working directory that stands before the real one."""
    (folder / "bench").mkdir()
    (folder / "bench/__init__.py").touch()
    (folder / "bench/__main__.py").write_text(STOPPED_ONCE)
    record = folder / "results/runs/digits/resnet9-w8/scalenorm/epsinf/seed0.json"
    record.unlink()
    assert snakemake(folder).returncode == 1
    assert not record.exists()
    (folder / "stopped").unlink()
    done = snakemake(folder, "--retries", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert record.exists()


def test_gpus_are_counted_and_a_timed_study_takes_them_all(folder, config, tmp_path):
    """Two GPUs that a stand-in for nvidia-smi lists, three runs each."""
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nprintf 'GPU 0: Toy (UUID: GPU-1)\\nGPU 1: Toy (UUID: GPU-2)\\n'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    config["machine"] |= {"device": "auto", "runs_per_gpu": 3}
    write(config, folder)
    environment = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = snakemake(folder, "-n", "speed", **environment)
    assert re.search(r"rule speed:.*?resources: .*?gpu=6\b", done.stdout + done.stderr, re.S), done.stdout + done.stderr
    done = snakemake(folder, "-n", "speed", **environment, CUDA_VISIBLE_DEVICES="1")
    assert re.search(r"rule speed:.*?resources: .*?gpu=3\b", done.stdout + done.stderr, re.S)


def test_the_slurm_profile_says_what_snakemake_understands(folder, tmp_path):
    """Filled in, with another executor in place of Slurm's, which is a plugin and has options of its own."""
    profile = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())
    assert profile.pop("executor") == "slurm"
    profile = {key: value for key, value in profile.items() if not key.startswith("slurm-")}
    profile["default-resources"] = {"runtime": 240, "mem_mb": profile["default-resources"]["mem_mb"]}
    profile["resources"] = {"gpu": 16}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(profile))
    done = snakemake(folder, "-n", "speed", "--workflow-profile", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"resources: .*runtime=240.*gpu=1\b|resources: .*gpu=1\b.*runtime=240", done.stdout + done.stderr)


@pytest.fixture(scope="module")
def clone(finished, tmp_path_factory):
    """A clone of this repository in which the tiny configuration was run, promoted and referenced."""
    folder = checkout(tmp_path_factory.mktemp("clone"))
    shutil.copytree(finished, folder, dirs_exist_ok=True)
    for path in folder.glob("results/runs/**/seed0.json"):
        record = json.loads(path.read_text())
        record["provenance"] |= {"dirty": False, "commit": "c" * 40}  # this checkout may have changes
        path.write_text(json.dumps(record))
    for arguments in (["promote", "--study", "quick"], ["reference"]):
        done = subprocess.run(
            [sys.executable, "-m", "bench", *arguments], cwd=folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_reference_is_rebuilt_without_training(clone, tmp_path_factory):
    """In a fresh clone: nothing of one's own, only what is committed."""
    folder = tmp_path_factory.mktemp("fresh")
    shutil.copytree(
        clone, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".snakemake", "runs", "noise", "datasets")
    )
    made = ["results/reference/runs.csv", "results/reference/summary.csv", "results/reference/claims.csv"]
    made += ["results/reference/machines.json", "report/reference.html"]
    before = {name: (folder / name).read_bytes() for name in made}
    for name in made:
        (folder / name).unlink()
    done = snakemake(folder, "reference", snakefile=folder / "Snakefile")
    assert done.returncode == 0, done.stdout + done.stderr
    assert {name: (folder / name).read_bytes() for name in made} == before
    assert not (folder / "results/runs").exists()


def test_verify_passes_a_rerun_and_fails_a_planted_regression(clone, tmp_path_factory):
    folder = tmp_path_factory.mktemp("verify")
    shutil.copytree(clone, folder, dirs_exist_ok=True)
    record = folder / "results/runs/digits/resnet9-w8/scalenorm/eps8/seed0.json"
    record.unlink()  # so that it is trained here once more
    done = snakemake(folder, "verify", snakefile=folder / "Snakefile")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 arms compared, no differences" in done.stdout
    planted = json.loads(record.read_text())
    planted["privacy"]["noise_multiplier"] /= 2
    record.write_text(json.dumps(planted))
    done = snakemake(folder, "verify", snakefile=folder / "Snakefile")
    assert done.returncode == 1
    assert "digits/resnet9-w8/scalenorm/eps8: noise_multiplier: " in done.stdout
    (folder / "results/reference/runs.csv").unlink()
    done = snakemake(folder, "-n", "verify", snakefile=folder / "Snakefile")
    assert done.returncode == 1
    assert (
        "results/reference/runs.csv: no results are committed, so there is nothing to verify against"
        in done.stdout + done.stderr
    )


def test_commands_are_quoted_where_paths_have_blanks(tmp_path):
    """`speed` and `verify` in a checkout in `a folder's`, whose shell commands are parsed."""
    checkout, folder = tmp_path / "a folder's", tmp_path / "user"
    folder.mkdir()
    for name in ("bench", "workflow"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Snakefile", "config.yaml"):
        shutil.copy(ROOT / name, checkout)
    shutil.copy(ROOT / "config.yaml", folder)
    (checkout / "results/reference").mkdir(parents=True)
    (checkout / "results/reference/runs.csv").touch()
    for target, argument in (("speed", "bench/speed"), ("verify", "results/reference/runs.csv")):
        done = snakemake(folder, "-n", "-p", target, snakefile=checkout / "Snakefile")
        assert done.returncode == 0, done.stdout + done.stderr
        (line,) = (line for line in (done.stdout + done.stderr).splitlines() if argument in line and "python -m" in line)
        assert f"../a folder's/{argument}" in shlex.split(line.replace("(", "").replace(")", ""))


@pytest.mark.long
def test_use_conda_creates_and_activates_the_environments(tmp_path, config):
    """Against a stand-in for `conda`: Snakemake's side is tested, that conda-forge solves the files is not."""
    folder, calls = tmp_path / "user", tmp_path / "calls"
    folder.mkdir()
    config["studies"]["quick"] |= {"variants": ["baseline"], "epsilons": [float("inf")]}
    write(config, folder)
    path = f"{ROOT / 'tests/conda/bin'}{os.pathsep}{os.environ['PATH']}"
    done = snakemake(folder, "--use-conda", PATH=path, CONDA_CALLS=str(calls))
    assert done.returncode == 0, done.stdout + done.stderr
    assert (folder / "report/report.html").exists()
    created = re.findall(r"create .*--file (\S+)", calls.read_text())
    assert len(created) == 2  # torch.yaml and report.yaml
    activated = re.findall(r"^activate (\S+)", calls.read_text(), re.M)
    assert len(activated) == 5  # dataset, calibrate, train; summarise, report
    assert {(Path(prefix) / "bin/python").exists() for prefix in activated} == {True}


def test_use_conda_without_conda_is_told_with_the_way_out(tmp_path, config):
    """Where mamba is: it reads the same files, but Snakemake does not call it."""
    write(config, tmp_path)
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "mamba").write_text("#!/bin/sh\n")
    (programs / "mamba").chmod(0o755)
    for name in ("bash", "sh", "which", "git"):
        (programs / name).symlink_to(shutil.which(name))
    done = snakemake(tmp_path, "-n", "--use-conda", PATH=str(programs))
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert "no program `conda` is on PATH (`mamba` does not do: Snakemake calls no other); install conda" in said
    assert "Traceback" not in said


def test_the_audit_is_asked_for_by_name(shipped, tmp_path):
    write(tiny(shipped), tmp_path)
    assert planned(tmp_path, "audit") == {"audit": 1}
    assert "audit" not in planned(tmp_path)


def test_a_study_goes_on_from_its_committed_records(shipped, tmp_path):
    shipped["studies"]["quick"]["variants"].append("scalar")
    shipped["claims"] = {}
    write(shipped, tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "bench", "restore", "quick"],
        cwd=tmp_path, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "quick: 128 records put back, 0 were here, 32 of 160 runs are missing\n")
    assert planned(tmp_path, "quick") == {"train": 32, "quick": 1}
    (tmp_path / "results/runs/digits/resnet9-w8/scalenorm/eps1/seed0.json").unlink()
    assert planned(tmp_path, "quick")["train"] == 33


def test_snakemakes_own_report_has_page_tables_and_figures_under_captions(folder):
    done = snakemake(folder, "--report", "own.zip")
    assert done.returncode == 0, done.stdout + done.stderr
    with zipfile.ZipFile(folder / "own.zip") as archive:
        names = archive.namelist()
        text = "".join(archive.read(name).decode(errors="replace") for name in names if name.endswith((".html", ".js")))
    for name in ("report.html", "runs.csv", "summary.csv", "claims.csv", "not_run.csv", "quick-accuracy.svg"):
        assert any(entry.endswith(name) for entry in names), name
    for caption in ("privacy ledger", "A row a run", "<p>quick-accuracy: a study and what is drawn of it"):
        assert caption in text, caption
