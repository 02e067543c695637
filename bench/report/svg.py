"""A drawing of matplotlib's as a short <svg>: as many bytes as its marks need, and values that show under the pointer."""

import re
from collections import Counter
from xml.etree import ElementTree

NAMESPACE = "http://www.w3.org/2000/svg"
HREF = "{http://www.w3.org/1999/xlink}href"
VALUE = "value:"  # begins the gid or address of what has a value to show
LETTERS = "abcdefghijklmnopqrstuvwxyz"
NUMBER = re.compile(r"-?\d+(\.\d+)?")
MARKS = 3  # from so many on, a group's own tags are fewer bytes than a class a mark
FONT = re.compile(r"font-family: [^;]*;? ?")


def shortened(text: str, prefix: str, title: str) -> str:
    """`text`, what matplotlib writes, as an element with the id `prefix`; those of its parts begin with `prefix`, too.

    Coordinates are rounded to tenths of a point: nobody sees less. Styles are said once, as classes. An artist whose gid, or
    whose address in a collection, begins with VALUE shows the rest of it under the pointer.
    """
    root = ElementTree.fromstring(text[text.index("<svg") :])
    for part in list(root):
        if _tag(part) in ("metadata", "title"):
            root.remove(part)
    _clean(root)
    _name(root, prefix)
    style = _classes(root, prefix)
    body = "".join(_written(part) for part in root)
    size = f'viewBox="{root.get("viewBox")}" width="{root.get("width")}" height="{root.get("height")}"'
    return (
        f'<svg id="{prefix}" role="img" aria-labelledby="{prefix}-title" {size} font-family="sans-serif" xmlns="{NAMESPACE}">'
        f'<title id="{prefix}-title">{_escaped(f"{prefix}: {title}")}</title><style>{style}</style>{body}</svg>'
    )


def _tag(part: ElementTree.Element) -> str:
    return part.tag.rpartition("}")[2]


def _clean(parent: ElementTree.Element) -> None:
    """Takes away what shows nothing: frames without colour, lines of one point, groups without a purpose, old styles.

    Nor is anything clipped: the axes of all figures hold what is drawn in them.
    """
    kept: list[ElementTree.Element] = []
    for part in list(parent):
        _clean(part)
        tag = _tag(part)
        if tag == "path":
            part.set("d", _path(part.get("d", "")))
        value = _value(part)
        part.attrib.pop("clip-path", None)
        if tag in ("style", "clipPath") or (tag == "defs" and not len(part)) or (tag == "path" and _empty(part)):
            continue
        marks = len(part) >= MARKS and {_tag(mark) for mark in part} == {"use"}  # their style is said once, by their group
        if tag in ("g", "a") and value is None and not marks and not set(part.attrib) - {"id"}:
            kept += list(part)
            continue
        if tag in ("g", "a") and not len(part):
            continue
        if tag == "text":
            part.set("style", FONT.sub("", part.get("style", "")))
            if part.get("transform", "").startswith("rotate(-0 "):
                del part.attrib["transform"]
        part.tail = None
        if tag not in ("text", "tspan"):
            part.text = None
        if value is not None:
            part.tag, shown = f"{{{NAMESPACE}}}g", ElementTree.Element(f"{{{NAMESPACE}}}title")
            shown.text = value
            part.attrib = {}
            part.insert(0, shown)
        kept.append(part)
    parent[:] = kept


def _value(part: ElementTree.Element) -> str | None:
    told = part.get("id", "") if _tag(part) == "g" else part.get(HREF, "") if _tag(part) == "a" else ""
    return told.removeprefix(VALUE) if told.startswith(VALUE) else None


def _path(d: str) -> str:
    """'M1.5 2 3 4 5 6z' of a path with a command a line."""
    d = NUMBER.sub(_tenths, re.sub(r"\s*\n\s*L ", " ", d.strip()))
    return re.sub(r"\s*([A-Za-z])\s*", r"\1", d)


def _tenths(number: re.Match) -> str:
    text = f"{float(number[0]):.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def _empty(path: ElementTree.Element) -> bool:
    style = path.get("style", "")
    return len(NUMBER.findall(path.get("d", ""))) <= 2 or ("stroke:" not in style and "fill: none" in style)


def _name(root: ElementTree.Element, prefix: str) -> None:
    """Short names for what is referred to, and none for the rest."""
    used = [part.get(HREF, "").removeprefix("#") for part in root.iter() if _tag(part) == "use"]
    short = {name: f"{prefix}-{number:x}" for number, name in enumerate(dict.fromkeys(used))}
    for part in root.iter():
        name = part.attrib.pop("id", None)
        if name in short:
            part.set("id", short[name])
        if (target := part.attrib.pop(HREF, "")).startswith("#"):
            part.set("href", f"#{short[target[1:]]}")
        for key in ("x", "y"):
            if key in part.attrib:
                part.set(key, _path(part.get(key)))


def _classes(root: ElementTree.Element, prefix: str) -> str:
    """The style sheet of classes that take the place of styles which several parts have."""
    for part in root.iter():
        _share(part)
    looks = Counter(look for part in root.iter() if (look := _look(part)))
    names = {look: _letters(number) for number, (look, count) in enumerate(looks.most_common()) if count > 1}
    for part in root.iter():
        look = _look(part)
        if look in names:
            del part.attrib["style"]
            part.set("class", names[look])
    rules = [f"#{prefix} .{name}{{{look}}}" for look, name in names.items()]
    return "".join([f"#{prefix} *{{stroke-linejoin:round}}", *rules])


def _share(part: ElementTree.Element) -> None:
    """Marks that have one style give it to their group."""
    styles = {child.get("style") for child in part if _tag(child) == "use"}
    alike = len(styles) == 1 and None not in styles and all(_tag(child) in ("use", "title") for child in part)
    if alike and _tag(part) == "g" and "style" not in part.attrib:
        part.set("style", styles.pop())
        for child in part:
            child.attrib.pop("style", None)


def _look(part: ElementTree.Element) -> str:
    return part.get("style", "").replace(": ", ":").replace("; ", ";")


def _letters(number: int) -> str:
    return LETTERS[number] if number < len(LETTERS) else f"{LETTERS[number % len(LETTERS)]}{number // len(LETTERS)}"


def _written(part: ElementTree.Element) -> str:
    tag = _tag(part)
    names = "".join(f' {key}="{_escaped(value)}"' for key, value in part.attrib.items())
    inside = _escaped(part.text or "") + "".join(_written(child) + _escaped(child.tail or "") for child in part)
    return f"<{tag}{names}>{inside}</{tag}>" if inside else f"<{tag}{names}/>"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
