/**
 * Copy buttons, also those that a script puts in later:
 * `<button data-copy="id-of-an-input" data-done="Copied" data-failed="Press Ctrl C">`.
 */

/** @param {ParentNode} root */
function liven(root) {
  for (const button of root.querySelectorAll("button[data-copy]")) {
    const input = /** @type {HTMLInputElement} */ (document.getElementById(button.dataset.copy));
    const label = button.textContent;
    button.hidden = false;
    input.addEventListener("focus", () => input.select());
    button.addEventListener("click", async () => {
      input.select();
      try {
        await navigator.clipboard.writeText(input.value);
        button.textContent = button.dataset.done;
      } catch {
        // Refused, or no secure context: the text is selected, so the person's own copy works.
        button.textContent = button.dataset.failed;
      }
      setTimeout(() => (button.textContent = label), 2500);
    });
  }
}

liven(document);
document.addEventListener("part-replaced", (event) => liven(/** @type {Element} */ (event.target)));
