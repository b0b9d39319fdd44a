/** The gallery: a selection that outlives a page, further images without leaving it. */

const form = /** @type {HTMLFormElement} */ (document.getElementById("shelf"));
// Public images and those that are not are selected apart.
const KEPT = `gallery-selection${form.dataset.shown}`;
const shelf = form.querySelector(".shelf");
const more = form.querySelector(".more");
const count = form.querySelector(".shelf-count");
const most = Number(form.dataset.most);
const [submit, all, none, between] = ["[type=submit]", "[data-action=all]", "[data-action=none]", "[data-action=between]"].map(
  (selector) => /** @type {HTMLElement} */ (form.querySelector(selector)),
);

/** @typedef {{model: string, label: string, seed: string}} Image */
/** @type {Map<string, Image>} Images that are ticked, on this page or another, by their number. */
const selection = new Map(Object.entries(JSON.parse(sessionStorage.getItem(KEPT) ?? "{}")));

/** @param {Element} item */
function boxOf(item) {
  return /** @type {HTMLInputElement} */ (item.querySelector("input"));
}

/** @param {HTMLElement} item @param {boolean} ticked */
function tick(item, ticked) {
  boxOf(item).checked = ticked;
  const { id, model, label, seed } = item.dataset;
  if (ticked) selection.set(id, { model, label, seed });
  else selection.delete(id);
}

function show() {
  sessionStorage.setItem(KEPT, JSON.stringify(Object.fromEntries(selection)));
  const { size } = selection;
  const said = count.dataset;
  count.textContent = size
    ? (size === 1 ? said.one : size > most ? said.tooMany : said.many).replace("{}", size.toLocaleString(document.documentElement.lang))
    : said.none;
  submit.disabled = size === 0 || size > most;
  none.hidden = size === 0;
  const [first, second] = size === 2 ? [...selection.values()] : [];
  const alike = first && first.model === second.model && first.label === second.label;
  between.hidden = !(alike && first.seed && second.seed);
  if (between.hidden) return;
  const way = { model: first.model, label: first.label, from: first.seed, to: second.seed };
  between.search = `?${new URLSearchParams(way)}`;
}

/** @param {ParentNode} page Restores the selection made on earlier pages. */
function restore(page) {
  for (const item of page.querySelectorAll(".shelf-image")) boxOf(item).checked = selection.has(item.dataset.id);
}

async function append() {
  const link = more.querySelector("a");
  const answer = await fetch(link.href);
  if (!answer.ok) return location.assign(link.href);
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const images = [...page.querySelectorAll(".shelf-image")];
  restore(page);
  shelf.append(...images);
  const following = page.querySelector(".more a")?.getAttribute("href");
  more.hidden = !following;
  if (following) link.href = following;
  images[0]?.querySelector("a").focus({ preventScroll: true });
}

shelf.addEventListener("change", (event) => {
  const box = /** @type {HTMLInputElement} */ (event.target);
  tick(box.closest(".shelf-image"), box.checked);
  show();
});
all.addEventListener("click", () => {
  for (const item of shelf.children) tick(item, true);
  show();
});
none.addEventListener("click", () => {
  selection.clear();
  restore(shelf);
  show();
});
more.addEventListener("click", (event) => {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  append();
});
// The form sends the whole selection, and not the boxes of this page.
form.addEventListener("formdata", ({ formData }) => {
  formData.delete("image");
  formData.set("images", [...selection.keys()].join(","));
});

form.addEventListener("submit", ({ submitter }) => {
  if (submitter?.getAttribute("name") === "change") sessionStorage.removeItem(KEPT);
});

all.hidden = false;
restore(shelf);
show();
// A page from the browser's history still has its old check boxes.
addEventListener("pageshow", () => restore(shelf));
