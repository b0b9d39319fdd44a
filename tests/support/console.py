"""What the tests of the console's pages share."""

from html.parser import HTMLParser


class FormReader(HTMLParser):
    """What a browser would send of the POST form of a page, untouched."""

    def __init__(self, html: str):
        super().__init__()
        self.sent: list[tuple[str, str]] = []
        self._posts = False
        self._select = ""
        self._options: list[tuple[str, bool]] = []
        self._is_unnamed = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        about = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._posts = about.get("method") == "post"
        if not self._posts or "disabled" in about:
            return
        if tag == "input":
            ticked = about.get("type") != "checkbox" or "checked" in about
            if ticked and "name" in about:
                self.sent.append((about["name"], about.get("value", "")))
        elif tag == "select":
            self._select, self._options = about["name"], []
        elif tag == "option" and self._select:
            self._options.append((about.get("value", ""), "selected" in about))
            self._is_unnamed = "value" not in about

    def handle_data(self, data: str) -> None:
        # An option without a value sends its text.
        if self._is_unnamed and self._options:
            self._options[-1] = (data.strip(), self._options[-1][1])
            self._is_unnamed = False

    def handle_endtag(self, tag: str) -> None:
        if tag == "select" and self._select:
            chosen = [value for value, selected in self._options if selected]
            self.sent.append((self._select, (chosen or [self._options[0][0]])[-1]))
            self._select = ""

    def with_values(self, **values: str) -> dict[str, list[str]]:
        """The form with some fields typed over."""
        sent: dict[str, list[str]] = {}
        for name, value in self.sent:
            sent.setdefault(name, []).append(value)
        return sent | {name: [value] for name, value in values.items()}
