"""Draws docs/architecture.svg from the code: `python -m tools.architecture`, from the repository's root.

The steps of the pipeline are those of `snakemake --rulegraph`, the rooms and their imports those that tests/test_rooms.py
finds, and what a room says of itself is the first sentence of its docstring.
"""

import ast
import itertools
import os
import re
import subprocess
import sys
import textwrap
from html import escape

from bench import ROOT
from tests.test_rooms import imports

DRAWING = ROOT / "docs/architecture.svg"
# What any room may use: arrows to these would hide the others.
SHELF = ("names", "plugins", "files", "source", "layers", "terminal", "machine")
WIDTH, MARGIN, GAP = 1180, 30, 20
INK, GREY, LINE, PAPER, FILL, SHADE = "#1f2430", "#5b6270", "#8a93a3", "#ffffff", "#f3f6fb", "#e3ecf8"
HEAD = f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {{height}}" font-family="sans-serif" role="img"
 aria-label="The steps of the pipeline, and the rooms of the code with what they import">
<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto"><path
 d="M0,0.5 L8,4 L0,7.5 z" fill="{LINE}"/></marker></defs>
<rect width="100%" height="100%" fill="{PAPER}"/>
"""


def main() -> None:
    DRAWING.write_text(drawing(*pipeline(), imports()))


def drawing(steps: dict[str, list[str]], arrows: set[tuple[str, str]], edges: set[tuple[str, str]]) -> str:
    """The SVG: `steps` (rule -> lines that say what it does) with their `arrows`, rooms with the `edges` of their imports."""
    edges = direct({(a, b) for a, b in edges if not {a, b} & {*SHELF}})
    ranked = rows(edges)
    parts = [title(38, "What make does", "a box a rule of the workflow; it calls a verb of bench, which leaves files")]
    places, y = {}, 78
    for number, step in enumerate(order(steps, arrows)):
        width = (WIDTH - 2 * MARGIN - (len(steps) - 1) * 2 * GAP) / len(steps)
        places[step] = (MARGIN + number * (width + 2 * GAP), y, width, 100)
    parts += [across(places[a], places[b]) for a, b in sorted(arrows)]
    parts += [
        box(places[step], step, [part for line in lines for part in wrapped(line, places[step][2])], SHADE)
        for step, lines in steps.items()
    ]
    y += 168
    parts.append(title(y, "The rooms of bench/", "an arrow points to what is imported, what follows from others left out"))
    y += 22
    for row in ranked:
        many = max(4, len(row))
        width = (WIDTH - 2 * MARGIN - (many - 1) * GAP) / many
        left = (WIDTH - len(row) * width - (len(row) - 1) * GAP) / 2
        said = {room: sentence(room, width) for room in row}
        height = 34 + 16 * max(map(len, said.values()))
        for number, room in enumerate(row):
            places[room] = (left + number * (width + GAP), y, width, height)
            parts.append(box(places[room], room, said[room], FILL))
        y += height + 44
    parts += [downwards(places[a], places[b]) for a, b in sorted(edges)]
    parts.append(title(y + 6, "Below all of them", "used from anywhere, without an arrow"))
    y += 26
    width = (WIDTH - 2 * MARGIN - 3 * GAP) / 4
    for row in (SHELF[:4], SHELF[4:]):
        said = {room: sentence(room, width) for room in row}
        height = 34 + 16 * max(map(len, said.values()))
        parts += [box((MARGIN + n * (width + GAP), y, width, height), room, said[room], PAPER) for n, room in enumerate(row)]
        y += height + GAP
    return HEAD.format(height=round(y + 10)) + "\n".join(parts) + "\n</svg>\n"


def pipeline() -> tuple[dict[str, list[str]], set[tuple[str, str]]]:
    """({rule: verb, outputs and rooms}, {(rule, rule that needs it)}) of study quick and its report, whatever exists here."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--rulegraph", "--config"]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([*command, "studies=quick"], cwd=ROOT, capture_output=True, text=True, check=True, env=environment)
    rules = dict(re.findall(r'(\d+)\[label = "(\w+)"', done.stdout))
    arrows = {(rules[a], rules[b]) for a, b in re.findall(r"(\d+) -> (\d+)", done.stdout) if rules[b] != "all"}
    text = "\n".join(path.read_text() for path in sorted((ROOT / "workflow/rules").glob("*.smk")))
    steps = {}
    for rule in sorted(set(rules.values()) - {"all"}):
        (body,) = re.findall(rf"^rule {rule}:\n(.*?)(?=^\S|\Z)", text, re.M | re.S)
        verb = re.search(r"python -m bench (\w+)", body)[1]
        outputs = re.findall(r'"((?:results|report)/.*?)"', re.search(r"output:\n(.*?)\n    \w+:", body, re.S)[1])
        # of a path the parts that have names of their own; the wildcards are the run's identity
        left = outputs[0].split("{")[0].rstrip("/") + ("/" if "{" in outputs[0] else "")
        more = f" and {len(outputs) - 1} more" if len(outputs) > 1 else ""
        steps[rule] = [f"bench {verb}", f"→ {left}{more}", f"in {', '.join(rooms_of(verb))}"]
    return steps, arrows


