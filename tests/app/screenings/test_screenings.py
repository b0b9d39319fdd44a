"""Screening in the browser's way: upload, answer, history, sharing, deleting, refusals."""

import re
import uuid
from datetime import timedelta
from io import BytesIO

import pytest
from fastapi import FastAPI
from PIL import Image
from sqlalchemy import func, select
from starlette.testclient import TestClient

from app.core.audit import AuditEvent
from app.core.database import now
from app.core.security import VISITOR_COOKIE
from app.registry.tables import ModelVersion
from app.screenings.sharing import share
from app.screenings.stored_images import STORED_IMAGES
from app.screenings.tables import Screening
from tests.support.images import jpeg, png


def upload(client: TestClient, content: bytes, name: str = "image.png") -> str:
    """Upload an image as the form does; the address of its page."""
    answer = client.post("/screenings", files={"image": (name, content)})
    assert answer.status_code == 303, answer.text
    return str(answer.headers["location"])


def rows_and_files(application: FastAPI) -> tuple[int, int]:
    services = application.state.services
    with services.database.sessions() as session:
        rows = session.scalar(select(func.count()).select_from(Screening))
    return rows, len(list(services.storage.entries(STORED_IMAGES)))


def test_visitor_uploads_a_image_and_reads_the_answer(
    application: FastAPI, visitor: TestClient, image_bytes: bytes
) -> None:
    address = upload(visitor, image_bytes)
    shown = visitor.get(address)
    assert shown.status_code == 200
    with application.state.services.database.sessions() as session:
        row = session.get_one(Screening, uuid.UUID(address.rsplit("/", 1)[1]))
        model = session.get_one(ModelVersion, row.model_sha256)
        events = session.scalars(select(AuditEvent).where(AuditEvent.subject == str(row.id))).all()
    assert sum(row.probabilities.values()) == pytest.approx(1)
    assert row.label == max(row.probabilities, key=lambda label: row.probabilities[label])
    assert row.decision in (row.label, "uncertain")
    assert (row.image_width, row.image_height, row.image_bits) == (288, 320, 8)
    assert model.card["sha256"] == row.model_sha256
    assert [event.action for event in events] == ["screening.created"]
    for value in row.probabilities.values():
        assert f"{value * 100:.1f} %" in shown.text
    assert row.model_version in shown.text
    assert row.model_sha256 in shown.text


def test_pictures_of_a_screening(visitor: TestClient, image_bytes: bytes) -> None:
    address = upload(visitor, image_bytes)
    image = visitor.get(f"{address}/image")
    assert image.headers["content-type"] == "image/png"
    assert Image.open(BytesIO(image.content)).size == (288, 320)
    thumbnail = Image.open(BytesIO(visitor.get(f"{address}/thumbnail").content))
    assert max(thumbnail.size) <= 256
    for label in ("covid", "pneumonia", "normal"):
        heatmap = visitor.get(f"{address}/heatmaps/{label}.png")
        assert Image.open(BytesIO(heatmap.content)).mode == "RGBA"
    assert visitor.get(f"{address}/heatmaps/measles.png").status_code == 404


@pytest.mark.parametrize(
    ("shares", "reason"),
    [({"covid": 0.31, "pneumonia": 0.9, "normal": None}, "outside-lungs"), ({}, "no-lungs")],
)
def test_heat_map_beside_the_lungs_is_not_shown(
    application: FastAPI, clinic: TestClient, image_bytes: bytes, shares: object, reason: str
) -> None:
    made = clinic.post("/api/v1/screenings", files={"image": ("a.png", image_bytes)}).json()
    assert made["heatmaps"].keys() == {"covid", "pneumonia", "normal"}
    with application.state.services.database.session() as session:
        row = session.get_one(Screening, uuid.UUID(made["id"]))
        assert row.heatmap_shares
        row.heatmap_shares, row.label = shares, "covid"
        share(row, 1)
    read = clinic.get(f"/api/v1/screenings/{made['id']}").json()
    assert read["heatmap_url"] is None
    covid = read["heatmaps"]["covid"]
    assert (covid["url"], covid["reason"]) == (None, reason)
    refused = clinic.get(f"/api/v1/screenings/{made['id']}/heatmap.png?label=covid")
    assert (refused.status_code, refused.json()["detail"]) == (404, covid["explanation"])
    page = TestClient(application).get(f"{made['page_url']}?share={row.share_token}").text
    assert covid["explanation"] in page
    assert "heatmaps/covid.png" not in page
    assert ("heatmaps/pneumonia.png" in page) == (reason == "outside-lungs")


def test_outsider_gets_404(
    visitor: TestClient, outsider: TestClient, clinic: TestClient, image_bytes: bytes
) -> None:
    address = upload(visitor, image_bytes)
    upload(outsider, image_bytes)  # an outsider with their own cookie
    for path in ("", "/image", "/thumbnail", "/heatmaps/covid.png"):
        assert visitor.get(address + path).status_code == 200
        assert outsider.get(address + path).status_code == 404
        assert outsider.get(f"{address}{path}?share=").status_code == 404
        assert outsider.get(f"{address}{path}?share=None").status_code == 404
    for action in ("share", "unshare", "delete"):
        assert outsider.post(f"{address}/{action}").status_code == 404
    assert clinic.get(f"/api/v1{address}").status_code == 404
    assert visitor.get(address).status_code == 200


