/** Copy buttons: `<button data-copy="id-of-an-input" data-done="Copied" data-failed="Press Ctrl C">`. */

for (const button of document.querySelectorAll("button[data-copy]")) {
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
