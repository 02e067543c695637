"""Reads config.yaml: every error at once, each with file, line, key, value and a suggestion."""

import difflib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from bench import ROOT, BenchError, names, plugins
from bench.plan import yaml_traps
from bench.plan.families import FAMILIES

# libyaml's, where PyYAML was built with it, takes a fifth of the time.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
SCHEMA = ROOT / "workflow" / "schemas" / "config.schema.yaml"
# Names that tables of the code hold, $defs of the schema.
NAMES = {"family": FAMILIES, "kind": names.NORMS, "source": names.SOURCES, "engine": names.ENGINES}
# Of numbers, and 1 / MOST: what lies beyond is a slip of the keyboard, and neither a path nor a double has room for it.
MOST = 10**18
# 80.0 is another text than 80 in a run's identity, and no count.
Validator = jsonschema.validators.extend(
    jsonschema.Draft202012Validator,
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    ),
)


def load(path: str | Path = "config.yaml", *, local: bool = True) -> dict:
    """The checked content of `path`, with `config.local.yaml` beside it merged over (datasets and machine only) if `local`.

    Raises BenchError with all problems of types and names; what the values mean together is checked by `bench.spec`.
    """
    path = Path(path)
    main = _Document(path)
    documents, merged = [main], main.data
    beside = path.with_name("config.local.yaml")
    if local and beside.exists():
        overlay = _Document(beside, may_be_empty=True)
        wrong = sorted(set(overlay.data) - {"datasets", "machine"} - _own_archs(overlay.data, main.data))
        if wrong:
            raise BenchError(
                f"{beside}: {', '.join(wrong)}: only `datasets` and `machine` may differ between machines, "
                f"and `archs` have more of your own code; write it in {path}"
            )
        documents.insert(0, overlay)
        merged = merge(merged, overlay.data)
    schema = yaml.load(SCHEMA.read_text(encoding="utf-8"), Loader=LOADER)
    schema["$defs"] |= {key: {"enum": list(table)} for key, table in NAMES.items()}
    errors = list(_leaves(Validator(schema).iter_errors(merged)))
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


def _own_archs(overlay: dict, main: dict) -> set[str]:
    """{'archs'} where all archs of the overlay are new and code of the user, which may be on this machine alone."""
    archs, known = overlay.get("archs"), main.get("archs")
    own = isinstance(archs, dict) and all(
        isinstance(arch, dict) and plugins.is_one(arch.get("family")) for arch in archs.values()
    )
    return {"archs"} if own and not (isinstance(known, dict) and known.keys() & archs.keys()) else set()


class _Document:
    """A YAML mapping that remembers the line of every key."""

    def __init__(self, path: Path, *, may_be_empty: bool = False):
        self.path = path
        try:
            text = path.read_text(encoding="utf-8-sig")
            self.node = yaml.compose(text, Loader=LOADER)
        except FileNotFoundError:
            raise BenchError(f"{path}: no such file; run in the repository's folder, or name one with --config") from None
        except OSError as error:
            raise BenchError(f"{path}: cannot be read ({error.strerror}); name another one with --config") from None
        except UnicodeDecodeError:
            raise BenchError(f"{path}: not a text file in UTF-8; save it as one") from None
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            raise BenchError(f"{path}:{mark.line + 1}:{mark.column + 1}: {error.problem}; write YAML there") from None
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            raise BenchError(f"{path}:{line}: a control character, which is none of a text; remove it") from None
        except RecursionError:
            raise BenchError(f"{path}: nested too deeply; a few levels are all that there is to say") from None
        if self.node is None and may_be_empty:
            self.data: dict = {}
            return
        if not isinstance(self.node, yaml.MappingNode):
            found = "and it is empty" if self.node is None else f"not a {self.node.id}"
            raise BenchError(f"{path}: a mapping of keys is expected at the top, {found}; config.yaml in git has one")
        yaml_traps.refuse(path, self.node)
        try:
            self.data = yaml.load(text, Loader=LOADER)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            raise BenchError(f"{path}:{mark.line + 1}:{mark.column + 1}: {error.problem}; write YAML there") from None

    def line(self, keys: list) -> int | None:
        """Line of the innermost of `keys` that this file has, None if it does not have the outermost but one."""
        node, line, found = self.node, None, 0
        for key in keys:
            if isinstance(node, yaml.MappingNode):
                step = _entry(node, str(key))
                if step is None:
                    break
                line, node = step[0].start_mark.line + 1, step[1]
            elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
                node = node.value[key]
                line = node.start_mark.line + 1
            found += 1
        return line if found >= len(keys) - 1 else None


def _entry(node: yaml.MappingNode, key: str) -> tuple[yaml.Node, yaml.Node] | None:
    """(node of the key, of its value), where it is written: here, or in a mapping that is merged into this one (`<<`)."""
    for name, value in node.value:
        if name.value == key:
            return name, value
    merged = [value for name, value in node.value if name.tag == "tag:yaml.org,2002:merge"]
    parts = [part for value in merged for part in (value.value if isinstance(value, yaml.SequenceNode) else [value])]
    found = (_entry(part, key) for part in parts if isinstance(part, yaml.MappingNode))
    return next((entry for entry in found if entry), None)


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


TYPES = {
    "object": "a mapping of keys",
    "array": "a list, [a, b],",
    "string": "text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
}
WAYS_OUT = {
    "required": "add it",
    "minimum": "choose a larger one",
    "exclusiveMinimum": "choose a larger one",
    "maximum": "choose a smaller one",
    "exclusiveMaximum": "choose a smaller one",
    "minItems": "name one at least",
    "maxItems": "remove what is too much",
    "minProperties": "name one at least",
    "minLength": "write something",
    "maxLength": "choose a shorter one",
    "uniqueItems": "keep one of those that are equal",
}
LONGEST = 60  # characters of a value that a sentence quotes


