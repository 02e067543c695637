"""Reads config.yaml: every error at once, each with file, line, key, value and a suggestion."""

import difflib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from bench import ROOT, BenchError

# libyaml's, where PyYAML was built with it, takes a fifth of the time.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
SCHEMA = ROOT / "workflow" / "schemas" / "config.schema.yaml"


def load(path: str | Path = "config.yaml", *, local: bool = True) -> dict:
    """The checked content of `path`, with `config.local.yaml` beside it merged over (datasets and machine only) if `local`.

    Raises BenchError with all problems of types and names; what the values mean together is checked by `bench.spec`.
    """
    path = Path(path)
    main = _Document(path)
    documents, merged = [main], main.data
    beside = path.with_name("config.local.yaml")
    if local and beside.exists():
        overlay = _Document(beside)
        wrong = sorted(set(overlay.data) - {"datasets", "machine"})
        if wrong:
            raise BenchError(f"{beside}: {', '.join(wrong)}: only `datasets` and `machine` may differ between machines")
        documents.insert(0, overlay)
        merged = merge(merged, overlay.data)
    schema = yaml.load(SCHEMA.read_text(), Loader=LOADER)
    errors = list(_leaves(jsonschema.Draft202012Validator(schema).iter_errors(merged)))
    sentences = {_sentence(error, documents) for error in errors}
    sentences |= {f"{_place(keys, documents)}{text}" for keys, text in _no_numbers(merged)}
    if sentences:
        raise BenchError("\n".join(sorted(sentences)))
    return merged


def merge(base: Any, changes: Any) -> Any:
    """`base` with the keys of `changes` laid over it, mapping by mapping; anything else is replaced."""
    if not (isinstance(base, dict) and isinstance(changes, dict)):
        return changes
    return base | {key: merge(base.get(key), value) for key, value in changes.items()}


class _Document:
    """A YAML mapping that remembers the line of every key."""

    def __init__(self, path: Path):
        self.path = path
        try:
            text = path.read_text()
            self.node = yaml.compose(text, Loader=LOADER)
            self.data = yaml.load(text, Loader=LOADER)
        except FileNotFoundError:
            raise BenchError(f"{path}: no such file; run in the repository's folder, or name one with --config") from None
        except UnicodeDecodeError:
            raise BenchError(f"{path}: not a text file in UTF-8") from None
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            raise BenchError(f"{path}:{mark.line + 1}:{mark.column + 1}: {error.problem}") from None
        if not isinstance(self.data, dict):
            raise BenchError(f"{path}: a mapping of keys is expected at the top, not {self.data!r}")
        self._refuse_repeated_keys(self.node)

    def _refuse_repeated_keys(self, node: yaml.Node) -> None:
        if isinstance(node, yaml.MappingNode):
            seen = set()
            for key, value in node.value:
                if key.value in seen:
                    raise BenchError(f"{self.path}:{key.start_mark.line + 1}: key {key.value!r} stands here a second time")
                seen.add(key.value)
                self._refuse_repeated_keys(value)
        elif isinstance(node, yaml.SequenceNode):
            for value in node.value:
                self._refuse_repeated_keys(value)

    def line(self, keys: list) -> int | None:
        """Line of the innermost of `keys` that this file has, None if it does not have the outermost but one."""
        node, line, found = self.node, None, 0
        for key in keys:
            if isinstance(node, yaml.MappingNode):
                step = next(((k, v) for k, v in node.value if k.value == str(key)), None)
                if step is None:
                    break
                line, node = step[0].start_mark.line + 1, step[1]
            elif isinstance(node, yaml.SequenceNode) and isinstance(key, int):
                node = node.value[key]
                line = node.start_mark.line + 1
            found += 1
        return line if found >= len(keys) - 1 else None


def _leaves(errors):
    """The errors worth telling: of alternatives (anyOf), those of the branch that fits the value's type best."""
    for error in errors:
        if not error.context:
            yield error
            continue
        branches: dict[int, list] = {}
        for sub in error.context:
            branches.setdefault(sub.schema_path[0], []).append(sub)
        typed = [subs for subs in branches.values() if not any(s.validator == "type" and not s.path for s in subs)]
        best = min(typed or branches.values(), key=len)
        for sub in best:
            sub.parent = error
        yield from _leaves(best)


def _sentence(error: jsonschema.ValidationError, documents: list[_Document]) -> str:
    keys = list(error.absolute_path)
    value, text = error.instance, error.message
    if error.validator == "additionalProperties" and isinstance(value, dict):
        known = error.schema.get("properties", {})
        unknown = sorted(str(key) for key in value if key not in known)
        keys = [*keys, unknown[0]]
        text = "; ".join(f"unknown key {key!r}{did_you_mean(key, known)}" for key in unknown)
    elif error.validator == "enum":
        choices = error.validator_value
        text = f"{value!r} is not one of {', '.join(map(str, choices))}{did_you_mean(value, choices)}"
    elif error.validator == "type" and isinstance(value, str) and error.validator_value in ("number", "integer"):
        text = f"{value!r} is text, a number is expected{_as_number(value)}"
    elif error.validator == "pattern":
        text = f"{value!r}: names become paths: small letters, digits and '-' only"
    return f"{_place(keys, documents)}{text}"


def _place(keys: list, documents: list[_Document]) -> str:
    """'config.yaml:12: recipes.digits.delta: ', of the first document that has the keys."""
    place, line = documents[-1].path, None
    for document in documents:
        line = document.line(keys)
        if line:
            place = document.path
            break
    where = ".".join(str(key) for key in keys)
    return f"{place}{f':{line}' if line else ''}: {f'{where}: ' if where else ''}"


def _no_numbers(value: Any, keys: tuple = ()) -> Iterator[tuple[list, str]]:
    """(keys, why) of numbers that no limit of the schema catches: NaN, and infinity where nothing is unbounded."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _no_numbers(item, (*keys, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _no_numbers(item, (*keys, index))
    elif isinstance(value, float) and math.isnan(value):
        yield list(keys), ".nan is not a number; write one"
    elif isinstance(value, float) and math.isinf(value) and not {"epsilons", "epsilon", "range"} & set(keys):
        yield (
            list(keys),
            f"{'-' * (value < 0)}.inf is not a finite number; only an epsilon and an end of a claim's range may be infinite",
        )


def _as_number(text: str) -> str:
    try:
        number = float(text)
    except ValueError:
        return ""
    if not math.isfinite(number):
        return "; YAML writes infinity as .inf"
    mantissa, _, exponent = text.lower().partition("e")
    return f"; write {mantissa}.0e{exponent}" if exponent else "; remove the quotes"


def did_you_mean(name: Any, known) -> str:
    """' (did you mean ...?)' with the closest of `known`, or the list of them when none is close."""
    known = [str(item) for item in known]
    close = difflib.get_close_matches(str(name), known, n=1)
    if close:
        return f" (did you mean {close[0]!r}?)"
    return f" (known: {', '.join(sorted(known))})" if len(known) <= 40 else ""


def unknown_names(place: str, names: list, known, what: str) -> list[str]:
    """A refusal of each of `names` that is not among `known`."""
    return [f"{place}: unknown {what} {name!r}{did_you_mean(name, known)}" for name in names if name not in known]
