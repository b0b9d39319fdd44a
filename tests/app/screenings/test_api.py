"""The REST API: keys, answers, lists, and one clinic's data out of another's reach."""

import uuid
from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest
from fastapi import FastAPI
from PIL import Image
from sqlalchemy import select
from starlette.testclient import TestClient

from app.accounts.api_keys import create_first_key, list_keys, revoke_key
from app.accounts.tables import ApiKey
from app.core.security import hash_api_key
from app.screenings.tables import Screening
from ml.labels import NO_CLASS


def answer(client: TestClient, image: bytes) -> dict[str, object]:
    """Have an image answered."""
    response = client.post("/api/v1/screenings", files={"image": ("image.png", image)})
    assert response.status_code == 201, response.text
    body: dict[str, object] = response.json()
    return body


def test_answer_is_recorded_and_can_be_read_again(
    application: FastAPI, clinic: TestClient, image_bytes: bytes
) -> None:
    response = clinic.post("/api/v1/screenings", files={"image": image_bytes})
    body = response.json()
    assert response.headers["location"] == f"/api/v1/screenings/{body['id']}"
    assert sum(body["probabilities"].values()) == pytest.approx(1)
    assert set(body["timings_ms"]) == {"wait", "decode", "predict", "store"}
    assert clinic.get(f"/api/v1/screenings/{body['id']}").json() == body
    with application.state.services.database.sessions() as session:
        row = session.get_one(Screening, uuid.UUID(body["id"]))
    assert row.visitor_id is None
    assert row.model_sha256 == body["model"]["sha256"]
    assert clinic.get(body["model"]["url"]).status_code == 200


def test_heat_map(clinic: TestClient, image_bytes: bytes) -> None:
    body = answer(clinic, image_bytes)
    first = clinic.get(str(body["heatmap_url"]))
    assert Image.open(BytesIO(first.content)).mode == "RGBA"
    same = clinic.get(str(body["heatmap_url"]), params={"label": body["label"]})
    assert same.content == first.content
    unknown = clinic.get(str(body["heatmap_url"]), params={"label": "measles"})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not-found")


def test_same_image_gets_the_same_answer(clinic: TestClient, image_bytes: bytes) -> None:
    first, second = answer(clinic, image_bytes), answer(clinic, image_bytes)
    assert first["probabilities"] == second["probabilities"]
    assert first["id"] != second["id"]


@pytest.mark.parametrize("sent", ["", "Bearer", "Bearer nonsense", "Basic eHg6eXk=", "nonsense"])
def test_api_needs_a_key(visitor: TestClient, image_bytes: bytes, sent: str) -> None:
    headers = {"Authorization": sent} if sent else {}
    refused = visitor.post("/api/v1/screenings", files={"image": image_bytes}, headers=headers)
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == "Bearer"
    assert refused.json()["code"] == "unauthorised"
    assert visitor.get("/api/v1/screenings", headers=headers).status_code == 401
    assert visitor.get(f"/api/v1/screenings/{uuid.uuid4()}", headers=headers).status_code == 401


def test_other_clinic_gets_404(new_clinic: Callable[[str], TestClient], image_bytes: bytes) -> None:
    ours, theirs = new_clinic("ours"), new_clinic("theirs")
    body = answer(ours, image_bytes)
    address = f"/api/v1/screenings/{body['id']}"
    assert theirs.get(address).status_code == 404
    assert theirs.get(str(body["heatmap_url"])).status_code == 404
    assert theirs.delete(address).status_code == 404
    assert theirs.get(f"/screenings/{body['id']}").status_code == 404
    assert theirs.get("/api/v1/screenings").json()["screenings"] == []
    listed = ours.get("/api/v1/screenings").json()
    assert [one["id"] for one in listed["screenings"]] == [body["id"]]
    assert ours.delete(address).status_code == 204
    assert ours.get(address).status_code == 404


