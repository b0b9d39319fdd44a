"""Users: signing in and out, what a role may see, keys and users made in the console."""

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from threading import Barrier, Event, Semaphore
from time import sleep

import pytest
from fastapi import FastAPI, Request
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from app.accounts.api_keys import create_key
from app.accounts.sign_in import (
    MOST_BY_SOURCE,
    UNDELAYED,
    PasswordSource,
    SignInAttempts,
    TooManyTries,
)
from app.accounts.sign_in import sign_in as check_sign_in
from app.accounts.tables import Role, User, UserSession
from app.accounts.users import create_first_admin, create_user, disable_user, signed_in_user
from app.core.audit import AuditEvent
from app.core.database import Database, now
from app.core.errors import Conflict, InvalidForm
from app.core.rate_limit import address_of, hashed_caller
from app.settings import Settings
from tests.conftest import migrated_app
from tests.support import served
from tests.support.served import served_app, wait_until
from tests.support.tiny_models import own_database

PASSWORD = "correct horse battery"
CROSS_SITE = {"Sec-Fetch-Site": "cross-site"}
PAGES = ["/admin", "/admin/users", "/admin/audit"]
FORMS = ["/admin/users", "/admin/keys", "/account/password", "/sign-out", "/sign-out-everywhere"]


@pytest.fixture
def database(application: FastAPI) -> Database:
    found: Database = application.state.services.database
    return found


def new_user(database: Database, name: str, role: Role = Role.ADMIN) -> User:
    with database.session() as session:
        return create_user(session, name, PASSWORD, role, by="test")


def actions(database: Database, subject: str) -> list[str]:
    query = select(AuditEvent.action).where(AuditEvent.subject == subject)
    with database.session() as session:
        return list(session.scalars(query.order_by(AuditEvent.at)))


def shown_secret(text: str) -> str:
    found = re.search(r'<code class="secret">([^<]+)</code>', text)
    assert found, text
    return found[1]


@pytest.mark.parametrize("address", PAGES)
def test_console_is_for_admins(
    address: str, visitor: TestClient, clinician: TestClient, admin: TestClient
) -> None:
    sent = visitor.get(address)
    assert (sent.status_code, sent.headers["location"].partition("?")[0]) == (303, "/sign-in")
    assert clinician.get(address).status_code == 403
    assert admin.get(address).status_code in (200, 303)


@pytest.mark.parametrize("address", FORMS)
def test_forms_of_other_sites_are_refused(address: str, admin: TestClient) -> None:
    assert admin.post(address, headers=CROSS_SITE).status_code == 403
    assert admin.get("/account").status_code == 200


def test_visitor_is_sent_back_to_where_they_wanted(
    application: FastAPI, database: Database
) -> None:
    new_user(database, "goes back")
    client = TestClient(application, follow_redirects=False)
    asked = client.get("/admin/users").headers["location"]
    assert asked == "/sign-in?next=%2Fadmin%2Fusers"
    form = {"name": "goes back", "password": PASSWORD, "next": "/admin/users"}
    assert client.post("/sign-in", data=form).headers["location"] == "/admin/users"


@pytest.mark.parametrize("elsewhere", ["//evil.example", "https://evil.example", "/\\evil.example"])
def test_signing_in_leads_to_no_other_site(
    elsewhere: str, application: FastAPI, database: Database
) -> None:
    new_user(database, f"wary {elsewhere}")
    client = TestClient(application, follow_redirects=False)
    form = {"name": f"wary {elsewhere}", "password": PASSWORD, "next": elsewhere}
    assert client.post("/sign-in", data=form).headers["location"] == "/"


def test_session_cookie_is_out_of_reach_and_its_token_is_not_stored(
    application: FastAPI, database: Database
) -> None:
    user = new_user(database, "careful")
    client = TestClient(application, follow_redirects=False)
    answer = client.post("/sign-in", data={"name": " Careful ", "password": PASSWORD})
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    with database.session() as session:
        (row,) = session.scalars(select(UserSession).where(UserSession.user_id == user.id))
        assert row.token_hash not in cookie
        assert user.password_hash.startswith("$argon2id$")


