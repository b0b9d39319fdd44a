"""Responses are compressed where their length betrays nothing."""

from collections.abc import AsyncIterator

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from app.core.compression import Compression

TEXT = "Chest X-rays. " * 500


def client(*, secure: bool = True) -> TestClient:
    """A client of an application that answers in several ways."""

    async def events() -> AsyncIterator[str]:
        yield TEXT

    routes = {
        "/page": lambda _: PlainTextResponse(TEXT),
        "/short": lambda _: PlainTextResponse("Chest X-ray"),
        "/picture": lambda _: Response(TEXT, media_type="image/png"),
        "/network": lambda _: Response(TEXT, media_type="application/octet-stream"),
        "/events": lambda _: StreamingResponse(events(), media_type="text/event-stream"),
    }
    app = Starlette(routes=[Route(path, answer) for path, answer in routes.items()])
    return TestClient(Compression(app, secure=secure))


def is_compressed(answer: object) -> bool:
    """Whether a response came compressed."""
    return answer.headers.get("content-encoding") == "gzip"  # type: ignore[attr-defined]


def test_text_is_compressed_and_the_rest_is_not() -> None:
    page = client().get("/page")
    assert is_compressed(page)
    assert page.text == TEXT
    assert int(page.headers["content-length"]) < len(TEXT) / 20
    assert page.headers["vary"] == "Accept-Encoding"
    for path in ("/short", "/picture", "/network", "/events"):
        answer = client().get(path)
        assert not is_compressed(answer), path
    plain = client().get("/page", headers={"Accept-Encoding": "identity"})
    assert not is_compressed(plain)
    assert plain.headers["vary"] == "Accept-Encoding"


@pytest.mark.parametrize(
    ("secure", "cookie", "site", "expected"),
    [
        (True, "", "cross-site", True),
        (True, "xray_session=1", "same-origin", True),
        (True, "xray_session=1", "none", True),
        (True, "xray_session=1", "same-site", False),
        (True, "xray_session=1", "cross-site", False),
        (True, "xray_session=1", "", False),
        (False, "xray_session=1", "", True),
    ],
)
def test_page_that_another_site_asks_for_keeps_its_length(
    secure: bool, cookie: str, site: str, expected: bool
) -> None:
    sent = {name: value for name, value in (("Cookie", cookie), ("Sec-Fetch-Site", site)) if value}
    answer = client(secure=secure).get("/page", headers=sent)
    assert is_compressed(answer) is expected
