"""What no formatter holds: lines that a reader sees whole, in templates, styles and rules as in the code."""

import pytest

from bench import ROOT

LIMIT = 126  # ruff's, in pyproject.toml
KINDS = {".py", ".html", ".css", ".js", ".rst", ".yaml", ".smk", ".md"}


@pytest.mark.parametrize("folder", ["bench", "tools", "workflow"])
def test_no_line_is_longer_than_a_window(folder):
    files = [path for path in sorted((ROOT / folder).rglob("*")) if path.suffix in KINDS]
    assert files
    for path in files:
        name, lines = path.relative_to(ROOT), path.read_text().splitlines()
        assert not [f"{name}:{n}" for n, line in enumerate(lines, 1) if len(line) > LIMIT]
