"""What reports share: one HTML file that needs nothing else, light or dark, wide or small.

No script, no font, no address: pictures are data URIs, charts are SVG (`ml.reporting.charts`)
whose parts
get their colours here.
"""

from base64 import b64encode
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

from ml.labels import label_name
from ml.reporting.format import interval, three


def render_page(template: str, **values: Any) -> str:
    """Render a page.

    Args:
        template: Jinja text that extends "frame" and fills its blocks `title` and `main`. Values
            are escaped; the filters are `three`, `with_interval` and `name` (of a class).
        values: what the template speaks of.
    """
    environment = Environment(
        loader=DictLoader({"frame": _FRAME, "page": template}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    environment.filters |= {"three": three, "with_interval": with_interval, "name": label_name}
    return environment.get_template("page").render(values)


def with_interval(metric: Any) -> str:
    """A metric followed by its 95 % interval in brackets."""
    value, reach = interval(metric)
    return f"{value} ({reach})"


def picture(png: bytes) -> Markup:
    """A PNG file as the address of an `img` element."""
    return Markup("data:image/png;base64,") + b64encode(png).decode()


_STYLE = """\
:root { --paper: #fff; --ink: #14191e; --soft: #4d5760; --rule: #dce0e3; --strong: #b3bbc2;
  --s0: #b5452f; --s1: #946008; --s2: #2c7a57; --s3: #2563a8; --s4: #7d4aa3;
  --s5: #5a6570; --cell: #0b5a7b; }
@media screen and (prefers-color-scheme: dark) {
  :root { --paper: #0f1215; --ink: #e6eaed; --soft: #a0aab3; --rule: #2a3036; --strong: #4a535b;
    --s0: #e5806a; --s1: #d9a545; --s2: #5fb78f; --s3: #74a9e6; --s4: #bb90dd;
    --s5: #aab4bd; --cell: #3f8fb3; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 62rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 .5rem; }
p { max-width: 44rem; margin: .5rem 0; }
code { overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: .75rem 0; font-variant-numeric: tabular-nums; }
caption, figcaption { color: var(--soft); font-size: .875rem; text-align: left; padding: .25rem 0; }
th, td { padding: .3rem 1rem .3rem 0; border-bottom: 1px solid var(--rule); text-align: right;
  vertical-align: top; }
th:first-child, td:first-child { text-align: left; }
thead th { border-bottom-color: var(--strong); vertical-align: bottom; }
tbody th { font-weight: 500; }
.images { display: flex; flex-wrap: wrap; gap: 1rem 1.5rem; }
.images metric { margin: .25rem 0; flex: 1 1 17rem; max-width: 20rem; }
.images img { width: 100%; }
.images img, .sheet { display: block; max-width: 100%; height: auto; border: 1px solid var(--rule);
  image-rendering: pixelated; }
.pairs { display: flex; flex-wrap: wrap; gap: 1rem 2rem; }
.pairs metric { flex: 1 1 24rem; max-width: 34rem; min-width: 0; }
.card { border: 1px solid var(--rule); padding: .75rem 1rem; }
.charts { display: flex; flex-wrap: wrap; gap: 1rem 2.5rem; }
metric { margin: .75rem 0; max-width: 100%; break-inside: avoid; }
summary { cursor: pointer; color: var(--soft); font-size: .875rem; }
svg { display: block; max-width: 100%; height: auto; font: 12px system-ui, sans-serif; }
svg text { fill: var(--ink); }
svg .tick, svg .label { fill: var(--soft); }
svg .count { font-size: 17px; font-weight: 600; }
.grid, .frame, .ideal, .line { fill: none; }
.grid { stroke: var(--rule); }
.frame { stroke: var(--strong); }
.ideal { stroke: var(--soft); stroke-dasharray: 3 4; }
.line { stroke-width: 2; stroke-linejoin: round; }
.line.s0 { stroke: var(--s0); }
.line.s1 { stroke: var(--s1); stroke-dasharray: 7 3; }
.line.s2 { stroke: var(--s2); stroke-dasharray: 2 3; }
.line.s3 { stroke: var(--s3); stroke-dasharray: 9 3 2 3; }
.line.s4 { stroke: var(--s4); stroke-dasharray: 12 3; }
.line.s5 { stroke: var(--s5); stroke-dasharray: 4 2 1 2; }
.dot.s0 { fill: var(--s0); }
.dot.s1 { fill: var(--s1); }
.dot.s2 { fill: var(--s2); }
.dot.s3 { fill: var(--s3); }
.dot.s4 { fill: var(--s4); }
.dot.s5 { fill: var(--s5); }
.cell { fill: var(--cell); stroke: var(--strong); }
.scroll td { white-space: nowrap; }
h3 { font-size: 1rem; margin: 1.5rem 0 .25rem; }
.scroll tbody th { white-space: nowrap; }
.scroll .explained :is(th, td) { white-space: normal; }
.explained small { display: block; max-width: 32rem; font-weight: 400; color: var(--soft); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; max-width: 52rem; }
dt { font-weight: 500; }
dd { margin: 0; color: var(--soft); }
@media (max-width: 32rem) { th, td { padding-right: .5rem; font-size: .875rem; }
  .pairs svg { font-size: 15px; } }
@media print { body { max-width: none; padding: 0; font-size: 10pt; } }
"""
_FRAME = (
    """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{% block title %}{% endblock %}</title>
<style>
"""
    + _STYLE
    + """\
</style>
</head>
<body>
<main>
{% block main %}{% endblock %}
</main>
</body>
</html>
"""
)