def test_history_lists_only_the_visitors_own(
    visitor: TestClient, outsider: TestClient, image_bytes: bytes
) -> None:
    mine, theirs = upload(visitor, image_bytes), upload(outsider, image_bytes)
    listed = visitor.get("/screenings").text
    assert mine in listed
    assert theirs not in listed
    nobody = TestClient(visitor.app).get("/screenings")
    assert nobody.status_code == 200
    assert mine not in nobody.text


def test_history_pages_show_every_screening_once(visitor: TestClient, image_bytes: bytes) -> None:
    uploaded = {upload(visitor, image_bytes) for _ in range(27)}
    seen: list[str] = []
    address = "/screenings"
    while address:
        shown = visitor.get(address).text
        on_page = re.findall(r'href="(/screenings/[0-9a-f-]{36})"', shown)
        seen += dict.fromkeys(on_page)
        following = re.search(r'href="(/screenings\?before=[^"]+)" rel="next"', shown)
        address = following[1] if following else ""
    assert len(seen) == len(set(seen)) == 27
    assert set(seen) == uploaded
    overflowing = (
        "MDAwMS0wMS0wMVQwMDowMDowMCsyMzo1OXwwYjlmMWMxZS02ZjBjLTRhNTMtOWEwZS0zYzFmNmE2ZjdmMTA"
    )
    for before in ("nonsense", "%00", "a" * 5, overflowing):
        assert visitor.get(f"/screenings?before={before}").status_code == 404


def test_cookie_is_signed_and_out_of_reach_of_scripts(
    visitor: TestClient, outsider: TestClient, image_bytes: bytes
) -> None:
    address = upload(visitor, image_bytes)
    cookie = visitor.cookies[VISITOR_COOKIE]
    flags = visitor.post("/screenings", files={"image": image_bytes}).headers["set-cookie"].lower()
    assert "httponly" in flags
    assert "samesite=lax" in flags
    identity, signature = cookie.rsplit(".", 1)
    for forged in (identity, f"{identity}.", f"{identity}.{signature[::-1]}", f".{signature}"):
        outsider.cookies.set(VISITOR_COOKIE, forged)
        assert outsider.get(address).status_code == 404


def test_shared_link_opens_for_whoever_has_it_until_it_is_stopped(
    application: FastAPI, visitor: TestClient, outsider: TestClient, image_bytes: bytes
) -> None:
    address = upload(visitor, image_bytes)
    assert visitor.post(f"{address}/share").headers["location"] == address
    link = re.search(rf"{address}\?share=[\w-]+", visitor.get(address).text)
    assert link
    shown = outsider.get(link[0])
    assert shown.status_code == 200
    assert "/delete" not in shown.text
    # The address of a shared page is a key: other sites do not learn it.
    assert shown.headers["referrer-policy"] == "same-origin"
    for picture in re.findall(r'src="(/screenings/[^"]+)"', shown.text):
        assert outsider.get(picture.replace("&amp;", "&")).status_code == 200
    assert outsider.post(f"{address}/delete").status_code == 404
    visitor.post(f"{address}/unshare")
    assert outsider.get(link[0]).status_code == 404

    visitor.post(f"{address}/share")
    again = re.search(rf"{address}\?share=[\w-]+", visitor.get(address).text)
    assert again
    assert again[0] != link[0]
    with application.state.services.database.session() as session:
        row = session.get_one(Screening, uuid.UUID(address.rsplit("/", 1)[1]))
        row.shared_until = now() - timedelta(seconds=1)
    assert outsider.get(again[0]).status_code == 404


def test_deleted_screening_leaves_only_the_audit_event(
    application: FastAPI, visitor: TestClient, image_bytes: bytes
) -> None:
    before = rows_and_files(application)
    address = upload(visitor, image_bytes)
    assert visitor.post(f"{address}/delete").headers["location"] == "/screenings"
    assert visitor.get(address).status_code == 404
    assert visitor.get(f"{address}/image").status_code == 404
    assert rows_and_files(application) == before
    with application.state.services.database.sessions() as session:
        actions = session.scalars(
            select(AuditEvent.action).where(AuditEvent.subject == address.rsplit("/", 1)[1])
        ).all()
    assert set(actions) == {"screening.created", "screening.deleted"}


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "https://elsewhere.example"},
        {"origin": "null"},
        {"origin": "http://[bad"},
    ],
)
def test_form_of_another_site_is_refused(
    application: FastAPI, visitor: TestClient, image_bytes: bytes, headers: dict[str, str]
) -> None:
    address = upload(visitor, image_bytes)
    before = rows_and_files(application)
    sent = visitor.post("/screenings", files={"image": image_bytes}, headers=headers)
    assert sent.status_code == 403
    assert visitor.post(f"{address}/delete", headers=headers).status_code == 403
    assert rows_and_files(application) == before
    same = {"origin": "http://testserver"}
    assert (
        visitor.post("/screenings", files={"image": image_bytes}, headers=same).status_code == 303
    )


