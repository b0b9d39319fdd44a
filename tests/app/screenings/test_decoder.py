import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import uid

import app.screenings.decoder
from app.screenings.decoder import DecoderUnavailable, ImageDecoder
from app.screenings.decoder_protocol import DecodedImage, InvalidReply, Reply, read_reply
from ml.imaging.decode import read_image
from ml.imaging.display import display_image, thumbnail_image
from ml.imaging.preprocessing import standardise
from ml.imaging.types import UnreadableImage
from tests.support import REPOSITORY
from tests.support.images import dicom, jpeg, png, synthetic_image

IMAGE = synthetic_image(np.random.default_rng(5), 160, 140)
GOOD = jpeg(IMAGE)
SIZE = 64

# A child that does, for these images, what a broken decoder might do.
MISBEHAVING = """
import ctypes, os, signal, sys, time
sys.path.append(sys.argv[1])
import app.screenings.decoder_process as child
honest = child._decode

def decode(content, size, correction):
    if content == b"hang":
        time.sleep(600)
    if content == b"crash":
        ctypes.string_at(0)
    if content == b"killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if content == b"nonsense":
        return child.Reply({"width": "wide"}, b"", b"")
    if content == b"print":
        os.write(1, b"x" * 999), os.write(0, b"x" * 999), print("x" * 999)
        return honest(GOOD, size, correction)
    return honest(content, size, correction)

child._decode = decode
GOOD = bytes.fromhex("GOOD_HEX")
child.main()
""".replace("GOOD_HEX", GOOD.hex())


@pytest.fixture(scope="module")
def decoder() -> Iterator[ImageDecoder]:
    with ImageDecoder(1, timeout_s=20) as decoder:
        yield decoder