def test_list_is_paged(clinic: TestClient, image_bytes: bytes) -> None:
    made = [answer(clinic, image_bytes)["id"] for _ in range(26)]
    first = clinic.get("/api/v1/screenings").json()
    second = clinic.get(first["next"]).json()
    assert second["next"] is None
    listed = [one["id"] for page in (first, second) for one in page["screenings"]]
    assert listed == made[::-1]


def test_revoked_key_is_refused(
    application: FastAPI, new_clinic: Callable[[str], TestClient]
) -> None:
    client = new_clinic("leaver")
    key = client.headers["authorization"].removeprefix("Bearer ")
    with application.state.services.database.session() as session:
        row = session.scalars(select(ApiKey).where(ApiKey.key_hash == hash_api_key(key))).one()
        revoke_key(session, row.id)
    assert client.get("/api/v1/screenings").status_code == 401


def test_keys_are_stored_as_hashes_and_made_once(application: FastAPI, clinic: TestClient) -> None:
    key = clinic.headers["authorization"].removeprefix("Bearer ")
    with application.state.services.database.session() as session:
        assert create_first_key(session) is None
        for row in list_keys(session):
            assert key not in f"{row.key_hash} {row.prefix} {row.name}"


@pytest.mark.parametrize("path", ["/api/v1/screenings/1", "/api/v1/nothing", "/api/nothing"])
def test_unknown_address_is_a_problem(clinic: TestClient, path: str) -> None:
    response = clinic.get(path)
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["status"] == 404


def test_wrong_method_is_a_problem(clinic: TestClient) -> None:
    response = clinic.put("/api/v1/screenings")
    assert (response.status_code, response.json()["code"]) == (405, "method-not-allowed")
    assert response.headers["allow"] == "GET, POST"
    one = clinic.put(f"/api/v1/screenings/{uuid.uuid4()}")
    assert (one.status_code, one.headers["allow"]) == (405, "DELETE, GET")


def test_openapi_document_describes_the_upload(visitor: TestClient) -> None:
    document = visitor.get("/api/v1/openapi.json").json()
    create = document["paths"]["/api/v1/screenings"]["post"]
    form = create["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form["properties"]["image"]["format"] == "binary"
    assert set(create["responses"]) >= {
        *("201", "400", "401", "408", "409", "413", "415", "422", "429", "503", "507")
    }
    assert create["security"]
    assert document["components"]["schemas"]["ScreeningOut"]["examples"]
    assert not any(path.startswith("/screenings") for path in document["paths"])


def test_openapi_document_names_the_classes(visitor: TestClient) -> None:
    document = visitor.get("/api/v1/openapi.json").json()
    classes = ["covid", "pneumonia", "normal"]
    schemas = document["components"]["schemas"]

    def enum(schema: dict[str, Any]) -> list[str]:
        found: list[str] = schema["anyOf"][0]["enum"]
        return found

    screening = schemas["ScreeningOut"]["properties"]
    assert enum(screening["label"]) == classes
    assert enum(screening["decision"]) == [*classes, "uncertain"]
    assert enum(screening["reason"]) == ["low-confidence", "out-of-distribution"]
    review = enum(schemas["ReviewIn"]["properties"]["label"])
    assert review == [*classes, *NO_CLASS]
    parameters = {
        parameter["name"]: parameter["schema"]
        for path, name in (("", "get"), ("/{id}/heatmap.png", "get"))
        for parameter in document["paths"][f"/api/v1/screenings{path}"][name]["parameters"]
    }
    assert enum(parameters["label"]) == classes
    assert enum(parameters["decision"]) == [*classes, "uncertain"]


def test_reference_page_shows_every_operation(visitor: TestClient) -> None:
    document = visitor.get("/api/v1/openapi.json").json()
    page = visitor.get("/api").text
    for path in document["paths"]:
        if path.startswith("/api/v1"):
            assert path in page
