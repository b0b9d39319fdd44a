/** The list of screenings: selects all of a page, and says how many are selected. */

const form = /** @type {HTMLFormElement} */ (document.getElementById("selection"));
const boxes = /** @type {HTMLInputElement[]} */ ([...form.querySelectorAll("input[name=id]")]);
const all = form.querySelector("[data-action=all]");
const count = /** @type {HTMLElement} */ (form.querySelector(".selection-count"));
const buttons = /** @type {HTMLButtonElement[]} */ ([...form.querySelectorAll("button")]);

function show() {
  const selected = boxes.filter((box) => box.checked).length;
  const { none, one, many } = count.dataset;
  count.textContent = selected === 0 ? none : selected === 1 ? one : many.replace("{}", String(selected));
  for (const button of buttons) button.disabled = selected === 0;
}

form.addEventListener("change", show);
all.addEventListener("click", (event) => {
  event.preventDefault();
  const wanted = boxes.some((box) => !box.checked);
  for (const box of boxes) box.checked = wanted;
  show();
});
// A page from the browser's history has its old check boxes again.
addEventListener("pageshow", show);
