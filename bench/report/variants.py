"""Every variant explained from its keys in the configuration: a block drawn with its extra layers, and a sentence."""

from markupsafe import Markup, escape

from bench.plan.spec import SITES, Study
from bench.report.formats import listing

BEHIND = {"skip": "on the skip", "branch": "on the branch", "sum": "behind the sum", "out": "behind the last activation"}
PLACES = {"branch": (172, 20), "skip": (172, 70), "sum": (286, 45), "out": (366, 45)}  # centres of the extra layers
BOX = (68, 24)
FIXED = ((12, 45, 46, 45), (46, 45, 46, 20), (46, 20, 226, 20), (226, 20, 226, 36),
         (46, 45, 46, 70), (46, 70, 226, 70), (226, 70, 226, 54), (235, 45, 414, 45))  # fmt: skip


def explained(config: dict, studies: dict[str, Study]) -> dict[str, dict]:
    """`sentence` and `diagram` (SVG) of every variant that a study has, by name, in the configuration's order."""
    used = {run.variant for study in studies.values() for run in study.runs}
    return {
        name: {"sentence": sentence(keys), "diagram": diagram(name, keys)}
        for name, keys in config["variants"].items()
        if name in used
    }


def sentence(keys: dict) -> str:
    """'Group norm with 8 groups throughout; one more norm like the block's others behind the sum, in the last stage only.'"""
    parts = []
    if norm := keys.get("norm"):
        parts.append(f"{_norm(norm)} throughout")
    sites = {site: keys["sites"][site] for site in SITES if site in keys.get("sites", {})}
    for layer in {str(value): value for value in sites.values()}.values():
        places = [BEHIND[site] for site, value in sites.items() if value == layer]
        parts.append(f"{_layer(layer)} {listing(places)}")
    if not parts:
        parts.append("the network as its authors have it, with no layer added")
    told = "; ".join(parts)
    if sites and keys.get("stages", "all") != "all":
        told += f", in {_stages(keys)} only"
    return f"{told[0].upper()}{told[1:]}."


def _layer(value: str | dict) -> str:
    if isinstance(value, str):
        told = {"norm": "one more norm like the block's others", "shared": "the block's last norm, used a second time,"}
        return told.get(value, "one learnable gain, at first 1,")
    if set(value) == {"affine"}:
        return "one more norm like the block's others without learnable scale and shift" if not value["affine"] else "a norm"
    return f"a {_norm(value).lower()}"


def _norm(keys: dict) -> str:
    kinds = {"none": "No norms", "layer": "Layer norm (one group)", "instance": "Instance norm (a group a channel)"}
    kinds |= {"batch": "Batch norm"}
    kind = keys.get("kind", "group")
    groups = keys.get("groups")
    told = kinds.get(kind, f"Group norm with {groups} groups" if groups else "Group norm")
    return told if keys.get("affine", True) else f"{told}, without learnable scale and shift"


def _stages(keys: dict) -> str:
    """'the last stage', 'stage 1 and stage 3'."""
    return listing([f"the {stage} stage" if isinstance(stage, str) else f"stage {stage}" for stage in keys["stages"]])


def diagram(name: str, keys: dict) -> Markup:
    """A residual block from left to right: branch above, skip below, their sum; a filled box for every extra layer."""
    title = f"variant-{escape(name)}-title"
    lines = "".join(f'<path d="M{x} {y}L{u} {v}"/>' for x, y, u, v in FIXED)
    parts = [lines, _box(92, 20, "branch"), _box(92, 70, "skip"), '<circle cx="226" cy="45" r="9"/>']
    parts.append('<path d="M221 45h10M226 40v10"/><path d="M408 41l6 4l-6 4"/>')
    sites = keys.get("sites", {})
    parts += [_box(*PLACES[site], _short(sites[site]), "extra") for site in SITES if site in sites]
    below = []
    if "norm" in keys:
        below.append(_norm(keys["norm"]))
    if sites and keys.get("stages", "all") != "all":
        below.append(f"{_stages(keys)} only")
    if below:
        parts.append(f'<text x="12" y="100" class="left">{escape("; ".join(below))}</text>')
    return Markup(
        f'<svg class="block" viewBox="0 0 426 108" role="img" aria-labelledby="{title}"><title id="{title}">'
        f"Residual block of variant {escape(name)}</title>{''.join(parts)}</svg>"
    )


def _short(value: str | dict) -> str:
    if isinstance(value, str):
        return {"norm": "norm", "shared": "same norm", "scalar": "gain"}.get(value, value)
    return "plain norm" if value.get("affine") is False else f"{value.get('kind', 'group')} norm"


def _box(x: float, y: float, text: str, kind: str = "") -> str:
    width, height = max(BOX[0], 7.6 * len(text)), BOX[1]
    mark = f' class="{kind}"' if kind else ""
    frame = f'<rect{mark} x="{x - width / 2:g}" y="{y - height / 2:g}" width="{width}" height="{height}" rx="3"/>'
    return f'{frame}<text{mark} x="{x}" y="{y + 4}">{escape(text)}</text>'
