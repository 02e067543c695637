"""What no formatter holds: lines that a reader sees whole, in templates, styles and rules as in the code."""

import pytest

from bench import ROOT

LIMIT = 126  # ruff's, in pyproject.toml
KINDS = {".py", ".html", ".css", ".js", ".rst", ".yaml", ".smk"}
# Their few longer lines are still to be wrapped; then this tuple goes.
LONGER = ("workflow/schemas/config.schema.yaml", "workflow/rules/common.smk")


@pytest.mark.parametrize("folder", ["bench", "workflow"])
def test_no_line_is_longer_than_a_window(folder):
    files = [path for path in sorted((ROOT / folder).rglob("*")) if path.suffix in KINDS]
    assert files
    for path in files:
        if (name := str(path.relative_to(ROOT))) not in LONGER:
            assert not [f"{name}:{n}" for n, line in enumerate(path.read_text().splitlines(), 1) if len(line) > LIMIT]
