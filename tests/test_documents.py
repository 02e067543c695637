"""What documents promise: tests that exist, limits that are said."""

import ast
import re
from pathlib import Path

from bench import ROOT

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
