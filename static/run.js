/**
 * Keeps what changes on a page about runs up to date: the parts marked with data-live.
 *
 * A run's page hears of changes by server-sent events; where there are none to be had, and on the
 * list, the parts are fetched now and then. A part is replaced only where its markup is another,
 * so that nothing moves under a reader's eyes or a keyboard's focus.
 */

const FALLBACK_S = 5;

const follow = document.getElementById("run-follow");
const list = document.querySelector("[data-follow-every]");

/** @type {Map<string, string>} The markup of each part as the server last sent it. */
const markup = new Map();
for (const part of document.querySelectorAll("[data-live]")) markup.set(part.id, part.outerHTML);

let fetching = false;
let missed = false;

/** Fetch the parts and show those that changed; one fetch at a time, and never one too few. */
async function refresh() {
  if (fetching) {
    missed = true;
    return;
  }
  fetching = true;
  try {
    const answer = await fetch(addressOfParts());
    // Signed out, or gone: the page itself says so.
    if (answer.redirected || !answer.ok) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of fresh.querySelectorAll("[data-live]")) show(part);
  } catch {
    // The server is away for a moment; the next change or look brings the parts.
  } finally {
    fetching = false;
    if (missed) {
      missed = false;
      refresh();
    }
  }
}

/** The grid that is looked at stays; a view of the newest one moves to the next. */
function addressOfParts() {
  if (!follow) return location.href;
  const step = scrubbedStep();
  return step === null ? follow.dataset.liveUrl : `${follow.dataset.liveUrl}?sample=${step}`;
}

/** @param {Element} part */
function show(part) {
  const old = document.getElementById(part.id);
  if (!old || markup.get(part.id) === part.outerHTML) return;
  // A slider that is held keeps its part until it is let go.
  if (old.querySelector("input:active")) {
    addEventListener("pointerup", refresh, { once: true });
    return;
  }
  markup.set(part.id, part.outerHTML);
  const fresh = /** @type {HTMLElement} */ (document.importNode(part, true));
  const focused = old.contains(document.activeElement) ? document.activeElement.id : "";
  const places = [...old.querySelectorAll("[tabindex]")].map((box) => [box.scrollLeft, box.scrollTop, isAtEnd(box)]);
  for (const picked of old.querySelectorAll(".run-pick:checked")) {
    const again = /** @type {HTMLInputElement | null} */ (fresh.querySelector(`#${CSS.escape(picked.id)}`));
    if (again) again.checked = true;
  }
  for (const open of old.querySelectorAll("details[open][id]")) {
    fresh.querySelector(`#${open.id}`)?.setAttribute("open", "");
  }
  old.replaceWith(fresh);
  [...fresh.querySelectorAll("[tabindex]")].forEach((box, number) => {
    const [left, top, atEnd] = places[number] ?? [0, 0, true];
    box.scrollLeft = left;
    box.scrollTop = atEnd ? box.scrollHeight : top;
  });
  liven(fresh);
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  announce(old, fresh);
}

/** @param {Element} box */
function isAtEnd(box) {
  return box.scrollTop + box.clientHeight >= box.scrollHeight - 4;
}

/** Say a new status to those who do not see it; metrics would be too many.
 * @param {Element} old @param {HTMLElement} fresh */
function announce(old, fresh) {
  const said = fresh.dataset.said;
  if (said && said !== /** @type {HTMLElement} */ (old).dataset.said) {
    document.getElementById("run-said").textContent = said;
    document.title = document.title.replace(/^[^·]*/, `${said.replace(":", ",")} `);
  }
}

// ---------- The samples over the training ----------

/** The grids, as the links beneath name them. */
function grids() {
  return /** @type {HTMLAnchorElement[]} */ ([...document.querySelectorAll("#samples-all a")]);
}

/** The step of the grid that is looked at; null where it is the newest one. */
function scrubbedStep() {
  const range = /** @type {HTMLInputElement | null} */ (document.getElementById("sample-range"));
  if (!range || range.value === range.max) return null;
  return grids()[Number(range.value)]?.dataset.step ?? null;
}

/** @param {HTMLInputElement} range */
function showGrid(range) {
  const grid = grids()[Number(range.value)];
  const image = /** @type {HTMLImageElement} */ (document.getElementById("sample-image"));
  image.src = grid.href;
  image.alt = range.dataset.alt.replace("{step}", grid.dataset.step);
  document.getElementById("sample-step").textContent = grid.textContent;
  document.getElementById("sample-place").textContent = String(Number(range.value) + 1);
  range.setAttribute("aria-valuetext", range.dataset.position.replace("{step}", grid.dataset.step));
}

/** Put the script's controls in place of the plain ones. @param {ParentNode} root */
function liven(root) {
  const range = /** @type {HTMLInputElement | null} */ (root.querySelector("#sample-range"));
  if (range) {
    // A single grid leaves nothing to scrub over.
    range.hidden = range.max === "0";
    for (const link of root.querySelectorAll(".scrubber a")) /** @type {HTMLElement} */ (link).hidden = true;
    range.addEventListener("input", () => showGrid(range));
  }
}

// ---------- Following ----------

/** Listen to the run's events while the page is seen; look now and then where there are none. */
function followRun() {
  follow.textContent = follow.dataset.done;
  if (!("EventSource" in window)) return lookRegularly(FALLBACK_S);
  /** @type {EventSource | null} */
  let source = null;
  const listen = () => {
    source = new EventSource(follow.dataset.eventsUrl);
    source.addEventListener("changed", refresh);
    source.addEventListener("over", () => {
      source.close();
      follow.remove();
    });
    source.addEventListener("error", () => {
      // A broken connection is tried again by the browser; a refusal is final.
      if (source.readyState === EventSource.CLOSED && isLive()) lookRegularly(FALLBACK_S);
    });
  };
  // A browser has few connections to a server, and a page that nobody sees needs none of them.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) source?.close();
    else if (isLive()) listen();
  });
  if (!document.hidden) listen();
}

/** Whether the run continues, as far as this page knows. */
function isLive() {
  return ["queued", "running"].includes(document.getElementById("run-state").dataset.status);
}

/** @param {number} seconds */
function lookRegularly(seconds) {
  const timer = setInterval(async () => {
    if (document.hidden) return;
    await refresh();
    if (follow && !isLive()) {
      clearInterval(timer);
      follow.remove();
    }
  }, seconds * 1000);
}

liven(document);
const log = document.getElementById("run-log");
if (log) log.scrollTop = log.scrollHeight;
if (follow) followRun();
else if (list) lookRegularly(Number(/** @type {HTMLElement} */ (list).dataset.followEvery));
