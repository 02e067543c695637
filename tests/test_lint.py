"""What is written down twice: linters and their versions, Pythons, the version, names in forms and check-lists."""

import re
import tomllib

import pytest
import yaml

from bench import ROOT

HOOKS = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
MAKEFILE = (ROOT / "Makefile").read_text()
CHECKS = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())


def test_hooks_have_the_pinned_versions():
    pins = dict(line.split("==") for line in (ROOT / "requirements.txt").read_text().splitlines() if "==" in line)
    found = {repo["repo"].rsplit("/", 1)[1].removesuffix("-pre-commit"): repo["rev"] for repo in HOOKS}
    assert found == {name: f"v{pins[name]}" for name in ("ruff", "snakefmt", "codespell")}


def test_hooks_are_what_make_lint_asks():
    lint = re.search(r"^lint: setup\n((?:\t.*\n)+)", MAKEFILE, re.M)[1]
    asked = [" ".join(re.findall(r"\$\(BIN\)/(\w+)(?: (check|format)\b)?", line)[0]).strip() for line in lint.splitlines()]
    hooks = [hook["id"].replace("-", " ") for repo in HOOKS for hook in repo["hooks"]]
    assert [*hooks, "snakemake"] == asked  # snakemake's own asks for the whole environment


def test_hosted_checks_are_those_of_here_on_every_python():
    job = CHECKS["jobs"]["run"]
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    allowed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    first, end = map(int, re.fullmatch(r">=3\.(\d+),<3\.(\d+)", allowed).groups())
    assert job["strategy"]["matrix"]["python"] == [f"3.{minor}" for minor in range(first, end)]


def test_the_version_is_one():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version


@pytest.mark.parametrize("form", sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("[!c]*.yml")), ids=lambda path: path.stem)
def test_forms_are_what_github_takes(form):
    """Its required keys: a file without them is left out of the list without a word."""
    found = yaml.safe_load(form.read_text())
    assert {"name", "description", "body"} <= found.keys()
    for field in found["body"]:
        assert field["type"] in ("input", "textarea")
        assert field["attributes"]["label"]


@pytest.mark.parametrize("path", [".github/PULL_REQUEST_TEMPLATE.md", ".github/ISSUE_TEMPLATE/bug.yml",
                                  ".github/ISSUE_TEMPLATE/result.yml", "docs/releasing.md"])  # fmt: skip
def test_what_they_name_exists(path):
    """Verbs of the command, files of the repository."""
    from bench.cli.app import app

    text = (ROOT / path).read_text()
    verbs = re.findall(r"bench (\w+)", text)
    assert all(verb in app.commands for verb in verbs), verbs
    for name in re.findall(r"`([\w./-]+\.(?:md|toml|cff|py|html))`|`(\.ci/run|results/reference/)`", text):
        assert (ROOT / "".join(name)).exists(), name
