/** A scrubber over the images between two seeds; without it they stand side by side. */

const way = document.getElementById("interpolation");
const scrubber = /** @type {HTMLElement} */ (way.querySelector(".interpolation-position"));
const place = /** @type {HTMLInputElement} */ (document.getElementById("place"));
const large = scrubber.querySelector("svg");
const side = large.viewBox.baseVal.width;

function show() {
  large.setAttribute("viewBox", `${side * (Number(place.value) - 1)} 0 ${side} ${side}`);
  place.setAttribute("aria-valuetext", place.dataset.position.replace("{place}", place.value).replace("{count}", place.max));
}

place.addEventListener("input", show);
way.querySelectorAll(".strip li").forEach((image, index) => {
  image.addEventListener("click", () => {
    place.value = String(index + 1);
    show();
  });
});
scrubber.hidden = false;
show();
