"""What YAML reads otherwise than its writer meant: refused where it stands, before any value of it is used."""

import math
import re
from pathlib import Path

import yaml

from bench import BenchError

STANDARD = "tag:yaml.org,2002:"
WHOLE = re.compile(r"[-+]?(0|[1-9][0-9_]{0,30})")
FLOAT = re.compile(r"[-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)([eE][-+][0-9]+)?")
SPECIAL = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
NUMBERED = "noise_multipliers"  # the mapping whose keys are numbers
MOST = 100_000  # values of a file, those that aliases repeat counted each time


def refuse(path: Path, root: yaml.Node) -> None:
    """BenchError, with the line, for the first trap below `root`: octal and sexagesimal numbers, dates, keys that are no text
    or stand twice, tags, aliases within themselves or so many that they multiply."""
    count = 0
    stack = [(root, "", (root,))]
    while stack:
        node, name, around = stack.pop()
        count += 1
        if count > MOST:
            raise BenchError(f"{path}: more than {MOST:,} values, aliases counted; write fewer")
        place = f"{path}:{node.start_mark.line + 1}: "
        if isinstance(node, yaml.ScalarNode):
            _refuse_scalar(place, node)
            continue
        if node.tag not in (f"{STANDARD}map", f"{STANDARD}seq"):
            raise BenchError(f"{place}tag {node.tag.removeprefix(STANDARD)!r} means nothing here; remove it")
        inside = node.value if isinstance(node, yaml.SequenceNode) else [value for _, value in node.value]
        names = [name] * len(inside)
        if isinstance(node, yaml.MappingNode):
            _refuse_keys(path, node, numbers=name == NUMBERED)
            names = [key.value for key, _ in node.value]
        for item, called in reversed(list(zip(inside, names, strict=True))):  # so that the first one is told
            if any(item is outer for outer in around):
                raise BenchError(f"{place}an alias within what it stands for has no end; write the value itself")
            stack.append((item, called, (*around, item)))


def _refuse_keys(path: Path, node: yaml.MappingNode, numbers: bool) -> None:
    seen = set()
    for key, _ in node.value:
        place = f"{path}:{key.start_mark.line + 1}: "
        if not isinstance(key, yaml.ScalarNode):
            raise BenchError(f"{place}a {key.id} cannot be a key; write a name")
        kind = key.tag.removeprefix(STANDARD)
        if kind not in ("str", "merge") and not (numbers and kind in ("int", "float")):
            raise BenchError(f"{place}key {key.value!r} is read as {_KINDS.get(kind, kind)}; put it into quotes")
        if kind != "str":
            _refuse_scalar(place, key)
        if key.value in seen:
            raise BenchError(f"{place}key {key.value!r} stands here a second time; remove one")
        seen.add(key.value)


_KINDS = {"bool": "true or false", "int": "a number", "float": "a number", "null": "nothing", "timestamp": "a date"}


def _refuse_scalar(place: str, node: yaml.ScalarNode) -> None:
    kind, text = node.tag.removeprefix(STANDARD), node.value
    shown = repr(text if len(text) < 60 else f"{text[:60]}...")
    if kind == "timestamp":
        raise BenchError(f"{place}{text} is read as a date; put text into quotes")
    if kind in ("str", "merge", "null", "value") or (kind == "bool" and text.lower() in _TRUTH):
        return
    if kind not in ("int", "float"):
        raise BenchError(f"{place}tag {kind!r} means nothing here; remove it")
    if SPECIAL.fullmatch(text) or number(text) is not None:
        return
    if kind == "int" and re.fullmatch(r"[-+]?0[0-7_]+", text):
        raise BenchError(f"{place}{shown} is read as an octal number; write {text.replace('_', '').lstrip('+-0') or 0}")
    if FLOAT.fullmatch(text):
        raise BenchError(f"{place}{shown} is beyond all numbers; write .inf where infinity is meant")
    if ":" in text:
        raise BenchError(f"{place}{shown} is read as a number of base 60; put text into quotes, or write the number itself")
    raise BenchError(f"{place}{shown} is no number that is read here; write its decimal digits")


_TRUTH = ("yes", "no", "true", "false", "on", "off")


def number(text: str) -> int | float | None:
    """The finite decimal number that YAML reads from plain `text`; None where it reads none, or one out of range."""
    if WHOLE.fullmatch(text):
        return int(text.replace("_", ""))
    if FLOAT.fullmatch(text):
        value = float(text.replace("_", ""))
        return value if math.isfinite(value) else None
    return None


def written(value: float) -> str:
    """A text that YAML reads as `value`."""
    mantissa, _, exponent = repr(value).partition("e")
    if not exponent:
        return mantissa
    return f"{mantissa}{'' if '.' in mantissa else '.0'}e{exponent if exponent[0] in '+-' else f'+{exponent}'}"