def rooms_of(verb: str) -> list[str]:
    """The rooms that a verb's function in bench/commands names itself, or through functions beside it."""
    trees = [ast.parse(path.read_text()) for path in sorted((ROOT / "bench/commands").glob("*.py"))]
    (tree,) = (tree for tree in trees if any(getattr(node, "name", None) == verb for node in tree.body))
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    above = imported(ast.Module([node for node in tree.body if isinstance(node, ast.ImportFrom)], []))

    def named(name: str) -> set[str]:
        body = functions[name]
        words = {node.id for node in ast.walk(body) if isinstance(node, ast.Name)}
        known = above | imported(body)
        return {known[word] for word in words & known.keys()}.union(
            *(named(word) for word in words & functions.keys() - {name})
        )

    rooms = {path.name for path in (ROOT / "bench").iterdir() if path.is_dir()}
    return sorted(named(verb) & rooms)


def imported(tree: ast.AST) -> dict[str, str]:
    """name in the code -> room that it comes from."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "bench":
            for alias in node.names:
                found[alias.asname or alias.name] = f"{node.module}.{alias.name}".split(".")[1]
    return found


def direct(edges: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """The edges that do not follow from others."""
    below: dict[str, set[str]] = {}
    for a, b in edges:
        below.setdefault(a, set()).add(b)

    def all_below(room: str) -> set[str]:
        return below.get(room, set()).union(*(all_below(other) for other in below.get(room, ())))

    return {(a, b) for a, b in edges if not any(b in all_below(other) for other in below[a] - {b})}


def rows(edges: set[tuple[str, str]]) -> list[tuple[str, ...]]:
    """Rooms by level, importers above, each as low as its imports allow; of all orders the one of shortest arrows."""
    rooms = {room for edge in edges for room in edge}
    level = dict.fromkeys(rooms, 0)
    for _ in rooms:
        level |= {b: max(level[b], level[a] + 1) for a, b in sorted(edges, key=lambda edge: level[edge[0]])}
    for room in sorted(rooms, key=lambda room: -level[room]):
        level[room] = min((level[b] - 1 for a, b in edges if a == room), default=level[room])
    ranked = [tuple(sorted(room for room in rooms if level[room] == number)) for number in range(max(level.values()) + 1)]

    def length(order: tuple[tuple[str, ...], ...]) -> float:
        x = {room: number - (len(row) - 1) / 2 for row in order for number, room in enumerate(row)}
        return sum(abs(x[a] - x[b]) for a, b in edges)

    return list(min(itertools.product(*map(itertools.permutations, ranked)), key=length))


def order(steps: dict, arrows: set[tuple[str, str]]) -> list[str]:
    """The steps, each behind those that it needs."""
    done: list[str] = []
    while left := [step for step in steps if step not in done]:
        done.append(min(step for step in left if all(a in done for a, b in arrows if b == step)))
    return done


def sentence(room: str, width: float) -> list[str]:
    """The first sentence of a room's docstring, in lines that fit."""
    path = ROOT / "bench" / room
    text = ast.get_docstring(ast.parse((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text()))
    first = re.split(r"(?<=\w)\.\s", text.replace("\n", " ") + " ")[0].replace("`", "")
    return wrapped(first, width)


def wrapped(text: str, width: float) -> list[str]:
    """Lines that fit into a box, whichever of the common fonts shows them."""
    return textwrap.wrap(text, int((width - 24) / 6.4))


def title(y: float, text: str, more: str) -> str:
    return (
        f'<text x="{MARGIN}" y="{y:g}" font-size="19" font-weight="600" fill="{INK}">{escape(text)}'
        f'<tspan font-size="13" font-weight="400" fill="{GREY}" dx="12">{escape(more)}</tspan></text>'
    )


def box(place: tuple, name: str, lines: list[str], fill: str) -> str:
    x, y, width, height = place
    said = "".join(f'<tspan x="{x + 12:g}" dy="16">{escape(line)}</tspan>' for line in lines)
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6" fill="{fill}" stroke="{LINE}"/>'
        f'<text x="{x + 12:g}" y="{y + 21:g}" font-size="15" font-weight="600" fill="{INK}">{escape(name)}</text>'
        f'<text x="{x + 12:g}" y="{y + 22:g}" font-size="11.5" fill="{GREY}">{said}</text>'
    )


def path_of(text: str) -> str:
    return f'<path d="{text}" fill="none" stroke="{LINE}" stroke-width="1.5" marker-end="url(#tip)"/>'


def across(one: tuple, two: tuple) -> str:
    """From a step to the next one, or in a bow over those between."""
    x, to, y = one[0] + one[2], two[0], one[1] + one[3] / 2
    if to - x < 3 * GAP:
        return path_of(f"M{x:g},{y:g} L{to:g},{y:g}")
    return path_of(f"M{x - 40:g},{one[1]:g} C{x - 10:g},{one[1] - 26:g} {to + 10:g},{one[1] - 26:g} {to + 40:g},{one[1]:g}")


def downwards(one: tuple, two: tuple) -> str:
    """From the lower side of a room to the upper one of another, leaving and arriving in its direction."""
    x, y, to, end = one[0] + one[2] / 2, one[1] + one[3], two[0] + two[2] / 2, two[1]
    if end - y > 100:  # past a row of rooms: from the side, and down beside them
        side, y = one[0] + (one[2] if to > x else 0), y - one[3] / 2
        return path_of(f"M{side:g},{y:g} Q{to:g},{y:g} {to:g},{end:g}")
    lean = max(-70, min(70, (to - x) / 5))
    x, to = x + lean, to - lean
    return path_of(f"M{x:g},{y:g} C{x:g},{(y + end) / 2:g} {to:g},{(y + end) / 2:g} {to:g},{end:g}")


if __name__ == "__main__":
    main()
