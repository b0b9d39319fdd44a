"""Style sheets: loaded where they are used, one spacing scale, colours by name."""

import re

from tests.support import REPOSITORY

SHEETS = {path.stem: path.read_text() for path in (REPOSITORY / "static/css").glob("*.css")}
TEMPLATES = {
    str(path.relative_to(REPOSITORY / "templates")): path.read_text()
    for path in (REPOSITORY / "templates").rglob("*.html")
}
SCRIPTS = [path.read_text() for path in (REPOSITORY / "static").glob("*.js")]
# Classes whose last part comes from a value: `verdict-{{ decision }}`.
BUILT = (
    *("verdict-", "bar-", "run-status-", "standing-", "shade-", "method-", "status-"),
    # The lines of charts: those of compared runs, and those that `ml.reporting` draws.
    *("plot-run-", "s1", "s2", "s3", "s4"),
)
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_ATTRIBUTE = re.compile(r'class="([^"]*)"')


def rules(sheet: str) -> str:
    """A sheet without its comments."""
    return _COMMENT.sub("", SHEETS[sheet])


def test_every_sheet_is_in_a_layer_and_on_a_page() -> None:
    loaded = "".join(TEMPLATES.values())
    for sheet in SHEETS:
        assert f"css/{sheet}.css" in loaded or f'"{sheet}"' in TEMPLATES["layout/base.html"]
        outside = re.sub(r"@layer [\w, ]+;", "", rules(sheet)).strip()
        assert outside.startswith("@layer ")
        assert outside.endswith("}")


def test_distances_are_on_the_scale_and_colours_have_names() -> None:
    for sheet in SHEETS.keys() - {"tokens"}:
        for name, value in re.findall(r"([\w-]+): ([^;{}]+);", rules(sheet)):
            if re.fullmatch(r"(padding|margin|gap|row-gap|column-gap)(-\w+)*", name):
                assert not re.search(r"\d(rem|px)", value.replace("1px", "")), f"{sheet}: {value}"
            assert not re.search(r"#[0-9a-f]{3,8}\b|rgb\(|hsl\(", value), f"{sheet}: {value}"


def test_every_class_has_a_rule_and_every_rule_a_class() -> None:
    ruled = set(re.findall(r"\.([a-z][\w-]*)", "".join(map(rules, SHEETS))))
    text = "".join([*TEMPLATES.values(), *SCRIPTS, *_svg(), *_charts()])
    for one in ruled:
        assert one.startswith(BUILT) or re.search(rf"(?<![\w-]){one}(?![\w-])", text), one
    for name, template in TEMPLATES.items():
        plain = re.sub(r"[\w-]*\{\{.*?\}\}[\w-]*|\{%.*?%\}", " ", template)
        used = {one for classes in _ATTRIBUTE.findall(plain) for one in classes.split()}
        assert used <= ruled, f"{name}: {used - ruled}"


def _svg() -> list[str]:
    return [path.read_text() for path in (REPOSITORY / "templates").rglob("*.svg")]


def _charts() -> list[str]:
    """The programs that draw charts for pages."""
    return [path.read_text() for path in (REPOSITORY / "ml/reporting").glob("*.py")]
