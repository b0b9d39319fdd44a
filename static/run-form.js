/** Fills the form of a run with a preset, without a request to the server. */

const picker = /** @type {HTMLSelectElement | null} */ (document.getElementById("preset"));

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

if (picker) {
  picker.form.querySelector("button").hidden = true;
  picker.addEventListener("change", () => {
    const chosen = picker.selectedOptions[0];
    if (!chosen.dataset.values) return;
    fill(JSON.parse(chosen.dataset.values));
    document.getElementById("preset-said").textContent = `Filled in: ${chosen.textContent}`;
  });
}