@pytest.fixture(scope="module")
def fragile() -> Iterator[ImageDecoder]:
    """A decoder whose children misbehave for some images, with little patience."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app.screenings.decoder, "_PROGRAM", MISBEHAVING)
        with ImageDecoder(1, timeout_s=4) as decoder:
            yield decoder


def refusal(decoder: ImageDecoder, content: bytes) -> UnreadableImage:
    with pytest.raises(UnreadableImage) as caught:
        decoder.decode(content, SIZE)
    return caught.value


def assert_good(image: DecodedImage) -> None:
    assert (image.width, image.height, image.format, image.bits) == (140, 160, "JPEG", 8)


@pytest.mark.parametrize(
    "content",
    [
        GOOD,
        png(IMAGE),
        png(IMAGE.astype(np.uint16) * 16),
        dicom(IMAGE.astype(np.uint16) * 16, bits=12, syntax=uid.JPEG2000Lossless, PatientSex="F"),
    ],
)
def test_child_gives_what_the_functions_give_here(decoder: ImageDecoder, content: bytes) -> None:
    image = read_image(content)
    decoded = decoder.decode(content, SIZE)
    np.testing.assert_array_equal(decoded.model_input, standardise(image.pixels, SIZE))
    assert (decoded.display, decoded.display_type) == display_image(image, content)
    assert decoded.thumbnail == thumbnail_image(image)
    assert (decoded.width, decoded.height) == (image.width, image.height)
    assert (decoded.format, decoded.bits) == (image.format, image.bits)
    assert decoded.metadata == image.metadata


def test_each_request_names_its_own_size(decoder: ImageDecoder) -> None:
    for size in (32, 224, SIZE):
        np.testing.assert_array_equal(
            decoder.decode(png(IMAGE), size).model_input, standardise(IMAGE, size)
        )


def test_refusals_come_through(decoder: ImageDecoder) -> None:
    for content, code in ((b"", "empty"), (b"%PDF-1.7", "not-an-image"), (GOOD[:999], "damaged")):
        problem = refusal(decoder, content)
        assert problem.code == code
        with pytest.raises(UnreadableImage, match=str(problem)):
            read_image(content)


def test_image_without_contrast_is_blank(decoder: ImageDecoder) -> None:
    almost = np.full_like(IMAGE, 90)
    almost[0, 0] = 91
    assert refusal(decoder, png(almost)).code == "blank"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"hang", "too-slow"),
        (b"crash", "damaged"),
        (b"killed", "too-large"),
        (b"nonsense", "damaged"),
    ],
)
def test_image_that_breaks_the_child_is_refused_and_the_next_is_read(
    fragile: ImageDecoder, content: bytes, code: str
) -> None:
    assert refusal(fragile, content).code == code
    assert_good(fragile.decode(GOOD, SIZE))


HEADER = {
    "display_type": "image/png",
    "width": 140,
    "height": 160,
    "format": "PNG",
    "bits": 8,
    "metadata": {"Mode": "L"},
    "warnings": [{"code": "rotated", "parameters": {"degrees": "90"}}],
}
PICTURE = png(IMAGE)


def test_valid_reply_is_accepted() -> None:
    outcome = read_reply(Reply(HEADER, bytes(SIZE**2), PICTURE, GOOD), SIZE)
    assert isinstance(outcome, DecodedImage)
    assert outcome.model_input.shape == (SIZE, SIZE)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(HEADER, bytes(SIZE**2 - 1), PICTURE, GOOD),
        Reply(HEADER, bytes(SIZE**2), b"<script>", GOOD),
        Reply(HEADER, bytes(SIZE**2), PICTURE, b"<script>"),
        Reply({**HEADER, "display_type": "text/html"}, bytes(SIZE**2), PICTURE, GOOD),
        Reply({**HEADER, "display_type": []}, bytes(SIZE**2), PICTURE, GOOD),
        Reply({**HEADER, "width": True}, bytes(SIZE**2), PICTURE, GOOD),
        Reply({**HEADER, "height": -5}, bytes(SIZE**2), PICTURE, GOOD),
        Reply({**HEADER, "bits": 8.0}, bytes(SIZE**2), PICTURE, GOOD),
        Reply({**HEADER, "format": "SVG"}, bytes(SIZE**2), PICTURE, GOOD),
        Reply({**HEADER, "warnings": "rotated"}, bytes(SIZE**2), PICTURE, GOOD),
        Reply({**HEADER, "warnings": HEADER["warnings"] * 11}, bytes(SIZE**2), PICTURE, GOOD),
        Reply({**HEADER, "warnings": [{"code": "x"}]}, bytes(SIZE**2), PICTURE, GOOD),
        Reply({**HEADER, "metadata": ["Mode"]}, bytes(SIZE**2), PICTURE, GOOD),
        Reply({**HEADER, "metadata": {"Mode": "L" * 501}}, bytes(SIZE**2), PICTURE, GOOD),
        Reply({**HEADER, "metadata": {"Mode": "\x1b[2J"}}, bytes(SIZE**2), PICTURE, GOOD),
        Reply(
            {**HEADER, "metadata": {str(n): "" for n in range(99)}}, bytes(SIZE**2), PICTURE, GOOD
        ),
        Reply({"code": "invented", "message": "refused"}),
        Reply({"code": "damaged", "message": None}),
        Reply({}),
    ],
)
def test_invalid_reply_is_refused(reply: Reply) -> None:
    with pytest.raises(InvalidReply):
        read_reply(reply, SIZE)


def test_what_a_library_prints_is_no_answer(fragile: ImageDecoder) -> None:
    assert_good(fragile.decode(b"print", SIZE))


def test_idle_child_that_was_killed_fails_no_image(decoder: ImageDecoder) -> None:
    decoder.decode(GOOD, SIZE)
    (child,) = children_of(decoder)
    child.kill()
    assert_good(decoder.decode(GOOD, SIZE))
    (successor,) = children_of(decoder)
    assert successor.pid != child.pid


def test_child_that_was_killed_while_it_started_fails_no_image() -> None:
    with ImageDecoder(1, timeout_s=20) as decoder:
        decoder._slots[0].start().result().kill()
        assert_good(decoder.decode(GOOD, SIZE))


def test_stopped_child_does_not_stall_a_large_upload() -> None:
    with ImageDecoder(1, timeout_s=8.0) as decoder:
        decoder.decode(GOOD, SIZE)
        (child,) = children_of(decoder)
        child.suspend()
        assert refusal(decoder, GOOD + bytes(32 * 2**20)).code == "too-slow"
        assert_good(decoder.decode(GOOD, SIZE))


def test_image_that_needs_too_much_memory_is_too_large() -> None:
    ramp = np.tile(np.arange(4000, dtype=np.uint16), (4000, 1))
    with ImageDecoder(1, timeout_s=20, memory_bytes=24 * 2**20) as decoder:
        assert refusal(decoder, png(ramp, compress_level=1)).code == "too-large"
        assert_good(decoder.decode(GOOD, SIZE))


def test_many_threads_share_few_children() -> None:
    with ImageDecoder(2, timeout_s=30) as decoder, ThreadPoolExecutor(8) as threads:
        contents = [jpeg(IMAGE[:, : 80 + n]) for n in range(40)]
        sizes = [SIZE, 32] * 20
        for n, image in enumerate(threads.map(decoder.decode, contents, sizes)):
            assert image.width == 80 + n
            assert image.model_input.shape == (sizes[n], sizes[n])
        assert len(children_of(decoder)) == 2


def test_busy_decoder_says_so_in_time(fragile: ImageDecoder) -> None:
    slot = fragile._lease()
    with pytest.raises(DecoderUnavailable, match="busy"):
        fragile.decode(GOOD, SIZE)
    fragile._idle.put(slot)
    assert_good(fragile.decode(GOOD, SIZE))


def test_child_is_replaced_after_a_number_of_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.screenings.decoder, "IMAGES_PER_CHILD", 2)
    with ImageDecoder(1, timeout_s=20) as decoder:
        pids = []
        for _ in range(4):
            decoder.decode(GOOD, SIZE)
            pids.append(decoder._slots[0].child()._process.pid)
    assert pids[0] != pids[1] == pids[2] != pids[3]


def test_child_that_cannot_start_is_not_the_images_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.screenings.decoder, "_PROGRAM", "raise SystemExit(1)")
    with (
        ImageDecoder(1) as decoder,
        pytest.raises(DecoderUnavailable, match="does not start"),
    ):
        decoder.decode(GOOD, SIZE)


def test_closed_decoder_leaves_no_child_and_takes_no_image() -> None:
    decoder = ImageDecoder(2)
    decoder.start()
    decoder.decode(GOOD, SIZE)
    started = children_of(decoder)
    decoder.close()
    decoder.close()
    assert not [child for child in started if child.is_running()]
    with pytest.raises(DecoderUnavailable, match="closed"):
        decoder.decode(GOOD, SIZE)


def test_closing_ends_an_image_that_is_being_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.screenings.decoder, "_PROGRAM", MISBEHAVING)
    with ThreadPoolExecutor(1) as threads, ImageDecoder(1, timeout_s=60) as decoder:
        decoder.decode(GOOD, SIZE)
        hanging = threads.submit(decoder.decode, b"hang", SIZE)
        while decoder._idle.qsize():
            time.sleep(0.01)
        time.sleep(0.1)
        decoder.close()
        assert isinstance(hanging.exception(60), DecoderUnavailable)


@pytest.mark.skipif(sys.platform != "linux", reason="the limits are Linux's")
def test_child_is_limited_and_knows_no_secret(
    decoder: ImageDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder.decode(GOOD, SIZE)
    (child,) = children_of(decoder)
    assert set(child.environ()) == {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"}
    assert child.rlimit(psutil.RLIMIT_CORE) == (0, 0)
    assert child.rlimit(psutil.RLIMIT_FSIZE) == (0, 0)
    assert child.rlimit(psutil.RLIMIT_NOFILE)[1] <= 64
    assert child.rlimit(psutil.RLIMIT_AS)[1] < 2 * 2**30
    assert not child.net_connections("inet")
    mapped = " ".join(region.path for region in child.memory_maps())
    assert "torch" not in mapped


def test_child_program_imports_neither_the_web_nor_torch() -> None:
    program = "import sys, app.screenings.decoder_process, ml.imaging.dicom; print(*sys.modules)"
    root = REPOSITORY
    finished = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True
    )
    modules = {name.split(".")[0] for name in finished.stdout.split()}
    assert modules.isdisjoint({"fastapi", "starlette", "sqlalchemy", "torch", "onnxruntime"})


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's promise is Linux's")
def test_children_die_with_the_server() -> None:
    server = (
        "import sys, time; from app.screenings.decoder import ImageDecoder; decoder = "
        "ImageDecoder(1);"
        "decoder.decode(bytes.fromhex(sys.argv[1]), 64);"
        "print(decoder._slots[0].child()._process.pid, flush=True); time.sleep(600)"
    )
    root = REPOSITORY
    with subprocess.Popen(
        [sys.executable, "-c", server, GOOD.hex()], cwd=root, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert psutil.pid_exists(child)
        process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 60
    while is_running(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_running(child)


def is_running(pid: int) -> bool:
    # Where nobody collects orphans, what is left of one is a zombie.
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def children_of(decoder: ImageDecoder) -> list[psutil.Process]:
    return [psutil.Process(slot.child()._process.pid) for slot in decoder._slots]


COMPRESSED = [
    dicom(IMAGE.astype(np.uint16) * 16, bits=12, syntax=uid.JPEG2000Lossless),
    dicom(IMAGE.astype(np.uint16) * 16, bits=12, syntax=uid.JPEGLosslessSV1),
    dicom(IMAGE.astype(np.uint16) * 16, bits=12, syntax=uid.RLELossless),
    dicom(IMAGE, syntax=uid.JPEGBaseline8Bit),
]


@given(
    content=st.sampled_from(COMPRESSED),
    flips=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=6),
)
@settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_damaged_compressed_pixels_harm_only_the_child(
    decoder: ImageDecoder, content: bytes, flips: list[tuple[float, int]]
) -> None:
    damaged = bytearray(content)
    for position, value in flips:
        damaged[round(position * (len(damaged) - 1))] = value
    with suppress(UnreadableImage):
        decoder.decode(bytes(damaged), SIZE)
