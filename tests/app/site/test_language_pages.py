"""The language of pages: by the switch, else by the browser; the API stays English."""

from http import HTTPStatus

import pytest
from starlette.testclient import TestClient

SPANISH = {"Accept-Language": "es-MX,es;q=0.9"}


def test_page_is_in_the_language_of_the_browser(visitor: TestClient) -> None:
    answer = visitor.get("/sign-in", headers=SPANISH)
    assert '<html lang="es">' in answer.text
    assert "<h1>Iniciar sesión</h1>" in answer.text
    assert answer.headers["Content-Language"] == "es"
    assert {"Accept-Language", "Cookie"} <= set(answer.headers["Vary"].split(", "))
    assert answer.headers["Cache-Control"] == "private, no-store"
    assert "<h1>Sign in</h1>" in visitor.get("/sign-in").text


def test_choice_is_remembered_and_stronger_than_the_browser(visitor: TestClient) -> None:
    chosen = visitor.post("/language", data={"language": "en", "next": "/sign-in?next=/account"})
    assert chosen.status_code == HTTPStatus.SEE_OTHER
    assert chosen.headers["Location"] == "/sign-in?next=/account"
    assert '<html lang="en">' in visitor.get("/sign-in", headers=SPANISH).text


@pytest.mark.parametrize("address", ["//evil.example", "/\\evil.example", "https://evil.example"])
def test_switch_leads_to_no_other_site(visitor: TestClient, address: str) -> None:
    chosen = visitor.post("/language", data={"language": "es", "next": address})
    assert chosen.headers["Location"] == "/"


def test_unknown_language_is_refused(visitor: TestClient) -> None:
    answer = visitor.post("/language", data={"language": "xx"}, headers=SPANISH)
    assert answer.status_code == HTTPStatus.NOT_FOUND
    assert "Las páginas no están disponibles en este idioma." in answer.text


def test_language_is_not_changed_by_another_site(visitor: TestClient) -> None:
    site = {"Sec-Fetch-Site": "cross-site"}
    assert visitor.post("/language", data={"language": "es"}, headers=site).status_code == 403


def test_errors_are_in_the_language_of_the_page(visitor: TestClient) -> None:
    script = SPANISH | {"Accept": "application/json"}
    problem = visitor.get("/nowhere", headers=script).json()
    assert problem["title"] == "No encontrado"
    assert problem["detail"] == "No hay ninguna página en esta dirección."
    assert problem["code"] == "not-found"
    api = visitor.get("/api/v1/screenings", headers=SPANISH)
    assert api.json()["title"] == "API key required"
    assert "Content-Language" not in api.headers
