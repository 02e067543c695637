"""Files are UTF-8 whatever the locale is; what a terminal cannot show becomes a question mark."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from bench import ROOT
from bench.evidence import records
from bench.plan import resolve
from tests.factory import record_of

NO_UTF8 = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.slow
def test_tables_and_report_are_the_same_bytes_in_every_locale(shipped, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped["studies"] = {"quick": shipped["studies"]["quick"] | {"question": "Größer als ε?", "epsilons": [8], "seeds": 2}}
    shipped["claims"] = {}
    Path("config.yaml").write_bytes(yaml.safe_dump(shipped, allow_unicode=True).encode())
    for run in resolve.studies_of(shipped)["quick"].runs:
        records.write(record_of(run, 70.0), run.path)

    def made(**locale: str) -> tuple[str, dict[str, bytes]]:
        said = ""
        for verb in (["summarise"], ["report"], ["show", "quick"]):
            done = subprocess.run(
                [sys.executable, "-m", "bench", *verb],
                env=os.environ | {"PYTHONPATH": str(ROOT)} | locale,
                capture_output=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            said += done.stdout.decode()
        return said, {path.name: path.read_bytes() for path in [*Path("results").glob("*.csv"), Path("report/report.html")]}

    said, files = made(PYTHONUTF8="1")
    assert "Größer als ε?" in said
    assert "Größer als ε?".encode() in files["report.html"]
    other, same = made(**NO_UTF8)
    assert "Gr??er als ??" in other
    assert same.keys() == files.keys()
    for name, content in files.items():
        assert same[name] == content or name == "report.html", name  # which has the time
    assert "Größer als ε?".encode() in same["report.html"]
