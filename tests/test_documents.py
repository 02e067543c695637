"""What documents promise: tests that exist, limits that are said."""

import ast
import re
import shlex
from pathlib import Path

import pytest

from bench import ROOT
from bench.cli.app import app
from bench.plan.resolve import TARGETS

PRIVACY = (ROOT / "docs/privacy.md").read_text()
PITFALLS = 12  # in jax_privacy's list


def named_tests() -> list[str]:
    return re.findall(r"`(tests/[\w/]+\.py::\w+)`", PRIVACY)


def test_every_pitfall_names_tests_that_exist():
    rows = [line for line in PRIVACY.splitlines() if re.match(r"\| (?!pitfall|---)", line)]
    assert len(rows) == PITFALLS
    assert all(re.search(r"`tests/[\w/]+\.py::test_\w+`", row.split("|")[4]) for row in rows)
    for name in named_tests():
        path, _, function = name.partition("::")
        tree = ast.parse((ROOT / Path(path)).read_text())
        assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, name


def test_readme_and_report_say_what_is_not_meant():
    readme, page = (
        " ".join((ROOT / path).read_text().split()) for path in ("README.md", "workflow/report/sections/privacy.html")
    )
    for text in ("ordinary generators", "in floating point", "hyper-parameters is not accounted for", "test data are public"):
        assert text in readme, text
    for text in ("ordinary generators", "are diagnostics outside it", "is not accounted for", "floating point"):
        assert text in page, text


DOCUMENTS = ["README.md", "CONTRIBUTING.md", *(str(path.relative_to(ROOT)) for path in sorted((ROOT / "docs").glob("*.md")))]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name):
    for link in re.findall(r"\]\(([^)\s]+)\)", (ROOT / name).read_text()):
        if not link.startswith("https://"):
            assert ((ROOT / name).parent / link).exists(), link


def commands(name: str) -> list[str]:
    """What a document has typed: indented lines, and code within lines that begins like a command; comments left out."""
    text = re.sub(r"<!-- reference.*?<!-- end -->", "", (ROOT / name).read_text(), flags=re.S)
    lines = [*re.findall(r"^ {4}(\S.*)$", text, re.M), *re.findall(r"`((?:make|\.venv/bin/|python |bench )[^`]*)`", text)]
    return [re.split(r"\s+#\s|\s[|>] ", part)[0].strip() for line in lines for part in line.split(" && ")]


@pytest.mark.parametrize("name", [name for name in DOCUMENTS if name != "CONTRIBUTING.md"])  # whose blocks are run
def test_commands_are_understood(name, shipped):
    """Targets of make, verbs with their options, scripts: without the work behind them."""
    understood = 0
    for line in commands(name):
        if found := re.fullmatch(r"make(?: (\w+))?(?: TARGET=(.+)| CORES=\d+)?", line):
            goal, target = found.groups()
            assert goal in (None, "test", "test-long"), line
            asked = shlex.split(target)[0].removeprefix("--config studies=").split(",") if target else []
            assert {*asked} <= {*shipped["studies"], *TARGETS}, line
        elif found := re.match(r"(?:\.venv/bin/|python -m )?bench (\w+)(.*)", line):
            verb, arguments = found[1], shlex.split(found[2])
            assert verb in app.commands, line
            if not {"NAME", "ARCH"} & {*arguments}:  # named, with what is to be filled in
                app.commands[verb].make_context(verb, arguments)
        elif found := re.match(r"python (tools/\S+)", line):
            assert (ROOT / found[1]).exists(), line
        else:
            continue
        understood += 1
    assert understood
