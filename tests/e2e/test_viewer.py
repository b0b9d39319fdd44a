"""The image viewer: heat map, window and level, zoom, keyboard."""

import re
from typing import cast

import pytest
from playwright.sync_api import Page, expect


def scale(page: Page) -> float:
    """How much the image is enlarged beyond its fit."""
    transform = page.locator("#stage").evaluate("(stage) => stage.style.transform")
    return float(transform.split("scale(")[1].rstrip(")"))


def grey(page: Page) -> list[int]:
    """What the image's filter makes of the greys 0, 64, 128, 192, 255."""
    return cast(
        "list[int]",
        page.evaluate("""() => {
            const canvas = document.createElement("canvas");
            canvas.width = 5; canvas.height = 1;
            const context = canvas.getContext("2d");
            context.filter = document.getElementById("image").style.filter;
            [0, 64, 128, 192, 255].forEach((value, x) => {
                context.fillStyle = `rgb(${value} ${value} ${value})`;
                context.fillRect(x, 0, 1, 1);
            });
            const { data } = context.getImageData(0, 0, 5, 1);
            return [0, 1, 2, 3, 4].map((x) => data[4 * x]);
        }"""),
    )


def set_slider(page: Page, name: str, value: int) -> None:
    """Move a slider as a person does: the page hears of it."""
    page.locator(f"#{name}").fill(str(value))
    page.wait_for_function("() => new Promise(requestAnimationFrame)")


def linear(value: int, window: int, level: int) -> float:
    """The grey that window and level promise."""
    share = value / 255
    return 255 * min(max((share - level / 256) / (window / 256) + 0.5, 0), 1)


def test_heat_map_lies_on_the_image(screening: Page) -> None:
    screening.get_by_label("Heat map", exact=True).check()
    heat = screening.locator(".heat:visible")
    expect(heat).to_have_count(1)
    screening.wait_for_function("() => document.getElementById('image').complete")
    assert heat.locator("image").bounding_box() == pytest.approx(
        screening.evaluate("""() => {
            const image = document.getElementById("image");
            const frame = image.getBoundingClientRect();
            const fit = Math.min(
                frame.width / image.naturalWidth, frame.height / image.naturalHeight);
            const [width, height] = [fit * image.naturalWidth, fit * image.naturalHeight];
            return {
                x: frame.x + (frame.width - width) / 2, y: frame.y + (frame.height - height) / 2,
                width, height,
            };
        }"""),
        abs=1,
    )


def test_heat_map_switches_off_and_between_classes(screening: Page) -> None:
    screening.get_by_label("Heat map", exact=True).check()
    heat = screening.locator(".heat")
    expect(heat).to_have_count(3)
    # The classes stand in the model's order; that of the prediction is shown.
    named = screening.locator(".segments label")
    assert named.all_inner_texts() == ["COVID-19", "Pneumonia", "Normal"]
    for number in (0, 2):
        named.nth(number).click()
        expect(heat.nth(number)).to_be_visible()
        expect(heat.nth(2 - number)).to_be_hidden()
    screening.get_by_label("Heat map", exact=True).uncheck()
    expect(screening.locator(".heat:visible")).to_have_count(0)


def test_image_comes_first_and_the_heat_map_is_one_key_away(screening: Page) -> None:
    shown = screening.locator(".heat:visible")
    expect(shown).to_have_count(0)
    # From anywhere on the page, and remembered for the next image.
    screening.locator("body").press("h")
    expect(shown).to_have_count(1)
    screening.reload()
    expect(shown).to_have_count(1)
    screening.locator("body").press("H")
    expect(shown).to_have_count(0)
    screening.reload()
    expect(shown).to_have_count(0)


def test_opacity_slider_fades_the_heat_map(screening: Page) -> None:
    screening.get_by_label("Heat map", exact=True).check()
    heat = screening.locator(".heat:visible")
    expect(heat).to_have_css("opacity", "0.6")
    set_slider(screening, "opacity", 25)
    expect(heat).to_have_css("opacity", "0.25")
    expect(screening.get_by_text("25 %")).to_be_visible()


@pytest.mark.parametrize(
    ("window", "level"), [(256, 128), (100, 128), (64, 200), (200, 40), (32, 6), (256, 20)]
)
def test_window_and_level_are_a_straight_line(screening: Page, window: int, level: int) -> None:
    set_slider(screening, "window", window)
    set_slider(screening, "level", level)
    expected = [linear(value, window, level) for value in (0, 64, 128, 192, 255)]
    # A narrow window multiplies the rounding of the 8-bit steps between the two filters.
    assert grey(screening) == pytest.approx(expected, abs=2 + 256 / window)


def test_invert_turns_the_greys_round(screening: Page) -> None:
    set_slider(screening, "window", 100)
    upright = grey(screening)
    button = screening.get_by_role("button", name="Invert")
    button.click()
    expect(button).to_have_attribute("aria-pressed", "true")
    assert grey(screening) == pytest.approx([255 - value for value in upright], abs=2)


def test_zoom_buttons_and_readout(screening: Page) -> None:
    readout = screening.locator("#readout")
    screening.get_by_role("button", name="1:1").click()
    expect(readout).to_contain_text("100 %")
    screening.get_by_role("button", name="Zoom in").click()
    expect(readout).to_contain_text("125 %")
    screening.get_by_role("button", name="Fit").click()
    screening.wait_for_function("() => new Promise(requestAnimationFrame)")
    assert scale(screening) == 1


