"""What every page shares: one HTML file with everything in it, which asks nothing of any network.

What comes from data is escaped by Jinja; a Content-Security-Policy lets only the page's own scripts and styles, known
by their hashes, run at all. Plots are drawn by Vega with its expression interpreter, so nothing needs `eval`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

from rmbench.cache import cache_folder
from rmbench.errors import ResultError
from rmbench.report.charts import Spec
from rmbench.results.files import put


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot by the `key` of its specification; where it has none, `missing` says why."""

    title: str
    caption: str
    key: str | None
    missing: str | None = None


@dataclass(frozen=True, slots=True)
class Board:
    """Where plots are put: their specifications into those of the page, keys after the `anchor` of what they are of."""

    anchor: str
    name: str
    specs: dict[str, Spec]

    def plot(self, title: str, caption: str, spec: Spec | None, missing: str = "") -> Plot:
        """A plot, or the reason that there is none."""
        if spec is None:
            return Plot(title, caption, None, missing)
        key = f"{self.anchor}-plot-{len(self.specs) + 1}"
        self.specs[key] = {"description": f"{title}, {self.name}. {caption}", **spec}
        return Plot(title, caption, key)


def render(
    template: str,
    styles: Sequence[str],
    specs: Mapping[str, Spec],
    filters: Mapping[str, Callable[..., object]],
    words: Mapping[str, Any],
) -> str:
    """The page of a `template` of this folder with its `words`, the `styles` after one another, and plots of `specs`.

    The template is given `policy`, `style`, `specs`, `library` and `script` beside its words. Raises ResultError where
    the extra `site` is not installed.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= filters
    style = _inline("\n".join(_own(name) for name in styles))
    script, plotting = _inline(_own("page.js")), _inline(library())
    policy = (
        f"default-src 'none'; script-src {_hash(plotting)} {_hash(script)}; style-src {_hash(style)}; "
        "base-uri 'none'; form-action 'none'"
    )
    machinery = {"policy": policy, "style": style, "script": script, "library": plotting, "specs": as_json(specs)}
    return environment.from_string(_own(template)).render(**machinery, **words)


def keep(path: Path, page: str) -> None:
    """Writes a page to `path`. Raises ResultError where it cannot be written."""
    # A lone surrogate, which a response may hold, becomes a reference that browsers show as a replacement
    content = page.encode("utf-8", "xmlcharrefreplace")
    try:
        put(path, content)
    except OSError as error:
        raise ResultError(f"{path}: cannot write the report ({error.strerror or error})") from error


@cache
def library() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, which sets `vegaEmbed`."""
    try:
        import altair  # noqa: F401
        import vl_convert
    except ImportError as error:
        raise ResultError("report.html needs altair and vl-convert-python: pip install 'rmbench[site]'") from error
    # To bundle it takes two seconds, and the same versions give the same script
    kept = cache_folder() / f"plots-{version('vl-convert-python')}.js"
    with suppress(OSError, UnicodeDecodeError):
        digest, _, script = kept.read_text(encoding="utf-8").removeprefix("// ").partition("\n")
        if digest == sha256(script.encode()).hexdigest():
            return script
    script = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    content = f"// {sha256(script.encode()).hexdigest()}\n{script}".encode()
    with suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        put(kept, content)
    return script


def as_json(value: Any) -> str:
    """JSON for a script element: nothing in it can end the element or a line of it."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _own(name: str) -> str:
    return resources("rmbench.report").joinpath(name).read_text(encoding="utf-8")


def _inline(text: str) -> str:
    """A script or style that means the same and neither ends its element nor changes on its way through a parser."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text.replace("</script", "<\\/script").replace("<!--", "<\\!--").replace("</style", "<\\/style")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}'"
