"""Attacks by visitors on what they share with clinics: places, rates, the disk."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta

import numpy as np
import pytest
from fastapi import FastAPI
from httpx2 import Client
from sqlalchemy import func, select, update
from starlette.testclient import TestClient

from app.accounts.api_keys import create_key
from app.core.admission import CallerKind
from app.core.audit import AuditEvent
from app.core.database import now
from app.core.rate_limit import RateLimit
from app.core.request_limits import RequestLimits
from app.screenings.retention import remove_expired_screenings
from app.screenings.stored_images import STORED_IMAGES
from app.screenings.tables import Screening
from app.settings import Settings
from tests.conftest import migrated_app
from tests.support.images import png
from tests.support.served import client_at, served_app, wait_until
from tests.support.services import changed_services

PLACES, PER_ADDRESS = 6, 2
_HEAD = (
    "POST /screenings HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Forwarded-For: {address}\r\n"
    "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 100000\r\n\r\n"
    '--b\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\nx'
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FastAPI, int]]:
    """A server with few places, and its port; callers choose their address, as a proxy would."""
    settings = Settings(
        _env_file=None,
        home=tmp_path_factory.mktemp("few"),
        decoder_workers=1,
        max_forms_read=PLACES,
        max_forms_per_address=PER_ADDRESS,
        visitor_quota_mb=1,
        visitor_uploads_per_minute=10_000,
    )
    app = migrated_app(settings)
    with served_app(app) as port:
        yield app, port


def client_of(served: tuple[FastAPI, int], address: str) -> Client:
    return client_at(served[1], address)


def clinic_of(served: tuple[FastAPI, int]) -> Client:
    with served[0].state.services.database.session() as session:
        key = create_key(session, f"clinic {time.monotonic_ns()}", "test")
    client = client_of(served, "203.0.113.1")
    client.headers["Authorization"] = f"Bearer {key}"
    return client


def visitors_places(app: FastAPI) -> int:
    return int(app.state.services.intake._places._taken[CallerKind.VISITOR])


def test_slow_uploads_of_visitors_shut_out_no_clinic(
    served: tuple[FastAPI, int], image_bytes: bytes
) -> None:
    app, port = served
    with ExitStack() as sockets:
        for number in range(PLACES):
            stuck = sockets.enter_context(socket.create_connection(("127.0.0.1", port)))
            stuck.sendall(_HEAD.format(address=f"192.0.2.{number}").encode())
        wait_until(lambda: visitors_places(app) == PLACES)
        with client_of(served, "198.51.100.1") as visitor:
            assert visitor.post("/screenings", files={"image": image_bytes}).status_code == 503
        with clinic_of(served) as clinic:
            for _ in range(6):
                sent = clinic.post("/api/v1/screenings", files={"image": image_bytes})
                assert sent.status_code == 201, sent.text
    wait_until(lambda: visitors_places(app) == 0)


def test_one_address_leaves_places_to_other_visitors(
    served: tuple[FastAPI, int], image_bytes: bytes
) -> None:
    app, port = served
    with ExitStack() as sockets:
        for _ in range(PLACES):
            stuck = sockets.enter_context(socket.create_connection(("127.0.0.1", port)))
            stuck.sendall(_HEAD.format(address="192.0.2.7").encode())
        wait_until(lambda: visitors_places(app) == PER_ADDRESS)
        with client_of(served, "192.0.2.7") as same:
            refused = same.post("/screenings", files={"image": image_bytes})
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        with client_of(served, "198.51.100.1") as other:
            assert other.post("/screenings", files={"image": image_bytes}).status_code == 303
    wait_until(lambda: visitors_places(app) == 0)


def noise(seed: int) -> bytes:
    return png(np.random.default_rng(seed).integers(0, 256, (512, 512), dtype=np.uint8))


def stored_bytes(app: FastAPI) -> int:
    return sum(entry.size for entry in app.state.services.storage.entries(STORED_IMAGES))


@pytest.mark.parametrize("keeps_cookie", [True, False])
def test_visitor_cannot_fill_the_disk(
    served: tuple[FastAPI, int], image_bytes: bytes, keeps_cookie: bool
) -> None:
    app, _ = served
    before = stored_bytes(app)
    with client_of(served, "192.0.2.50") as visitor:
        statuses = []
        for number in range(12):
            if keeps_cookie:
                # The address alone is not what stops it.
                visitor.headers["X-Forwarded-For"] = f"192.0.2.{60 + number}"
            else:
                visitor.cookies.clear()
            sent = visitor.post(
                "/screenings",
                files={"image": noise(number)},
                headers={"Accept": "application/json"},
            )
            statuses.append(sent.status_code)
    assert set(statuses) <= {201, 507 if keeps_cookie else 429}
    assert statuses[-1] == (507 if keeps_cookie else 429)
    assert sent.json()["code"] == "quota"
    assert ("Delete" if keeps_cookie else "tomorrow") in sent.json()["detail"]
    assert keeps_cookie or int(sent.headers["retry-after"]) > 3600
    assert stored_bytes(app) - before < 1_500_000
    with clinic_of(served) as clinic:
        assert clinic.post("/api/v1/screenings", files={"image": image_bytes}).status_code == 201


def test_visitor_who_deletes_may_store_again(served: tuple[FastAPI, int]) -> None:
    with client_of(served, "192.0.2.100") as visitor:
        addresses = []
        for number in range(12):
            visitor.headers["X-Forwarded-For"] = f"192.0.2.{100 + number}"
            sent = visitor.post("/screenings", files={"image": noise(number)})
            if sent.status_code == 507:
                break
            addresses.append(sent.headers["location"])
        assert "which is the limit" in sent.text
        for address in addresses:
            assert visitor.post(f"{address}/delete").status_code == 303
        assert visitor.post("/screenings", files={"image": noise(0)}).status_code == 303


def test_last_room_on_the_disk_is_for_clinics(
    application: FastAPI,
    visitor: TestClient,
    clinic: TestClient,
    clinician: TestClient,
    image_bytes: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = application.state.services.settings
    free = (settings.min_free_mb + settings.clinic_reserve_mb - 1) * 1e6
    monkeypatch.setattr("app.core.storage.Storage.free_bytes", lambda _: free)
    refused = visitor.post("/screenings", files={"image": image_bytes})
    assert refused.status_code == 507
    assert "for clinics" in refused.text
    assert clinic.post("/api/v1/screenings", files={"image": image_bytes}).status_code == 201
    assert clinician.post("/screenings", files={"image": image_bytes}).status_code == 303


def test_visitors_screenings_expire_and_no_others(
    application: FastAPI, visitor: TestClient, clinic: TestClient, image_bytes: bytes
) -> None:
    services = application.state.services
    address = visitor.post("/screenings", files={"image": image_bytes}).headers["location"]
    kept = visitor.post("/screenings", files={"image": image_bytes}).headers["location"]
    clinics = clinic.post("/api/v1/screenings", files={"image": image_bytes}).json()["id"]
    old = [address.rpartition("/")[2], clinics]
    with services.database.session() as session:
        for one in session.scalars(select(Screening)):
            if str(one.id) in old:
                one.created_at = now() - timedelta(days=31)
    assert remove_expired_screenings(services.database, services.storage, 0) == 0
    assert remove_expired_screenings(services.database, services.storage, 30) == 1
    assert visitor.get(address).status_code == 404
    assert visitor.get(kept).status_code == 200
    assert clinic.get(f"/api/v1/screenings/{clinics}").status_code == 200
    assert not list(services.storage.entries(f"{STORED_IMAGES}/{old[0]}"))
    with services.database.session() as session:
        query = select(AuditEvent.actor).where(
            AuditEvent.subject == old[0], AuditEvent.action == "screening.expired"
        )
        assert session.scalars(query).all() == ["server"]


def test_visitors_read_when_their_images_are_deleted(
    application: FastAPI, visitor: TestClient, clinician: TestClient
) -> None:
    told = "are deleted after 30 days"
    assert told not in visitor.get("/").text
    settings = application.state.services.settings.model_copy(update={"visitor_days": 30})
    with changed_services(application, settings=settings):
        assert told in visitor.get("/").text
        assert told not in clinician.get("/").text


def test_one_clean_up_deletes_a_bounded_number(
    application: FastAPI, visitor: TestClient, image_bytes: bytes
) -> None:
    services = application.state.services
    for _ in range(3):
        visitor.post("/screenings", files={"image": image_bytes})
    with services.database.session() as session:
        session.execute(
            update(Screening)
            .where(Screening.visitor_id.is_not(None))
            .values(created_at=now() - timedelta(days=400))
        )
        count = select(func.count()).where(Screening.visitor_id.is_not(None))
        left = session.scalar(count)
    assert remove_expired_screenings(services.database, services.storage, 365, at_most=2) == 2
    assert remove_expired_screenings(services.database, services.storage, 365) == left - 2


@pytest.fixture
def two_a_minute(application: FastAPI) -> Iterator[None]:
    few = RequestLimits(*(RateLimit(2, 60, name=name) for name in ("key", "user", "address")))
    with changed_services(application, request_limits=few):
        yield


@pytest.mark.usefixtures("two_a_minute")
def test_rate_limits_are_told_and_kept(
    visitor: TestClient, new_clinic: Callable[[str], TestClient], image_bytes: bytes
) -> None:
    one, other = new_clinic("one"), new_clinic("other")
    first = one.get("/api/v1/screenings")
    assert first.headers["ratelimit-policy"] == '"key";q=2;w=60'
    assert first.headers["ratelimit"].startswith('"key";r=1;t=')
    assert one.get("/api/v1/screenings").headers["ratelimit"].startswith('"key";r=0;t=')
    refused = one.get("/api/v1/screenings")
    assert refused.status_code == 429
    assert refused.json()["code"] == "too-many-requests"
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert other.get("/api/v1/screenings").status_code == 200
    uploaded = other.post("/api/v1/screenings", files={"image": image_bytes})
    assert uploaded.status_code == 201
    assert uploaded.headers["ratelimit"].startswith('"key";r=0;t='), "each request counts once"
    sent = [visitor.post("/screenings", files={"image": image_bytes}) for _ in range(3)]
    assert [answer.status_code for answer in sent] == [303, 303, 429]
    assert sent[0].headers["ratelimit"].startswith('"address";r=1;t=')
    assert visitor.get("/").status_code == 200
