/** Fills the form of a run with a preset or a length, and keeps its estimate up to date. */

const WAIT_MS = 700;
const pickers = /** @type {HTMLSelectElement[]} */ ([...document.querySelectorAll("#preset, #length")]);
const form = /** @type {HTMLFormElement | null} */ (document.querySelector(".run-form"));

/** @param {Record<string, string>} values What stands in each field, "on" or nothing for a switch. */
function fill(values) {
  for (const [name, value] of Object.entries(values)) {
    const field = /** @type {HTMLInputElement | null} */ (document.getElementById(`option-${name}`));
    if (!field) continue;
    if (field.tagName === "FIELDSET") {
      const chosen = value.split(",");
      for (const box of field.querySelectorAll("input")) box.checked = chosen.includes(box.value);
    } else if (field.type === "checkbox") field.checked = value === "on";
    else field.value = value;
  }
}

/** Apply the preset, then the length, which changes some of its options. */
function apply() {
  const said = [];
  for (const picker of pickers) {
    const chosen = picker.selectedOptions[0];
    if (!chosen.dataset.values) continue;
    fill(JSON.parse(chosen.dataset.values));
    const device = /** @type {HTMLSelectElement | null} */ (document.getElementById("run-queue"));
    if (device && chosen.dataset.device) device.value = chosen.dataset.device;
    said.push(chosen.textContent.trim());
  }
  document.getElementById("preset-said").textContent = said.length ? document.getElementById("preset-said").dataset.done.replace("{}", said.join("; ")) : "";
  form?.dispatchEvent(new Event("change"));
}

for (const picker of pickers) {
  picker.form.querySelector("button").hidden = true;
  picker.addEventListener("change", apply);
}

// ---------- The estimate ----------

/** @type {ReturnType<typeof setTimeout> | undefined} */
let timer;
/** @type {AbortController | undefined} */
let asking;

/** Ask what the run would take, as its button does, and show that part of the answer. */
async function estimate() {
  asking?.abort();
  asking = new AbortController();
  const sent = new URLSearchParams(/** @type {any} */ (new FormData(form)));
  sent.set("check", "script");
  try {
    const answer = await fetch(form.action, { method: "POST", body: sent, signal: asking.signal });
    // Signed out: the next click says so.
    if (answer.redirected) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.getElementById("run-check");
    const old = document.getElementById("run-check");
    if (!fresh || !old) return;
    old.replaceChildren(...[...fresh.childNodes].map((node) => document.importNode(node, true)));
    old.dispatchEvent(new Event("part-replaced", { bubbles: true }));
  } catch {
    // The server is away, or a newer question was asked.
  }
}

if (form && document.getElementById("run-check")) {
  form.addEventListener("change", () => {
    clearTimeout(timer);
    timer = setTimeout(estimate, WAIT_MS);
  });
  // A form that came back with faults, or with an estimate, shows them.
  if (!document.querySelector(".field-fault, .run-estimate")) estimate();
}
