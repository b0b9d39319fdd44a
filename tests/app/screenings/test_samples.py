"""Sample images of the start page: one click without JavaScript, marked, and never reviewed."""

import re
from io import BytesIO

from PIL import Image
from starlette.testclient import TestClient

from app.screenings.samples import SAMPLES


def test_visitor_screens_a_sample_with_one_click(visitor: TestClient) -> None:
    page = visitor.get("/").text
    forms = re.findall(r'<form action="(/samples/[\w-]+)" method="post">', page)
    assert forms == [f"/samples/{sample.name}" for sample in SAMPLES]
    for form in forms:
        picture = visitor.get(f"{form}.png")
        assert picture.headers["content-type"] == "image/png"
        assert Image.open(BytesIO(picture.content)).text["synthetic"] == "true"  # type: ignore[attr-defined]
    answer = visitor.post(forms[0])
    assert answer.status_code == 303
    shown = visitor.get(answer.headers["location"]).text
    assert "This image is synthetic" in shown
    assert "Synthetic sample" in visitor.get("/screenings").text
    assert visitor.post("/samples/covid-0").status_code == 404


def test_sample_is_no_patient(visitor: TestClient, clinician: TestClient) -> None:
    assert "/samples/" not in clinician.get("/").text
    assert clinician.post(f"/samples/{SAMPLES[0].name}").status_code == 409
    # Nor is the same file that somebody downloaded and sent.
    file = {"image": ("x.png", SAMPLES[0].file.read_bytes())}
    address = clinician.post("/screenings", files=file).headers["location"]
    assert "This image is synthetic" in clinician.get(address).text
    refused = clinician.post(f"{address}/review", data={"label": "not-readable"})
    assert refused.status_code == 422