def _quoted(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _sentence(error: jsonschema.ValidationError, documents: list[_Document]) -> str:
    keys, value = list(error.absolute_path), error.instance
    text = f"{error.message.replace(repr(value), _quoted(value))}; {WAYS_OUT.get(error.validator, 'see config.yaml in git')}"
    if error.validator == "additionalProperties" and isinstance(value, dict):
        known = error.schema.get("properties", {})
        unknown = sorted(str(key) for key in value if key not in known)
        keys = [*keys, unknown[0]]
        text = "; ".join(f"unknown key {_quoted(key)}{did_you_mean(key, known)}" for key in unknown)
    elif error.validator == "enum":
        choices = error.validator_value
        text = f"{_quoted(value)} is not one of {', '.join(map(str, choices))}{did_you_mean(value, choices)}{_as_text(value)}"
    elif error.validator == "type":
        text = _of_type(value, error.validator_value)
    elif error.validator == "pattern" and error.validator_value.startswith("^[a-z0-9]"):
        text = f"{_quoted(value)}: names become paths: small letters, digits and '-' only"
    elif error.validator == "pattern" and ":" in error.validator_value:
        text = f"{_quoted(value)}: code of yours is named package.module:function"
    elif error.validator == "pattern":
        text = f"{_quoted(value)}: one line without control characters is expected; `>-` makes one of several"
    return f"{_place(keys, documents)}{text}"


def _of_type(value: Any, expected: str) -> str:
    """Why `value` is not of the JSON type `expected`, and what to write."""
    if isinstance(value, str) and expected in ("number", "integer"):
        return f"{_quoted(value)} is text, a number is expected{as_number(value, expected)}"
    if isinstance(value, float) and expected == "integer" and value.is_integer() and abs(value) < MOST:
        return f"{value!r} has a decimal point, a whole number is expected; write {int(value)}"
    return f"{_quoted(value)}: {TYPES[expected]} is expected{_as_text(value) if expected == 'string' else ''}"


def _as_text(value: Any) -> str:
    """What to do about a value that YAML does not read as text."""
    if isinstance(value, bool):
        return "; YAML reads yes, no, on and off as true and false, so put text into quotes"
    return "; put text into quotes" if isinstance(value, (int, float)) else ""


def _place(keys: list, documents: list[_Document]) -> str:
    """'config.yaml:12: recipes.digits.delta: ', of the first document that has the keys."""
    place, line = documents[-1].path, None
    for document in documents:
        line = document.line(keys)
        if line:
            place = document.path
            break
    where = ".".join(str(key) if str(key).isprintable() else repr(key) for key in keys)
    return f"{place}{f':{line}' if line else ''}: {f'{where}: ' if where else ''}"


def _no_numbers(value: Any, keys: tuple = ()) -> Iterator[tuple[list, str]]:
    """(keys, why) of numbers that no limit of the schema catches: NaN, infinity where all is bounded, and absurd ones."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _no_numbers(item, (*keys, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _no_numbers(item, (*keys, index))
    elif isinstance(value, float) and math.isnan(value):
        yield list(keys), ".nan is not a number; write one"
    elif isinstance(value, float) and math.isinf(value):
        if not {"epsilons", "epsilon", "range"} & set(keys):
            why = "is not a finite number; only an epsilon and an end of a claim's range may be infinite"
            yield list(keys), f"{'-' * (value < 0)}.inf {why}"
    elif isinstance(value, (int, float)) and value and not 1 / MOST < abs(value) < MOST:
        yield list(keys), f"{_quoted(value)} is no number of this world; choose one of 1e-18 to 1e18"


def as_number(text: str, expected: str) -> str:
    """What to write for a number that YAML reads as text: what YAML reads as that number."""
    if text.strip().lower().lstrip("+-") in ("inf", "infinity"):
        return "; YAML writes infinity as .inf"
    try:
        number = float(text)
    except ValueError:
        return ""
    if not math.isfinite(number) or (number and not 1 / MOST < abs(number) < MOST):
        return ""
    if yaml_traps.number(text) == number and (expected == "number" or "." not in text):
        return "; remove the quotes"
    if number.is_integer() and (expected == "integer" or (number < 1e6 and "e" not in text.lower())):
        return f"; write {int(number)}"
    if expected == "integer":
        return ""
    mantissa, _, exponent = text.lower().strip().partition("e")
    sign = exponent if exponent[:1] in ("+", "-") else f"+{exponent}"
    written = f"{mantissa}{'' if '.' in mantissa else '.0'}{f'e{sign}' if exponent else ''}"
    return f"; write {written if yaml_traps.number(written) == number else yaml_traps.written(number)}"


def did_you_mean(name: Any, known) -> str:
    """' (did you mean ...?)' with the closest of `known`, or the list of them when none is close."""
    known = [item if item.isprintable() else repr(item) for item in map(str, known)]  # a sentence is one line
    close = difflib.get_close_matches(str(name), known, n=1)
    if close:
        return f" (did you mean {close[0]!r}?)"
    return f" (known: {', '.join(sorted(known))})" if len(known) <= 40 else f" (none of {len(known)}; config.yaml has them)"


def unknown_names(place: str, names: list, known, what: str) -> list[str]:
    """A refusal of each of `names` that is not among `known`."""
    return [f"{place}: unknown {what} {name!r}{did_you_mean(name, known)}" for name in names if name not in known]


def names_asked(value: Any) -> list[str]:
    """The names in 'a, b', as Snakemake hands over what stands behind `studies=`: a text, a number, a list or nothing."""
    parts = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else [value]
    return [name for part in parts if part is not None and (name := str(part).strip())]
