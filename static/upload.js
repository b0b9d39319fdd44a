/**
 * Sends images one request each, at most two at once, and shows a row for each.
 * XMLHttpRequest rather than fetch: only it reports the progress of an upload.
 */

const AT_ONCE = 2;
const AUTOMATIC_RETRIES = 3;
const FALLBACK_WAIT_S = 2;
// As in ml/imaging/image_files.py.
const SYSTEM_FILE = /^(\..*|(eh)?thumbs\.db|desktop\.ini|dicomdir)$/i;

const form = /** @type {HTMLFormElement} */ (document.getElementById("drop"));
const input = /** @type {HTMLInputElement} */ (document.getElementById("image"));
const queue = document.getElementById("queue");
const rows = queue.querySelector("ol");
const status = document.getElementById("status");
const rowTemplate = /** @type {HTMLTemplateElement} */ (document.getElementById("queue-row"));

/** @type {Record<string, string>} Sentences in the language of the page. */
const texts = JSON.parse(queue.dataset.texts);
const cancelAll = document.getElementById("cancel-all");
const PREVIEW = 96; // Pixels of a row's small picture: two for each CSS pixel.

/** @typedef {{file: File, row: HTMLElement, retries: number, alone: boolean, cancel: () => void}} Upload */
/** @typedef {{title: string, detail?: string, status: number, retryAfter: number | null}} Problem */

/** @type {Upload[]} */
const waiting = [];
/** @type {Set<Upload>} Those that are not answered yet. */
const unfinished = new Set();
let inFlight = 0;
// A visitor's first image makes the cookie that owns the images: until it came, the others wait for it.
let owned = false;

/** A sentence with its values. @param {string} name @param {Record<string, string | number>} [values] */
function say(name, values = {}) {
  return texts[name].replace(/\{(\w+)\}/g, (_whole, key) => String(values[key]));
}

/** @param {Iterable<File>} files */
function add(files) {
  const given = [...files];
  const chosen = given.filter((file) => !SYSTEM_FILE.test(file.name));
  if (!given.length || form.querySelector("fieldset").disabled) return;
  queue.hidden = false;
  skip(given.filter((file) => !chosen.includes(file)));
  for (const file of chosen) {
    const row = /** @type {HTMLElement} */ (rowTemplate.content.firstElementChild.cloneNode(true));
    row.querySelector(".file-name").textContent = file.name;
    row.querySelector(".file-size").textContent = readableSize(file.size);
    row.querySelector("progress").setAttribute("aria-label", say("uploadOf", { file: file.name }));
    rows.append(row);
    const upload = { file, row, retries: 0, alone: chosen.length === 1, cancel() {} };
    const [again, cancel] = buttons(upload);
    again.addEventListener("click", () => {
      upload.retries = 0;
      enqueue(upload);
    });
    cancel.setAttribute("aria-label", say("cancelUploadOf", { file: file.name }));
    cancel.addEventListener("click", () => upload.cancel());
    enqueue(upload);
  }
  queue.scrollIntoView({ block: "nearest" });
}

/** @param {File[]} files What systems and CDs put beside images. */
function skip(files) {
  if (!files.length) return;
  const row = document.createElement("li");
  row.className = "queue-row";
  const names = files.map((file) => file.name).join(", ");
  row.textContent = say(files.length === 1 ? "skippedOne" : "skippedMany", { count: files.length, names });
  rows.append(row);
  announce(row.textContent);
}

/** @param {Upload} upload @returns {HTMLElement[]} "Try again" and "Cancel". */
function buttons(upload) {
  return ["again", "cancel"].map((action) => upload.row.querySelector(`[data-action=${action}]`));
}

/** @param {Upload} upload @param {{again?: boolean, cancel?: boolean}} shown */
function offer(upload, { again = false, cancel = false }) {
  const [againButton, cancelButton] = buttons(upload);
  againButton.hidden = !again;
  cancelButton.hidden = !cancel;
  cancelAll.hidden = unfinished.size < 2;
}

/** @param {Upload} upload */
function enqueue(upload) {
  unfinished.add(upload);
  const largest = Number(form.dataset.maxBytes);
  if (upload.file.size > largest) {
    const detail = say("size", { size: readableSize(upload.file.size), limit: readableSize(largest) });
    return fail(upload, { title: say("tooLarge"), detail, status: 413, retryAfter: null });
  }
  show(upload, say("waiting"));
  upload.cancel = () => {
    waiting.splice(waiting.indexOf(upload), 1);
    stop(upload);
  };
  offer(upload, { cancel: true });
  waiting.push(upload);
  next();
}

/** @param {Upload} upload One that will not be sent. */
function stop(upload) {
  unfinished.delete(upload);
  show(upload, say("cancelled"));
  offer(upload, { again: true });
  announce(`${upload.file.name}: ${say("cancelled")}`);
}

/** A small picture of the file, where the browser can read it. @param {Upload} upload */
async function preview({ file, row }) {
  const picture = row.querySelector("canvas");
  try {
    const bitmap = await createImageBitmap(file, { resizeWidth: PREVIEW, resizeQuality: "medium" });
    [picture.width, picture.height] = [bitmap.width, bitmap.height];
    picture.getContext("2d").drawImage(bitmap, 0, 0);
    bitmap.close();
  } catch {
    // A DICOM file or none that is an image: the server's thumbnail comes with its answer.
  }
}

function next() {
  while (inFlight < (owned ? AT_ONCE : 1) && waiting.length) send(waiting.shift());
}

