"""Where the code of a run comes from: its own repository, or it says that it does not know."""

import os
import subprocess

import pytest

from bench import machine


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with one commit and a function that calls git in it; it is the code's."""
    identity = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false"]

    def git(*arguments):
        done = subprocess.run(["git", "-C", tmp_path, *identity, *arguments], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init")
    (tmp_path / "code.py").write_text("1")
    git("add", ".")
    git("commit", "-m", "all")
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    return tmp_path, git


def test_the_commit_is_that_of_the_codes_own_repository(repository, monkeypatch):
    folder, git = repository
    assert machine.commit() == (git("rev-parse", "HEAD"), False)
    (folder / "code.py").write_text("2")
    assert machine.commit() == (git("rev-parse", "HEAD"), True)
    inside = folder / "unpacked"  # an archive of this code within somebody's repository
    inside.mkdir()
    monkeypatch.setattr(machine, "ROOT", inside)
    assert machine.commit() == ("unknown", False)
    link = folder.parent / "link"
    link.symlink_to(folder)
    monkeypatch.setattr(machine, "ROOT", link)
    assert machine.commit() == (git("rev-parse", "HEAD"), True)


def test_a_checkout_of_another_user_is_told_with_the_remedy(repository, monkeypatch, capsys):
    folder, _ = repository
    programs = folder / "bin"
    programs.mkdir()
    (programs / "git").write_text(
        "#!/bin/sh\necho \"fatal: detected dubious ownership in repository at '$2'\" >&2\nexit 128\n"
    )
    (programs / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    assert machine.commit() == ("unknown", False)
    said = capsys.readouterr().err
    assert f"`git config --global --add safe.directory {folder}` lets it" in said