def test_keys_zoom_move_and_reset(screening: Page) -> None:
    viewer, stage = screening.locator("#viewport"), screening.locator("#stage")
    viewer.focus()
    for _ in range(6):
        screening.keyboard.press("+")
    screening.wait_for_function("() => new Promise(requestAnimationFrame)")
    assert scale(screening) == pytest.approx(1.25**6, rel=1e-3)
    screening.keyboard.press("ArrowRight")
    screening.keyboard.press("ArrowDown")
    expect(stage).to_have_attribute("style", re.compile(r"translate\(-60px, -60px\)"))
    screening.keyboard.press("0")
    expect(stage).to_have_attribute("style", re.compile(r"translate\(0px(, 0px)?\) scale\(1\)"))

    screening.keyboard.press("h")
    expect(screening.locator(".heat:visible")).to_have_count(1)
    screening.keyboard.press("w")
    screening.keyboard.press("Shift+L")
    screening.keyboard.press("i")
    expect(screening.locator("#readout")).to_contain_text("W 248")
    expect(screening.locator("#readout")).to_contain_text("L 132")
    screening.keyboard.press("r")
    expect(screening.locator("#readout")).to_contain_text("W 256")
    expect(screening.get_by_role("button", name="Invert")).to_have_attribute(
        "aria-pressed", "false"
    )


def test_ruler_and_magnifier(screening: Page) -> None:
    box = screening.locator("#viewport").bounding_box()
    assert box
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    fit = min(box["width"] / 512, box["height"] / 640)
    length, ruler = screening.locator("#ruler-label"), screening.get_by_role("button", name="Ruler")
    # Dragged; then by two clicks, with the image enlarged in between.
    screening.locator("body").press("m")
    expect(ruler).to_have_attribute("aria-pressed", "true")
    screening.mouse.move(x, y)
    screening.mouse.down()
    screening.mouse.move(x + 100 * fit, y)
    screening.mouse.up()
    expect(length).to_have_text("100 px")
    screening.locator("body").press("+")
    expect(length).to_have_text("100 px")
    screening.mouse.click(x, y)
    screening.mouse.click(x, y + 125 * fit)
    expect(length).to_have_text("100 px")
    screening.locator("body").press("z")
    expect(length).to_be_hidden()
    lens = screening.locator("#lens")
    screening.mouse.move(x + 20, y)
    expect(lens).to_be_visible()
    screening.locator("body").press("Escape")
    screening.mouse.move(x, y)
    expect(lens).to_be_hidden()


def test_arrow_keys_of_a_slider_stay_with_the_slider(screening: Page) -> None:
    screening.locator("#viewport").focus()
    screening.keyboard.press("+")
    screening.locator("#level").focus()
    screening.keyboard.press("ArrowRight")
    expect(screening.locator("#level")).to_have_value("129")
    expect(screening.locator("#stage")).to_have_attribute("style", re.compile(r"translate\(0px"))


def test_dragging_moves_and_shift_drag_sets_the_window(screening: Page) -> None:
    frame = screening.locator("#viewport").bounding_box()
    assert frame
    x, y = frame["x"] + frame["width"] / 2, frame["y"] + frame["height"] / 2
    screening.locator("#viewport").focus()
    screening.keyboard.press("+")
    screening.mouse.move(x, y)
    screening.mouse.down()
    screening.mouse.move(x + 30, y + 20)
    screening.mouse.up()
    expect(screening.locator("#stage")).to_have_attribute(
        "style", re.compile(r"translate\(30px, 20px\)")
    )
    screening.keyboard.down("Shift")
    screening.mouse.down()
    screening.mouse.move(x - 20, y)
    screening.mouse.up()
    screening.keyboard.up("Shift")
    expect(screening.locator("#window")).to_have_value("206")


def test_control_wheel_zooms_at_the_pointer(screening: Page) -> None:
    frame = screening.locator("#viewport").bounding_box()
    assert frame
    screening.mouse.move(frame["x"] + 10, frame["y"] + 10)
    screening.keyboard.down("Control")
    screening.mouse.wheel(0, -300)
    screening.keyboard.up("Control")
    screening.wait_for_function("() => new Promise(requestAnimationFrame)")
    assert scale(screening) == pytest.approx(2.718, abs=0.01)


def test_pinching_zooms(screening: Page) -> None:
    screening.locator("#viewport").evaluate("""(frame) => {
        const box = frame.getBoundingClientRect();
        frame.setPointerCapture = () => {};
        const send = (type, id, dx) => frame.dispatchEvent(new PointerEvent(type, {
            pointerId: id, pointerType: "touch", bubbles: true,
            clientX: box.x + box.width / 2 + dx, clientY: box.y + box.height / 2 }));
        send("pointerdown", 1, -50);
        send("pointerdown", 2, 50);
        send("pointermove", 1, -100);
        send("pointermove", 2, 100);
        send("pointerup", 1, -100);
        send("pointerup", 2, 100);
    }""")
    screening.wait_for_function("() => new Promise(requestAnimationFrame)")
    assert scale(screening) == pytest.approx(2, abs=0.01)