def test_several_images_without_script(visitor: TestClient, image_bytes: bytes) -> None:
    images = [("image", ("one.png", image_bytes)), ("image", ("two.png", image_bytes))]
    answer = visitor.post("/screenings", files=images)
    assert (answer.status_code, answer.headers["location"]) == (303, "/screenings")
    assert len(re.findall(r"/screenings/[0-9a-f-]{36}/thumbnail", visitor.get("/").text)) == 2


def test_good_image_among_bad_ones_is_kept(visitor: TestClient, image_bytes: bytes) -> None:
    images = [("image", ("<good>.png", image_bytes)), ("image", ("<b>bad.png", b"hello" * 99))]
    answer = visitor.post("/screenings", files=images)
    assert answer.status_code == 415
    assert "&lt;b&gt;bad.png" in answer.text
    assert "<b>bad" not in answer.text
    assert len(re.findall(r"/screenings/[0-9a-f-]{36}/thumbnail", visitor.get("/").text)) == 1


def test_script_gets_json(visitor: TestClient, image_bytes: bytes) -> None:
    answer = visitor.post(
        "/screenings", files={"image": image_bytes}, headers={"accept": "application/json"}
    )
    assert answer.status_code == 201
    assert visitor.get(answer.json()["url"]).status_code == 200
    refused = visitor.post(
        "/screenings", files={"image": b"no image"}, headers={"accept": "application/json"}
    )
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["code"] == "not-an-image"


def cmyk() -> bytes:
    return jpeg(Image.new("CMYK", (200, 200), (10, 20, 30, 40)))


def alpha() -> bytes:
    """A picture with transparent parts; one that is opaque throughout is read."""
    picture = Image.effect_noise((200, 200), 50).convert("RGBA")
    picture.putalpha(Image.linear_gradient("L").resize((200, 200)))
    return png(picture)


BAD_IMAGES = {
    "empty": (b"", {400, 415}),
    "html": (b"<!doctype html><script>alert(1)</script>" * 20, {415}),
    "pdf": (b"%PDF-1.7\n" + b"0" * 500, {415}),
    "zip": (b"PK\x03\x04" + b"0" * 500, {415}),
    "text": (b"not an image at all", {415}),
    "cmyk": (cmyk(), {422}),
    "alpha": (alpha(), {422}),
    "tiny": (png(Image.effect_noise((20, 20), 50)), {422}),
    "blank": (png(Image.new("L", (300, 300), 90)), {422}),
    "huge": (png(Image.new("1", (8000, 7000))), {413}),
    "truncated": (png(Image.effect_noise((300, 300), 50))[:20_000], {422}),
}


@pytest.mark.parametrize("kind", BAD_IMAGES)
def test_bad_image_leaves_no_row_and_no_file(
    application: FastAPI, visitor: TestClient, clinic: TestClient, kind: str
) -> None:
    content, statuses = BAD_IMAGES[kind]
    before = rows_and_files(application)
    sent = visitor.post("/screenings", files={"image": ("image.png", content)})
    assert sent.status_code in statuses
    assert "text/html" in sent.headers["content-type"]
    called = clinic.post("/api/v1/screenings", files={"image": ("image.png", content)})
    assert called.status_code in statuses
    assert called.headers["content-type"] == "application/problem+json"
    assert len(called.json()["detail"]) > 20
    assert rows_and_files(application) == before


def test_image_over_the_size_limit_is_refused(
    application: FastAPI, visitor: TestClient, clinic: TestClient
) -> None:
    before = rows_and_files(application)
    large = b"\x89PNG\r\n\x1a\n" + bytes(33_000_000)
    sent = visitor.post("/screenings", files={"image": large})
    assert sent.status_code == 413
    called = clinic.post("/api/v1/screenings", files={"image": large})
    assert (called.status_code, called.json()["code"]) == (413, "too-large")
    assert "32 MB" in called.json()["detail"]
    assert rows_and_files(application) == before


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "text/plain"),
        (b"{}", "application/json"),
        (b"--x\r\n", "multipart/form-data; boundary=x"),
        (b"nonsense", "multipart/form-data; boundary=x"),
        (b"nonsense", "multipart/form-data"),
        (
            b'--x\r\nContent-Disposition: form-data; name="image"\r\n\r\ntext\r\n--x--\r\n',
            "multipart/form-data; boundary=x",
        ),
        (
            b'--x\r\nContent-Disposition: form-data; name="other"; filename="a"\r\n\r\n1\r\n--x--',
            "multipart/form-data; boundary=x",
        ),
    ],
)
def test_request_without_a_image_is_a_400(
    visitor: TestClient, clinic: TestClient, body: bytes, kind: str
) -> None:
    headers = {"content-type": kind}
    assert visitor.post("/screenings", content=body, headers=headers).status_code == 400
    called = clinic.post("/api/v1/screenings", content=body, headers=headers)
    assert (called.status_code, called.json()["code"]) == (400, "no-image")
