"""Self-contained HTML reports: one file without scripts, fonts or links, light or dark, any width.

Images are data URIs and charts are SVG (`ml.reporting.charts`), coloured by `templates/page.html`,
the frame that every report extends.
"""

from base64 import b64encode
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ml.evaluation.metrics import Interval
from ml.labels import label_name
from ml.reporting.format import interval, three


def render_page(template: str, **values: Any) -> str:
    """Render a report.

    Args:
        template: name of a file in `ml/reporting/templates`. It extends `page.html` and fills its
            blocks `title` and `main`. Values are escaped; the filters are `three`, `with_interval`
            and `name` (of a class).
        values: what the template refers to.
    """
    return _environment().get_template(template).render(values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("ml.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    environment.filters |= {"three": three, "with_interval": with_interval, "name": label_name}
    return environment


def with_interval(metric: Interval | dict[str, Any]) -> str:
    """A metric followed by its 95 % interval in brackets."""
    value, bounds = interval(metric)
    return f"{value} ({bounds})"


def picture(png: bytes) -> Markup:
    """A PNG file as the address of an `img` element."""
    return Markup("data:image/png;base64,") + b64encode(png).decode()