def test_wrong_password_says_nothing_about_the_name(
    application: FastAPI, database: Database
) -> None:
    new_user(database, "known")
    client = TestClient(application, follow_redirects=False)
    answers = [
        client.post("/sign-in", data={"name": name, "password": "wrong"}).text.replace(name, "")
        for name in ("known", "unknown")
    ]
    assert answers[0] == answers[1]
    assert "No user has this name and password" in answers[0]
    assert actions(database, "known")[-1] == "user.sign-in-failed"


def open_session(session: Session, name: str, password: str, address: str) -> object:
    return check_sign_in(session, name, password, PasswordSource(address), SignInAttempts())


def fail(database: Database, name: str, address: str, at: datetime | None = None) -> None:
    with database.session() as session:
        session.add(
            AuditEvent(
                actor=f"address:{address}",
                action="user.sign-in-failed",
                subject=name,
                at=at or now(),
            )
        )


def client_at(application: FastAPI, address: str) -> TestClient:
    return TestClient(application, follow_redirects=False, client=(address, 50000))


def hashed(application: FastAPI, address: str) -> str:
    return hashed_caller(address, application.state.services.settings.signing_key.encode())


def test_too_many_wrong_passwords_of_one_address_close_it_and_no_other(database: Database) -> None:
    new_user(database, "besieged")
    for number in range(MOST_BY_SOURCE):
        fail(database, f"guess {number}", "192.0.2.1")
    with database.session() as session, pytest.raises(TooManyTries, match="15 minutes"):
        open_session(session, "besieged", PASSWORD, "192.0.2.1")
    with database.session() as session:
        assert open_session(session, "besieged", PASSWORD, "192.0.2.2")


def test_nobody_locks_out_a_user_from_elsewhere(application: FastAPI, database: Database) -> None:
    new_user(database, "popular")
    for number in range(300):
        fail(database, "popular", hashed(application, f"198.51.100.{number}"))
    form = {"name": "Popular", "password": PASSWORD}
    assert client_at(application, "192.0.2.3").post("/sign-in", data=form).status_code == 303


def test_known_browser_is_let_in_beside_an_attacker(
    application: FastAPI, database: Database
) -> None:
    new_user(database, "neighbour")
    right = {"name": "neighbour", "password": PASSWORD}
    wrong = right | {"password": "wrong"}
    own, attacker = client_at(application, "192.0.2.40"), client_at(application, "192.0.2.40")
    assert own.post("/sign-in", data=right).status_code == 303
    own.post("/sign-out")
    for number in range(MOST_BY_SOURCE):
        fail(database, f"guess {number}", hashed(application, "192.0.2.40"))
    assert attacker.post("/sign-in", data=right).status_code == 429
    assert own.post("/sign-in", data=right).status_code == 303
    # The browser is known to this user alone, and it has no more tries than an address has.
    assert own.post("/sign-in", data={"name": "another", "password": "x"}).status_code == 429
    statuses = [own.post("/sign-in", data=wrong).status_code for _ in range(UNDELAYED + 1)]
    assert statuses == [401] * UNDELAYED + [429]


def test_cookie_of_a_known_browser_cannot_be_made_up(
    application: FastAPI, database: Database
) -> None:
    user = new_user(database, "unforged")
    attacker = client_at(application, "192.0.2.41")
    attacker.cookies.set("xray_known", f"{user.id}/made-up.signature")
    for number in range(MOST_BY_SOURCE):
        fail(database, f"guess {number}", hashed(application, "192.0.2.41"))
    form = {"name": "unforged", "password": PASSWORD}
    assert attacker.post("/sign-in", data=form).status_code == 429


def test_each_wrong_password_for_a_name_makes_the_next_wait_longer(database: Database) -> None:
    new_user(database, "forgetful")
    for wrong, waited_s, wait_s in ((5, 0.0, 1), (6, 0.9, 2), (8, 3.0, 5), (12, 100.0, 28)):
        source = f"192.0.2.{100 + wrong}"
        for _ in range(wrong):
            fail(database, "forgetful", source, at=now() - timedelta(seconds=waited_s))
        with database.session() as session, pytest.raises(TooManyTries) as refused:
            open_session(session, "forgetful", PASSWORD, source)
        assert wait_s - 1 <= int(refused.value.headers["Retry-After"]) <= wait_s
    # Four, or any number after its wait, is no hindrance.
    for wrong, waited_s in ((4, 0.0), (5, 1.5), (8, 9.0)):
        source = f"192.0.2.{200 + wrong}"
        for _ in range(wrong):
            fail(database, "forgetful", source, at=now() - timedelta(seconds=waited_s))
        with database.session() as session:
            assert open_session(session, "forgetful", PASSWORD, source)


