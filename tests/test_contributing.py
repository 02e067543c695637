"""The worked examples of CONTRIBUTING.md, done as they are written."""

import re
import subprocess

import pytest

from bench import ROOT
from tests.checkout import checkout, with_commands

pytestmark = pytest.mark.slow

# {title: [(language, body), ...]} of every section with code blocks
EXAMPLES = {
    section.splitlines()[0]: re.findall(r"^```(\w+)\n(.*?)^```$", section, re.M | re.S)
    for section in re.split(r"^### |^## ", (ROOT / "CONTRIBUTING.md").read_text(), flags=re.M)
    if "```" in section
}
# where a block goes: a new file, or below or above the line of a file that begins with the text
PLACE = re.compile(r"# (?P<path>\S+?)(?:, (?P<side>below|above) `(?P<line>[^`]+)`)?\n")


def apply(block: str, folder) -> None:
    """Does to the checkout in `folder` what the first line of a code block says with the others."""
    place = PLACE.match(block)
    assert place, block
    body, path = block[place.end() :], folder / place["path"]
    assert path.exists() == bool(place["side"]), path
    if place["side"]:
        lines = path.read_text().splitlines(keepends=True)
        (found,) = (number for number, line in enumerate(lines) if line.startswith(place["line"]))
        lines.insert(found + (place["side"] == "below"), body)
        body = "".join(lines)
    path.write_text(body)


def test_there_is_an_example_of_everything_that_is_added():
    asked = {"A variant", "A norm", "A network family", "A data set source", "An engine of per-sample gradients"}
    assert EXAMPLES.keys() == asked | {"A recipe, and a study that asks something of it"}
    for blocks in EXAMPLES.values():
        assert [language for language, _ in blocks].count("sh") == 1
        assert blocks[-1][0] == "sh"


# the others train or test much: `make test-long`, and .ci/run
QUICK = "A data set source"


@pytest.mark.parametrize("title", [t if t == QUICK else pytest.param(t, marks=pytest.mark.long) for t in EXAMPLES])
def test_an_example_works_as_written(title, tmp_path):
    folder = checkout(tmp_path)
    environment = with_commands(folder)
    *blocks, (_, commands) = EXAMPLES[title]
    for _, block in blocks:
        apply(block, folder)
    for command in (commands, ".venv/bin/ruff check . && .venv/bin/ruff format --check ."):
        done = subprocess.run(
            ["bash", "-euxc", command], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
