"""How to cite the suite, from CITATION.cff: version, licence, BibTeX entries of the suite and of what it examines."""

from pathlib import Path

import yaml

from bench import ROOT

CITATION = ROOT / "CITATION.cff"


def cited(path: Path = CITATION) -> dict:
    """`title`, `version`, `license`, `repository` ('' where the file names none) and `bibtex` of the file at `path`."""
    cff = yaml.safe_load(path.read_text())
    entries = [_entry("scalenorm-bench", cff), *(_entry(_key(reference), reference) for reference in cff["references"])]
    told = {key: str(cff[key]) for key in ("title", "version", "license")}
    return told | {"repository": cff.get("repository-code", ""), "bibtex": "\n\n".join(entries)}


def _key(reference: dict) -> str:
    return f"{reference['authors'][0]['family-names'].lower()}{reference.get('year', '')}"


def _entry(key: str, cff: dict) -> str:
    fields = {
        "title": f"{{{cff['title']}}}",
        "author": " and ".join(author.get("family-names") or f"{{{author['name']}}}" for author in cff["authors"]),
        "year": cff.get("year"),
        "version": cff.get("version"),
        "url": cff.get("url") or cff.get("repository-code"),
    }
    kind = "misc" if cff["type"] == "article" else "software"
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
    return "\n".join([f"@{kind}{{{key},", *lines, "}"])