@pytest.mark.parametrize("names", ["one name", "a name each"])
def test_no_more_passwords_than_the_limit_are_checked_at_once(
    application: FastAPI, database: Database, names: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_user(database, f"raced {names}")
    attempts, checked, together = SignInAttempts(), list[str](), Barrier(64)
    address = f"192.0.2.{len(names)}"

    def slow_check(_session: Session, name: str, _password: str) -> None:
        checked.append(name)
        sleep(0.05)

    monkeypatch.setattr("app.accounts.sign_in.check_password", slow_check)

    def guess(number: int) -> bool:
        name = f"raced {names}" if names == "one name" else f"name {number}"
        together.wait(60)
        # As many connections as the pool has.
        with connections, database.sessions() as session:
            try:
                return (
                    check_sign_in(session, name, "wrong", PasswordSource(address), attempts)
                    is not None
                )
            except TooManyTries:
                return False

    connections = Semaphore(30)
    with ThreadPoolExecutor(64) as pool:
        assert not any(pool.map(guess, range(64)))
    most = UNDELAYED if names == "one name" else MOST_BY_SOURCE
    assert most * 3 // 4 <= len(checked) <= most


def test_burst_of_sign_ins_holds_up_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checking, gate = Event(), Event()

    def stuck(*_: object) -> None:
        checking.set()
        assert gate.wait(60)

    monkeypatch.setattr("app.accounts.sign_in.check_password", stuck)
    app = migrated_app(Settings(_env_file=None, home=tmp_path, decoder_workers=1))
    with served_app(app) as port, ThreadPoolExecutor(80) as pool:
        services = app.state.services
        with services.database.session() as session:
            key = create_key(session, "clinic", "test")

        def guess(number: int) -> int:
            with served.client_at(port, f"192.0.3.{number}") as caller:
                form = {"name": "burst", "password": "x"}
                return caller.post("/sign-in", data=form).status_code

        guesses = [pool.submit(guess, number) for number in range(80)]
        try:
            assert checking.wait(60)
            # More than the server has threads: those who wait hold none.
            wait_until(lambda: services.password_checks.waiting > 40)
            with served.client_at(port, "192.0.2.1") as clinic:
                clinic.headers["Authorization"] = f"Bearer {key}"
                assert clinic.get("/api/v1/screenings").status_code == 200
                assert clinic.get("/sign-in").status_code == 200
        finally:
            gate.set()
        assert {one.result(60) for one in guesses} <= {401, 503}


def test_what_is_typed_as_a_name_is_not_written_down_unless_it_is_one(
    application: FastAPI, database: Database
) -> None:
    typed = "my secret password"
    client = TestClient(application, follow_redirects=False)
    assert client.post("/sign-in", data={"name": typed, "password": "x"}).status_code == 401
    assert client.post("/sign-in", data={"name": "a\0b", "password": "x"}).status_code == 401
    assert not actions(database, typed)
    with database.session() as session:
        newest = select(AuditEvent.subject).where(AuditEvent.action == "user.sign-in-failed")
        subjects = session.scalars(newest.order_by(AuditEvent.at.desc()).limit(2)).all()
    assert all(subject.startswith("no user, ") for subject in subjects)


def test_guessing_the_password_on_the_account_page_is_counted_too(
    application: FastAPI, database: Database
) -> None:
    new_user(database, "robbed")
    client = TestClient(application, follow_redirects=False)
    client.post("/sign-in", data={"name": "robbed", "password": PASSWORD})
    form = {"old": "guess", "new": "another good one"}
    assert client.post("/account/password", data=form).status_code == 422
    assert actions(database, "robbed")[-1] == "user.sign-in-failed"
    for _ in range(UNDELAYED - 1):
        assert client.post("/account/password", data=form).status_code == 422
    refused = client.post("/account/password", data=form | {"old": PASSWORD})
    assert refused.status_code == 429


@pytest.mark.parametrize(
    ("given", "counted"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("what a proxy sent" * 20, "unknown"),
        ("", "unknown"),
    ],
)
def test_addresses_are_counted_by_network(given: str, counted: str) -> None:
    request = Request({"type": "http", "client": (given, 1)})
    assert address_of(request) == counted


def test_page_says_how_long_to_wait(application: FastAPI, database: Database) -> None:
    new_user(database, "patient")
    for number in range(MOST_BY_SOURCE):
        fail(database, f"guess {number}", hashed(application, "192.0.2.9"))
    client = client_at(application, "192.0.2.9")
    answer = client.post("/sign-in", data={"name": "patient", "password": PASSWORD})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "900")
    assert "Try again in 15 minutes" in answer.text


