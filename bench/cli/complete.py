"""Names that a shell completes, from the configuration of the working directory. On an error it completes nothing."""

import contextlib

import click


def _sections(*sections: str):
    """A completer of the names in `sections` of the configuration; unchecked, since a shell does not wait."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
        with contextlib.suppress(Exception):
            import yaml

            text = ctx.find_root().params["config"].read_text()
            content = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
            return [name for section in sections for name in content[section] if name.startswith(incomplete)]
        return []

    return complete


studies = _sections("studies")
archs = _sections("archs")
variants = _sections("variants")
datasets = _sections("datasets")
recipes = _sections("recipes")
_shown = _sections("studies", "claims")


def runs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    with contextlib.suppress(Exception):
        from bench.plan import config, resolve

        known = resolve.studies_of(config.load(ctx.find_root().params["config"])).values()
        return [
            name for name in dict.fromkeys(run.id for study in known for run in study.runs) if name.startswith(incomplete)
        ]
    return []


def shown(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Studies and claims, and from the first slash on runs."""
    return [*_shown(ctx, param, incomplete), *(runs(ctx, param, incomplete) if "/" in incomplete else [])]