/** @param {Upload} upload */
function send(upload) {
  inFlight += 1;
  const progress = upload.row.querySelector("progress");
  progress.hidden = false;
  progress.value = 0;
  show(upload, say("uploading", { percent: 0 }));
  preview(upload);

  const request = new XMLHttpRequest();
  let isCancelled = false;
  upload.cancel = () => {
    isCancelled = true;
    request.abort();
  };
  offer(upload, { cancel: true });
  request.open("POST", form.action);
  request.setRequestHeader("Accept", "application/json");
  request.responseType = "json";
  request.upload.addEventListener("progress", (event) => {
    if (!event.lengthComputable) return;
    progress.value = (100 * event.loaded) / event.total;
    show(upload, say("uploading", { percent: Math.floor(progress.value) }));
  });
  request.upload.addEventListener("load", () => {
    progress.removeAttribute("value"); // Sent; how long the reading takes is unknown.
    show(upload, say("processing"));
    offer(upload, {}); // Too late: the server screens it now.
  });
  // Fires after success, error and abort alike.
  request.addEventListener("loadend", () => {
    inFlight -= 1;
    progress.hidden = true;
    if (isCancelled) {
      stop(upload);
      return next();
    }
    owned ||= request.status === 201;
    if (request.status === 201) succeed(upload, request.response);
    else fail(upload, problemOf(request));
    next();
  });
  const body = new FormData();
  body.append("image", upload.file, upload.file.name);
  for (const [name, value] of new FormData(form)) if (name !== "image") body.append(name, value);
  request.send(body);
}

/** @param {XMLHttpRequest} request @returns {Problem} */
function problemOf(request) {
  const seconds = Number.parseInt(request.getResponseHeader("Retry-After") ?? "", 10);
  const retryAfter = Number.isNaN(seconds) ? null : seconds;
  if (request.status === 0) {
    return { title: say("unreachable"), detail: say("checkConnection"), status: 0, retryAfter };
  }
  const { title = say("notScreened"), detail = say("answered", { status: request.status }) } = request.response ?? {};
  return { title, detail, status: request.status, retryAfter };
}

/** @param {Upload} upload @param {Problem} problem */
function fail(upload, problem) {
  const passing = problem.status === 0 || problem.status === 503 || problem.status === 429;
  if (passing && upload.retries < AUTOMATIC_RETRIES) {
    const wait = problem.retryAfter ?? FALLBACK_WAIT_S * 2 ** upload.retries;
    upload.retries += 1;
    show(upload, say("retrying", { title: problem.title, seconds: wait }));
    const timer = setTimeout(() => enqueue(upload), wait * 1000);
    upload.cancel = () => {
      clearTimeout(timer);
      stop(upload);
    };
    offer(upload, { cancel: true });
    return;
  }
  unfinished.delete(upload);
  const title = document.createElement("strong");
  title.textContent = problem.title;
  show(upload, title, problem.detail ?? "");
  upload.row.querySelector("progress").hidden = true;
  offer(upload, { again: passing });
  announce(`${upload.file.name}: ${problem.title}. ${problem.detail ?? ""}`);
}

/** @param {Upload} upload @param {{url: string, thumbnail_url: string, decision: string, decision_name: string, confidence: string, warnings: string[]}} screening */
function succeed(upload, screening) {
  unfinished.delete(upload);
  offer(upload, {});
  const picture = new Image(48, 48);
  picture.src = screening.thumbnail_url;
  picture.alt = "";
  upload.row.querySelector(".queue-picture").replaceChildren(picture);
  const verdict = document.createElement("span");
  verdict.className = `verdict verdict-${screening.decision}`;
  verdict.textContent = screening.decision_name;
  const warnings = screening.warnings.map((text) => {
    const line = document.createElement("span");
    line.className = "queue-warning";
    line.textContent = say("warning", { text });
    return line;
  });
  const confidence = document.createElement("span");
  confidence.className = "queue-confidence";
  confidence.textContent = screening.confidence;
  show(upload, verdict, confidence, ...warnings);
  const link = upload.row.querySelector("a");
  link.href = screening.url;
  link.hidden = false;
  link.setAttribute("aria-label", say("viewResult", { file: upload.file.name }));
  announce([`${upload.file.name}: ${screening.decision_name}, ${screening.confidence}`, ...screening.warnings].join(". "));
  if (upload.alone && unfinished.size === 0) location.assign(screening.url);
}

/** @param {Upload} upload @param {...(Node | string)} content */
function show(upload, ...content) {
  upload.row.querySelector(".queue-state").replaceChildren(...content);
}

/** @param {string} text */
function announce(text) {
  status.textContent = text;
}

/** @param {number} bytes */
function readableSize(bytes) {
  return bytes < 1e6 ? `${Math.ceil(bytes / 1000)} kB` : `${(bytes / 1e6).toLocaleString(document.documentElement.lang, { minimumFractionDigits: 1, maximumFractionDigits: 1 })} MB`;
}

document.getElementById("choose").addEventListener("click", () => input.click());
input.addEventListener("change", () => {
  add(input.files);
  input.value = ""; // So that the same file can be chosen again.
});

cancelAll.addEventListener("click", () => {
  for (const upload of [...unfinished]) if (!buttons(upload)[1].hidden) upload.cancel();
});

document.addEventListener("paste", (event) => add(event.clipboardData?.files ?? []));
document.addEventListener("dragover", (event) => {
  if (!event.dataTransfer?.types.includes("Files")) return;
  event.preventDefault(); // Without this the browser would open the image instead.
  document.body.classList.add("is-dragging");
});
document.addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) document.body.classList.remove("is-dragging");
});
document.addEventListener("drop", (event) => {
  document.body.classList.remove("is-dragging");
  if (!event.dataTransfer?.files.length) return;
  event.preventDefault();
  add(event.dataTransfer.files);
});

form.classList.add("is-live");
