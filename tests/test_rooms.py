"""Which room may import which: numbers flow from the plan to the page, and nothing flows back."""

import ast
import os
import subprocess
import sys

import pytest

from bench import ROOT

# Every room and the rooms that it may import; all may import `bench` itself.
MAY_IMPORT = {
    "names": set(),
    "plugins": set(),
    "plan": {"names", "plugins"},
    "machine": set(),
    "layers": set(),
    "files": set(),
    "source": {"files", "plugins"},
    "data": {"names", "files", "source", "plugins"},
    "models": {"names", "plan", "layers", "plugins"},
    "dp": {"names", "layers"},
    "evidence": {"plan", "files"},
    "terminal": set(),
    "training": {
        "names",
        "plugins",
        "plan",
        "files",
        "source",
        "machine",
        "layers",
        "data",
        "models",
        "dp",
        "evidence",
    }
    | {"terminal"},
    "report": {"plan", "evidence"},
    "audit": {"plan", "layers", "data", "dp", "training", "evidence", "terminal"},
    "exchange": {"plan", "evidence", "training", "report", "terminal"},
    "speed": {"plan", "machine", "layers", "data", "models", "dp", "training"},
    "commands": {"plugins", "plan", "machine", "data", "models", "dp", "training", "evidence", "report", "terminal"},
    "cli": {"names", "files", "plan", "machine", "evidence", "commands", "terminal"},
    "warm": {"plan", "evidence", "dp", "training"},
    "__main__": {"cli", "files", "warm"},
}
# Rooms that must not even load torch, with what they import: they make tables and pages, plan, and show where things stand.
WITHOUT_TORCH = (
    "bench.plan.resolve",
    "bench.source",
    "bench.evidence.images",
    "bench.evidence.tables",
    "bench.evidence.compare",
    "bench.evidence.status",
    "bench.cli.status",
    "bench.cli.run",
    "bench.report.page",
    "bench.report.reference",
)


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def imports() -> set[tuple[str, str]]:
    """(room, room that it imports) of all files of the package; imports inside functions count."""
    found = set()
    for path in sorted((ROOT / "bench").rglob("*.py")):
        here = path.relative_to(ROOT / "bench").parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                targets = [name.name for name in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert not node.level, f"{path}: relative import"
                targets = [f"bench.{name.name}" for name in node.names] if node.module == "bench" else [node.module]
            else:
                continue
            found |= {(here, room(target)) for target in targets if target.startswith("bench.")}
    rooms = {path.name.removesuffix(".py") for path in (ROOT / "bench").iterdir()}
    return {(here, there) for here, there in found if there in rooms and here != there}


def test_rooms_import_downwards():
    strange = {(here, there) for here, there in imports() if there not in MAY_IMPORT.get(here, set())}
    assert not strange
    assert ("report", "evidence") in imports()  # the walk finds what there is


def test_no_room_can_reach_itself():
    def reaches(here: str) -> set[str]:
        return MAY_IMPORT[here].union(*(reaches(there) for there in MAY_IMPORT[here]))

    assert all(here not in reaches(here) for here in MAY_IMPORT)


def test_every_room_is_named_and_says_what_enters_and_leaves():
    packages = {path.parent for path in (ROOT / "bench").glob("*/__init__.py")}
    files = {path for path in (ROOT / "bench").glob("*.py") if path.name != "__init__.py"}
    assert {path.name for path in packages} | {path.stem for path in files} == set(MAY_IMPORT)
    for package in packages:
        text = ast.get_docstring(ast.parse((package / "__init__.py").read_text()))
        assert "enter" in text, package
        assert "leave" in text, package
        assert "import" in text, package


@pytest.mark.parametrize("module", WITHOUT_TORCH)
def test_tables_pages_and_plans_need_no_torch(module):
    code = f"import sys, {module}; sys.exit(any(name in sys.modules for name in ('torch', 'opacus')))"
    assert (
        subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False).returncode == 0
    )
