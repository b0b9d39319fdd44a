"""The application below a path of its host, behind proxies that take the path away or leave it."""

import re
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from jinja2 import DictLoader, Environment, TemplateSyntaxError
from pydantic import ValidationError
from sqlalchemy import select
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Receive, Scope, Send

from app.accounts.api_keys import create_key
from app.accounts.tables import Clinic, Role, User
from app.accounts.users import open_session
from app.core.addresses import under_root
from app.core.error_pages import each_route
from app.core.rooted_templates import RootedAddresses
from app.core.security import SESSION_COOKIE, cookie_name
from app.core.templating import STATIC
from app.datasets.tables import DataVersion
from app.datasets.versions import ensure_demonstration
from app.registry.registration import register_generator
from app.root_path import OWN_FOLDERS
from app.runs.service import create_run
from app.settings import Settings
from ml.gan.onnx_generator import PRETRAINED
from tests.conftest import migrated_app
from tests.support.crawler import crawl
from tests.support.synthetic_set import in_gallery

ROOT = "/xray"
START = f"http://testserver{ROOT}"


class StrippingProxy:
    """A proxy that takes the root path away, and knows nothing outside of it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        assert f"{path}/".startswith(f"{ROOT}/"), f"{path} is not of this application"
        inner = {name: scope[name].removeprefix(ROOT) or "/" for name in ("path",)}
        await self._app({**scope, **inner, "raw_path": inner["path"].encode()}, receive, send)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, image_bytes: bytes) -> Iterator[FastAPI]:
    """An application below /xray in which there is something of every sort."""
    home = tmp_path_factory.mktemp("rooted")
    settings = Settings(
        _env_file=None, home=home, root_path=f"{ROOT}/", decoder_workers=2, decode_timeout_s=20
    )
    app = migrated_app(settings)
    with TestClient(app):
        database = app.state.services.database
        app.state.services.classifier.get()
        with database.session() as session:
            ensure_demonstration(session, settings)
            data = session.scalars(select(DataVersion)).one()
            generator = register_generator(session, settings, PRETRAINED, run=None, by="test")
            in_gallery(session, settings, generator, [("covid", 1), ("normal", 2)])
            create_run(session, "train-gan", {"data": data.sha256}, requested_by="test")
        yield app


def client_of(app: FastAPI, *, strips: bool = True, role: Role | None = None) -> TestClient:
    """A caller behind a proxy; with a role, one that is signed in."""
    client = TestClient(StrippingProxy(app) if strips else app, follow_redirects=False)
    if role is not None:
        with app.state.services.database.session() as session:
            clinic = Clinic(name=f"clinic of {role} {strips}")
            session.add(clinic)
            session.flush()
            user = User(name=f"{role} {strips}", password_hash="none", role=role)
            user.clinic_id = clinic.id if role is Role.CLINICIAN else None
            session.add(user)
            session.flush()
            client.cookies.set(SESSION_COOKIE, open_session(session, user), path=ROOT)
    return client


@pytest.mark.parametrize(
    ("role", "strips"), [(None, False), (Role.CLINICIAN, True), (Role.ADMIN, True)]
)
def test_nothing_leads_out_of_the_root_path(
    app: FastAPI, image_bytes: bytes, role: Role | None, *, strips: bool
) -> None:
    client = client_of(app, strips=strips, role=role)
    sent = client.post(f"{START}/screenings", files={"image": image_bytes})
    assert sent.headers["location"].startswith(f"{ROOT}/screenings/")
    found = crawl(client, START)
    assert found.faults == []
    # It got as far as this caller can.
    farthest = {None: "/heatmaps/", Role.CLINICIAN: "/account", Role.ADMIN: "/runs/new/train-gan"}
    assert any(farthest[role] in url for url in found.seen)
    assert any(url.endswith("/delete") for url in found.posted)


def test_api_names_addresses_below_the_root_path(app: FastAPI, image_bytes: bytes) -> None:
    with app.state.services.database.session() as session:
        key = create_key(session, "clinic", "test")
    client = client_of(app)
    client.headers["authorization"] = f"Bearer {key}"
    for _ in range(2):
        answer = client.post(f"{START}/api/v1/screenings", files={"image": image_bytes})
    screening = answer.json()
    address = f"{ROOT}/api/v1/screenings/{screening['id']}"
    assert answer.headers["location"] == address
    assert screening["heatmap_url"] == f"{address}/heatmap.png"
    assert screening["page_url"] == f"{ROOT}/screenings/{screening['id']}"
    assert screening["model"]["url"].startswith(f"{ROOT}/models/")
    listed = client.get(f"{START}/api/v1/screenings?limit=1").json()
    assert client.get(listed["next"]).json()["screenings"][0]["id"] != screening["id"]
    assert client.get(f"{START}/api/v1/openapi.json").json()["servers"] == [{"url": ROOT}]


def test_every_address_of_the_api_is_marked_as_one(app: FastAPI) -> None:
    fields = {
        (name, field): str(schema)
        for name, found in app.openapi()["components"]["schemas"].items()
        for field, schema in found.get("properties", {}).items()
    }
    named = {key for key in fields if key[1].endswith("url") or key[1] == "next"}
    assert len(named) > 3
    assert named == {key for key, schema in fields.items() if "uri-reference" in schema}


def test_upload_script_gets_an_address_below_the_root_path(
    app: FastAPI, image_bytes: bytes
) -> None:
    client = client_of(app)
    headers = {"accept": "application/json"}
    sent = client.post(f"{START}/screenings", files={"image": image_bytes}, headers=headers)
    assert sent.json()["url"].startswith(f"{ROOT}/screenings/")


def test_redirect_of_the_framework_names_no_host(app: FastAPI) -> None:
    # It knows neither the proxy's scheme nor the root path.
    answer = client_of(app).get(f"{START}/gallery/?label=covid")
    assert answer.headers["location"] == f"{ROOT}/gallery?label=covid"


def test_signing_in_leads_back_below_the_root_path(app: FastAPI) -> None:
    address = client_of(app).get(f"{START}/admin/runs").headers["location"]
    assert address == f"{ROOT}/sign-in?next=%2Fadmin%2Fruns"


def test_every_folder_of_the_application_is_refused_as_a_root_path(app: FastAPI) -> None:
    folders = {
        path.split("/")[1]
        for route in each_route(app.routes)
        if (path := getattr(route, "path", ""))
    }
    assert folders - {""} == OWN_FOLDERS


@pytest.mark.parametrize("path", ["xray", "/x y", "/../x", "/x//y", "/admin", "/api/xray", "//x"])
def test_unusable_root_path_is_refused(path: str) -> None:
    with pytest.raises(ValidationError, match="such as /xray"):
        Settings(_env_file=None, root_path=path)


def test_public_url_and_root_path_are_one_address() -> None:
    def address(url: str, path: str) -> tuple[str, str]:
        found = Settings(_env_file=None, public_url=url, root_path=path)
        return found.public_address, found.effective_root_path

    assert address("https://x.org", "/a/b/") == ("https://x.org/a/b", "/a/b")
    assert address("https://x.org/a/", "") == ("https://x.org/a", "/a")
    assert address("https://x.org/a", "/a") == ("https://x.org/a", "/a")
    assert address("", "/a") == ("", "/a")
    with pytest.raises(ValidationError, match="Set one of them"):
        address("https://x.org/a", "/b")


def test_cookies_are_kept_from_other_applications_of_the_host() -> None:
    secure = {"public_url": "https://x.org"}
    at_root = Settings(_env_file=None, **secure)
    below = Settings(_env_file=None, root_path=ROOT, **secure)
    # Browsers take no cookie with `__Host-` and another path than "/".
    assert cookie_name("xray_session", at_root) == "__Host-xray_session"
    assert cookie_name("xray_session", below) == "__Secure-xray_session"


def test_templates_need_no_filter_for_addresses() -> None:
    lines = [
        '<a class="x" href="/a">',
        '<a href="{{ url }}#b">',
        '<a data-action="/c" href="#d">',
        '<form action="{{ other }}">',
        '<p data-live-url="{{ nothing }}">',
        "{{ call(href=url) }}",
    ]
    environment = Environment(
        autoescape=True, extensions=[RootedAddresses], loader=DictLoader({"t": "\n".join(lines)})
    )
    values = {"url": "/u?a=1&b=2", "other": "https://x.org/a", "call": lambda href: href}
    with under_root(ROOT):
        rendered = environment.get_template("t").render(values)
    assert rendered.splitlines() == [
        '<a class="x" href="/xray/a">',
        '<a href="/xray/u?a=1&amp;b=2#b">',
        '<a data-action="/c" href="#d">',
        '<form action="https://x.org/a">',
        '<p data-live-url="">',
        "/u?a=1&amp;b=2",
    ]


@pytest.mark.parametrize(
    "line", ['<a href="list">', '<a href="{% if x %}/a{% endif %}">', '<img\nsrc="a.png">']
)
def test_template_with_an_unclear_address_is_refused(line: str) -> None:
    with pytest.raises(TemplateSyntaxError, match='Begin it with "/"'):
        Environment(extensions=[RootedAddresses]).from_string(line)


def test_no_script_holds_an_address() -> None:
    scripts = list(STATIC.glob("*.js"))
    assert scripts
    for script in scripts:
        assert not re.findall(r"""["'`]/[a-z]""", script.read_text()), script.name
