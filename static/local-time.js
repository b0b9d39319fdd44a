/** Shows every time in the reader's own time zone; the tooltip keeps UTC. */

const format = new Intl.DateTimeFormat(document.documentElement.lang === "en" ? "en-GB" : document.documentElement.lang, { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit" });

/** @param {ParentNode} part */
function localise(part) {
  for (const time of part.querySelectorAll("time[datetime]:not([title])")) {
    const moment = new Date(/** @type {HTMLTimeElement} */ (time).dateTime);
    if (Number.isNaN(moment.getTime())) continue;
    time.setAttribute("title", time.textContent);
    time.textContent = format.format(moment);
  }
}

localise(document);
// Pages of runs replace their parts while one looks at them.
new MutationObserver(() => localise(document)).observe(document.body, { childList: true, subtree: true });
