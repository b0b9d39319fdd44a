/** A slider over the images of an interpolation; without a script they are shown side by side. */

const figure = document.getElementById("interpolation");
const scrubber = /** @type {HTMLElement} */ (figure.querySelector(".interpolation-position"));
const place = /** @type {HTMLInputElement} */ (document.getElementById("place"));
const large = scrubber.querySelector("svg");
const side = large.viewBox.baseVal.width;

function show() {
  large.setAttribute("viewBox", `${side * (Number(place.value) - 1)} 0 ${side} ${side}`);
  place.setAttribute("aria-valuetext", `image ${place.value} of ${place.max}`);
}

place.addEventListener("input", show);
figure.querySelectorAll(".strip li").forEach((image, index) => {
  image.addEventListener("click", () => {
    place.value = String(index + 1);
    show();
  });
});
scrubber.hidden = false;
show();
