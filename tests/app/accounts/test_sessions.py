"""Sessions of users: how they end, and the cookies that carry them."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from fastapi import FastAPI
from sqlalchemy import select, update
from starlette.testclient import TestClient

from app.accounts.tables import Role, UserSession
from app.accounts.users import create_user
from app.core.database import Database, now
from app.core.security import SESSION_COOKIE, VISITOR_COOKIE
from app.settings import Settings
from tests.conftest import migrated_app

PASSWORD = "correct horse battery"
HTTPS = "https://testserver"


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    """An application behind TLS, with short sessions."""
    application = migrated_app(
        Settings(
            _env_file=None,
            home=tmp_path_factory.mktemp("home"),
            public_url=HTTPS,
            session_hours=2,
            session_idle_minutes=10,
        )
    )
    with TestClient(application):
        with application.state.services.database.session() as session:
            create_user(session, "anna", PASSWORD, Role.ADMIN, by="test")
        yield application


@pytest.fixture
def database(secure: FastAPI) -> Database:
    found: Database = secure.state.services.database
    return found


def signed_in(application: FastAPI, cookies: dict[str, str] | None = None) -> TestClient:
    client = TestClient(application, HTTPS, follow_redirects=False, cookies=cookies)
    done = client.post("/sign-in", data={"name": "anna", "password": PASSWORD})
    assert done.status_code == 303
    return client


def is_signed_in(client: TestClient) -> bool:
    return client.get("/account").status_code == 200


def age(database: Database, **by: float) -> None:
    """Let time pass for all sessions."""
    with database.session() as session:
        for found in session.scalars(select(UserSession)):
            found.created_at -= timedelta(**by)
            found.expires_at -= timedelta(**by)
            assert found.idle_until is not None
            found.idle_until -= timedelta(**by)


def test_signing_in_again_ends_the_session_of_before(secure: FastAPI) -> None:
    client = signed_in(secure)
    old = client.cookies[f"__Host-{SESSION_COOKIE}"]
    client.post("/sign-in", data={"name": "anna", "password": PASSWORD})
    assert client.cookies[f"__Host-{SESSION_COOKIE}"] != old
    assert is_signed_in(client)
    thief = TestClient(secure, HTTPS, follow_redirects=False)
    thief.cookies.set(f"__Host-{SESSION_COOKIE}", old)
    assert not is_signed_in(thief)


def test_wrong_password_leaves_the_session(secure: FastAPI) -> None:
    client = signed_in(secure)
    assert client.post("/sign-in", data={"name": "anna", "password": "no"}).status_code == 401
    assert is_signed_in(client)


def test_new_password_ends_all_sessions(secure: FastAPI) -> None:
    one, other = signed_in(secure), signed_in(secure)
    assert one.post("/account/password", data={"old": PASSWORD, "new": PASSWORD}).is_redirect
    assert not is_signed_in(one)
    assert not is_signed_in(other)


def test_session_ends_when_it_is_not_used(secure: FastAPI, database: Database) -> None:
    client = signed_in(secure)
    assert is_signed_in(client)
    for _ in range(3):
        age(database, minutes=9)
        assert is_signed_in(client)
    age(database, minutes=11)
    assert not is_signed_in(client)


def test_session_ends_however_much_it_is_used(secure: FastAPI, database: Database) -> None:
    client = signed_in(secure)
    for _ in range(14):
        assert is_signed_in(client)
        age(database, minutes=9)
    assert not is_signed_in(client)


def test_session_of_before_the_upgrade_continues(secure: FastAPI, database: Database) -> None:
    client = signed_in(secure)
    with database.session() as session:
        session.execute(update(UserSession).values(idle_until=None))
    assert is_signed_in(client)
    with database.session() as session:
        found = session.scalars(select(UserSession.idle_until)).all()
    assert any(until and until <= now() + timedelta(minutes=10) for until in found)


def test_cookies_over_tls_are_bound_to_the_host(
    secure: FastAPI, image_bytes: bytes, tmp_path: Path
) -> None:
    client = TestClient(secure, HTTPS, follow_redirects=False)
    sent = [
        client.post("/sign-in", data={"name": "anna", "password": PASSWORD}),
        TestClient(secure, HTTPS, follow_redirects=False).post(
            "/screenings", files={"image": image_bytes}
        ),
        client.post("/sign-out"),
    ]
    for answer, name in zip(sent, (SESSION_COOKIE, VISITOR_COOKIE, SESSION_COOKIE), strict=True):
        (cookie,) = [one for one in answer.headers.get_list("set-cookie") if f"{name}=" in one]
        assert cookie.startswith(f"__Host-{name}=")
        attributes = {each.strip().lower() for each in cookie.split(";")[1:]}
        assert {"path=/", "secure", "httponly"} <= attributes
        assert not any(each.startswith("domain") for each in attributes)
    assert not is_signed_in(client)


def test_cookie_that_anybody_could_plant_is_not_read(secure: FastAPI) -> None:
    token = signed_in(secure).cookies[f"__Host-{SESSION_COOKIE}"]
    client = TestClient(secure, HTTPS, follow_redirects=False)
    client.cookies.set(SESSION_COOKIE, token)
    assert not is_signed_in(client)


def test_visitor_of_before_the_upgrade_keeps_their_screenings(
    secure: FastAPI, image_bytes: bytes
) -> None:
    client = TestClient(secure, HTTPS, follow_redirects=False)
    page = client.post("/screenings", files={"image": image_bytes}).headers["location"]
    old = TestClient(secure, HTTPS, follow_redirects=False)
    assert old.get(page).status_code == 404
    old.cookies.set(VISITOR_COOKIE, client.cookies[f"__Host-{VISITOR_COOKIE}"])
    assert old.get(page).status_code == 200