def test_signing_out_ends_this_session_and_everywhere_ends_all(
    application: FastAPI, database: Database
) -> None:
    new_user(database, "busy")
    clients = [TestClient(application, follow_redirects=False) for _ in range(3)]
    for client in clients:
        client.post("/sign-in", data={"name": "busy", "password": PASSWORD})
    clients[0].post("/sign-out")
    assert [client.get("/account").status_code for client in clients] == [303, 200, 200]
    clients[1].post("/sign-out-everywhere")
    assert [client.get("/account").status_code for client in clients] == [303, 303, 303]


def test_new_password_needs_the_old_one_and_signs_out(
    application: FastAPI, database: Database
) -> None:
    new_user(database, "prudent")
    client = TestClient(application, follow_redirects=False)
    client.post("/sign-in", data={"name": "prudent", "password": PASSWORD})
    wrong = client.post("/account/password", data={"old": "no", "new": "another good one"})
    assert (wrong.status_code, "not your current password" in wrong.text) == (422, True)
    short = client.post("/account/password", data={"old": PASSWORD, "new": "short"})
    assert (short.status_code, "12 to 200 characters" in short.text) == (422, True)
    assert client.get("/account").status_code == 200
    changed = client.post("/account/password", data={"old": PASSWORD, "new": "another good one"})
    assert changed.status_code == 303
    assert client.get("/account").status_code == 303
    form = {"name": "prudent", "password": "another good one"}
    assert client.post("/sign-in", data=form).status_code == 303


def test_admin_makes_a_clinician_who_signs_in_and_is_disabled(
    application: FastAPI, admin: TestClient, database: Database
) -> None:
    form = {"name": "Dr Who", "role": "clinician", "clinic": "Tardis"}
    # A clinic that was mistyped is not made by the way.
    assert "Choose a clinic from the list" in admin.post("/admin/users", data=form).text
    assert admin.post("/admin/clinics", data={"name": " Tardis"}).status_code == 303
    made = admin.post("/admin/users", data=form)
    assert made.status_code == 200
    password = shown_secret(made.text)
    assert password not in admin.get("/admin/users").text
    client = TestClient(application, follow_redirects=False)
    form = {"name": "dr who", "password": password}
    assert client.post("/sign-in", data=form).status_code == 303
    assert "Tardis" in client.get("/account").text
    with database.session() as session:
        user_id = session.scalar(select(User.id).where(User.name == "dr who"))
    admin.post(f"/admin/users/{user_id}/disable")
    assert client.get("/account").status_code == 303
    assert client.post("/sign-in", data=form).status_code == 401
    admin.post(f"/admin/users/{user_id}/enable")
    assert "cannot be undone" in admin.get(f"/admin/users/{user_id}/password").text
    other = shown_secret(admin.post(f"/admin/users/{user_id}/password").text)
    assert client.post("/sign-in", data=form).status_code == 401
    assert client.post("/sign-in", data=form | {"password": other}).status_code == 303
    assert actions(database, "dr who")[0] == "user.created"


def test_user_that_cannot_be_made_is_explained_beside_the_fields(admin: TestClient) -> None:
    refused = admin.post("/admin/users", data={"name": "", "role": "clinician", "clinic": ""})
    assert refused.status_code == 422
    assert "Enter a name of 1 to 64 characters" in refused.text
    assert "Every clinician belongs to one" in refused.text


def test_refused_user_leaves_no_clinic(admin: TestClient) -> None:
    form = {"name": "x" * 65, "role": "clinician", "clinic": "Never Made"}
    assert admin.post("/admin/users", data=form).status_code == 422
    assert "<option>Never Made" not in admin.get("/admin/users").text


