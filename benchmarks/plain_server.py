"""The plain way, to compare with: FastAPI, Pillow and an eager DenseNet-121 at 224 px.

This is what most published chest X-ray services look like. It gets the benefit of the doubt: a
route in the thread pool, inference mode, no heat map, and nothing is recorded.
"""

import io

import torch
from fastapi import FastAPI, UploadFile
from PIL import Image
from torchvision.models import densenet121
from torchvision.transforms import v2

app = FastAPI()
_network = densenet121(num_classes=3).eval()
_transform = v2.Compose(
    [
        v2.ToImage(),
        v2.Resize((224, 224), antialias=True),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ]
)


@app.get("/livez")
def livez() -> dict[str, str]:
    """Answers once the network is built."""
    return {"status": "alive"}


@app.post("/api/v1/screenings", status_code=201)
def create(image: UploadFile) -> dict[str, list[float]]:
    """Decode, resize, infer."""
    picture = Image.open(io.BytesIO(image.file.read())).convert("RGB")
    with torch.inference_mode():
        logits = _network(_transform(picture)[None])
    return {"probabilities": logits.softmax(dim=1)[0].tolist()}