@pytest.mark.parametrize("name", ["", "  ", "st  MARY", "x" * 201])
def test_clinic_that_cannot_be_made_is_explained(admin: TestClient, name: str) -> None:
    admin.post("/admin/clinics", data={"name": "St Mary"})
    refused = admin.post("/admin/clinics", data={"name": name})
    assert refused.status_code == 422
    assert "not valid" in refused.text or 'id="clinic-name-fault"' in refused.text


def test_name_is_taken_once(database: Database) -> None:
    new_user(database, "only one")
    with database.session() as session, pytest.raises(InvalidForm, match="is taken"):
        create_user(session, "ONLY ONE", PASSWORD, Role.ADMIN, by="test")


def test_admin_makes_and_revokes_a_key(
    admin: TestClient, application: FastAPI, visitor: TestClient
) -> None:
    wanted = {"clinic": "Key Clinic", "name": "scanner"}
    assert "Choose a clinic from the list" in admin.post("/admin/keys", data=wanted).text
    admin.post("/admin/clinics", data={"name": "Key Clinic"})
    made = admin.post("/admin/keys", data=wanted)
    key = shown_secret(made.text)
    caller = TestClient(application, headers={"Authorization": f"Bearer {key}"})
    assert caller.get("/api/v1/screenings").status_code == 200
    listed = admin.get("/admin/users").text
    assert key not in listed
    row = re.escape(f"<code>{key[:11]}</code>")
    address = re.search(rf'{row}.*?href="(/admin/keys/[^"]+/revoke)"', listed, re.DOTALL)
    assert address
    # It asks first, since there is no way back.
    asked = admin.get(address[1]).text
    assert "It is the only key of this clinic" in asked
    assert caller.get("/api/v1/screenings").status_code == 200
    assert admin.post(address[1]).status_code == 303
    assert caller.get("/api/v1/screenings").status_code == 401


def test_last_admin_stays(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    from app.migrations import upgrade

    path = tmp_path_factory.mktemp("own") / "own.db"
    own = Database(f"sqlite:///{path}")
    upgrade(own.engine)
    with own.session() as session:
        password = create_first_admin(session)
        assert password
        assert create_first_admin(session) is None
        user = session.scalars(select(User)).one()
        with pytest.raises(Conflict, match="last admin"):
            disable_user(session, user, by="test")
        source = PasswordSource("127.0.0.1")
        found = check_sign_in(session, "admin", password, source, SignInAttempts())
        assert found
        assert signed_in_user(session, found[1]) == user
    own.close()


def test_audit_log_is_read_page_by_page(admin: TestClient, database: Database) -> None:
    with database.session() as session:
        for number in range(120):
            session.add(
                AuditEvent(actor="somebody", action="tested", subject=f"thing {number}", detail={})
            )
    seen: list[str] = []
    address = "/admin/audit?about=tested"
    for _ in range(3):
        text = admin.get(address).text
        seen += re.findall(r">(thing \d+)<", text)
        following = re.search(r'href="([^"]+)" rel="next"', text)
        address = following[1].replace("&amp;", "&") if following else ""
    assert sorted(seen) == sorted(f"thing {number}" for number in range(120))
    assert not address


def test_clinician_sees_the_clinics_screenings_and_no_other(
    sign_in: Callable[[str], TestClient], image_bytes: bytes
) -> None:
    one, other = sign_in("clinician"), sign_in("clinician")
    address = one.post("/screenings", files={"image": ("image.png", image_bytes)}).headers[
        "location"
    ]
    assert one.get(address).status_code == 200
    assert other.get(address).status_code == 404
    one.post("/sign-out")
    assert one.get(address).status_code == 404


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_admins_who_disable_each_other_at_once_leave_one(kind: str, tmp_path: Path) -> None:
    with own_database(kind, tmp_path) as url:
        own = Database(url)
        pair = [new_user(own, name) for name in ("one", "other")]
        together = Barrier(2)

        def disabled(user: User) -> bool:
            together.wait(60)
            try:
                with own.session() as session:
                    disable_user(session, session.get_one(User, user.id), by="test")
            except Conflict:
                return False
            return True

        with ThreadPoolExecutor(2) as pool:
            assert sorted(pool.map(disabled, pair)) == [False, True]
        own.close()
