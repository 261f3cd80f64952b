// What the console does in the browser: live updates, writing, keys. All HTML comes from the service, escaped there.

// htmx puts our own HTML into the page; script and addresses of script stay forbidden.
window.trustedTypes?.createPolicy("default", { createHTML: (html) => html });

const at = (id) => document.getElementById(id);
const pane = () => at("pane");

// -- times, in the reader's zone --

function ago(moment) {
  const seconds = Math.max(0, (Date.now() - moment) / 1000);
  for (const [length, unit] of [[86_400, "d"], [3_600, "h"], [60, "min"]]) {
    if (seconds >= length) return `${Math.floor(seconds / length)} ${unit}`;
  }
  return "now";
}

function tellTimes() {
  for (const time of document.querySelectorAll("time[datetime]")) {
    const moment = new Date(time.dateTime);
    const today = moment.toDateString() === new Date().toDateString();
    const day = today ? {} : { day: "numeric", month: "short" };
    if ("ago" in time.dataset) time.textContent = ago(moment);
    else time.textContent = moment.toLocaleString([], { ...day, hour: "2-digit", minute: "2-digit" });
    if (!time.title) time.title = moment.toLocaleString();
  }
}

// -- what changed --

// Requests of one source wait for each other, and of those that wait only the last is sent: each kind has its own.

function once(act, ms) {
  let waiting = 0;
  return () => {
    if (!waiting) waiting = setTimeout(() => { waiting = 0; act(); }, ms);
  };
}

const freshList = once(() => {
  const list = at("list");
  if (list) htmx.ajax("GET", list.dataset.address, { source: "#list", target: "#list", swap: "innerHTML" });
}, 150);
const freshStory = once(() => {
  if (pane()) htmx.ajax("GET", pane().dataset.address, { source: "#story", target: "#story", swap: "innerHTML" });
}, 60);
const freshDraft = once(() => {
  const draft = at("draft");
  if (draft) htmx.ajax("GET", draft.getAttribute("hx-get"), { source: "#draft", target: "#draft", swap: "innerHTML" });
}, 300);

let telling = 0;

/** Says that the page stands still; by default not for the moment that a line needs to come up again. */
function tellLine(text, ms = 3000) {
  telling ||= setTimeout(() => { at("line").textContent = text; at("line").hidden = false; }, ms);
}

function lineIsUp() {
  clearTimeout(telling);
  telling = 0;
  at("line").hidden = true;
}

function follow() {
  if (!at("list")) return;
  const source = new EventSource(`/console/events?mark=${at("list").dataset.mark}`);
  source.addEventListener("change", (event) => {
    freshList();
    if (pane()?.dataset.conversation === event.data) freshStory();
  });
  source.addEventListener("listening", (event) => {
    lineIsUp();
    // from here on nothing is missed, but since the page was made something was
    if (event.data === "news") { freshList(); freshStory(); }
  });
  source.addEventListener("error", () => {
    tellLine("Not connected: what you see may be out of date. Trying again…");
    if (source.readyState === EventSource.CLOSED) setTimeout(followAgain, 3000);
  });
}

/** The service or a proxy refused the line. It does not say why: a page that asks is told whether the session ended. */
async function followAgain() {
  const answer = await fetch(at("list").dataset.address, { headers: { "HX-Request": "true" } }).catch(() => null);
  if (answer?.status === 401) signedOut();
  else follow();
}

/** To sign-in and back here, but not with words unsent. */
function signedOut() {
  if (!at("text")?.value.trim()) return location.reload();
  lineIsUp();
  tellLine("You are signed out. Copy what you wrote, then load this page again to sign in.", 0);
}

// what changed and could not be shown is asked for again
for (const failed of ["htmx:responseError", "htmx:sendError"]) {
  document.addEventListener(failed, (event) => {
    const { requestConfig, xhr } = event.detail;
    if (requestConfig.verb === "get" && (!xhr.status || xhr.status >= 500)) setTimeout(() => { freshList(); freshStory(); }, 3000);
  });
}

document.addEventListener("htmx:beforeOnLoad", (event) => {
  if (event.detail.xhr.status !== 401) return;
  event.preventDefault();
  setTimeout(signedOut, 100); // what could not be sent is back in its field by then
});

// -- the conversation --

let last = null;
let problem = { text: "", until: 0 }; // what went wrong stays to be read, whatever is refreshed meanwhile

function keepProblem() {
  const shown = at("bar")?.querySelector(".problem");
  if (shown) problem = { text: shown.textContent, until: Date.now() + 8_000 };
  else if (Date.now() < problem.until) tellProblem(problem.text);
}

function tellProblem(text) {
  const told = document.createElement("p");
  told.className = "problem";
  told.role = "alert";
  told.textContent = text;
  at("bar")?.append(told);
}

function settle() {
  tellTimes();
  keepProblem();
  const bar = at("bar");
  if (bar && pane()) {
    pane().dataset.mine = bar.dataset.mine;
    if (last !== null && last !== bar.dataset.last) freshDraft();
    last = bar.dataset.last;
  }
  const about = at("about");
  if (about) about.ariaExpanded = String(document.querySelector(".desk").classList.contains("telling"));
  const waiting = document.querySelector(".tabs")?.dataset.waiting;
  if (waiting !== undefined) document.title = document.title.replace(/^Inbox( \(\d+\))?/, Number(waiting) ? `Inbox (${waiting})` : "Inbox");
}

function atEnd(story) {
  return story.scrollHeight - story.scrollTop - story.clientHeight < 120;
}

function mode(noting) {
  const form = at("write");
  form.classList.toggle("noting", noting);
  form.action = noting ? form.dataset.note : form.dataset.reply;
  at("mode-reply").ariaPressed = String(!noting);
  at("mode-note").ariaPressed = String(noting);
  form.setAttribute("aria-labelledby", noting ? "mode-note" : "mode-reply");
  at("text-label").textContent = noting ? "Your note, which no customer sees" : "Your reply to the customer";
  at("text").placeholder = noting ? "Only colleagues see this" : "Write to the customer";
  at("send").textContent = noting ? "Save note" : "Send";
  at("text").focus();
}

function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

let line = Promise.resolve(); // what is written goes out in order
let onItsWay = 0;

/** The field is free at once; what could not be sent comes back into it, alone under its old id: once is once. */
function send(form) {
  const field = form.elements.text;
  if (!field.value.trim()) return;
  const values = { text: field.value, id: form.elements.id.value, view: form.elements.view.value };
  const address = form.getAttribute("action");
  const noted = form.classList.contains("noting");
  field.value = "";
  form.elements.id.value = newId();
  onItsWay += 1;
  line = line.then(() => post(address, values)).then((sent) => {
    onItsWay -= 1;
    if (sent) return;
    const noting = form.classList.contains("noting");
    // Words for colleagues never stand in a field that writes to the customer.
    const both = noted || (noting && field.value.trim() !== "");
    if (both !== noting) mode(both);
    if (!field.value.trim()) form.elements.id.value = values.id;
    field.value = field.value.trim() ? `${values.text}\n\n${field.value}` : values.text;
  });
}

// What is written and not stored yet is not lost by a click: the browser asks first.
addEventListener("beforeunload", (event) => {
  if (onItsWay || at("text")?.value.trim()) event.preventDefault();
});

async function post(address, values) {
  let went = false;
  let refused = false;
  const note = (event) => {
    if (event.detail.pathInfo.requestPath !== address) return;
    went = event.detail.successful;
    // Of this request, and not of another that failed meanwhile; texts are escaped and hold no such mark.
    refused = event.detail.xhr.responseText.includes('<p class="problem"');
    document.body.removeEventListener("htmx:afterRequest", note);
  };
  document.body.addEventListener("htmx:afterRequest", note);
  await htmx.ajax("POST", address, { source: "#pane", target: "#story", swap: "innerHTML", values }).catch(() => {});
  document.body.removeEventListener("htmx:afterRequest", note);
  if (!went) say("That was not sent. Try again.");
  return went && !refused;
}

function insert(text) {
  const field = at("text");
  if (at("write").classList.contains("noting") && !field.value.trim()) mode(false); // half a note stays one
  field.value = field.value.trim() ? `${field.value.trimEnd()}\n\n${text}` : text;
  at("canned").open = false;
  field.focus();
}

function say(text) {
  at("speech").textContent = text;
  at("bar")?.querySelector(".problem")?.remove();
  tellProblem(text);
  keepProblem();
}

// -- keys --

function step(by) {
  const items = [...document.querySelectorAll(".item")];
  if (!items.length) return;
  const now = items.findIndex((item) => item.matches("[aria-current]"));
  const next = items[Math.min(items.length - 1, Math.max(0, now < 0 ? 0 : now + by))];
  line.then(() => location.assign(next.href)); // the list may be another by then
}

const KEYS = {
  ArrowDown: () => step(1),
  ArrowUp: () => step(-1),
  KeyT: () => at("act-take")?.click(),
  KeyR: () => at("mode-reply")?.click(),
  KeyN: () => at("mode-note")?.click(),
};

// -- the look of a site --

function paint() {
  const preview = at("preview");
  const form = at("theme-form");
  if (!preview || !form) return;
  const { colour, text, greeting, position, mode: light, name } = form.elements;
  if (/^#[0-9a-f]{6}$/i.test(colour.value)) {
    const [r, g, b] = [1, 3, 5].map((start) => {
      const part = parseInt(colour.value.slice(start, start + 2), 16) / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    const luminance = 0.2126 * r + 0.7152 * g + 0.0722 * b;
    preview.style.setProperty("--theme", colour.value);
    preview.style.setProperty("--theme-ink", 1.05 / (luminance + 0.05) >= (luminance + 0.05) / 0.05 ? "#ffffff" : "#111111");
    at("colour-pick").value = colour.value;
  }
  preview.dataset.position = position.value;
  preview.dataset.mode = light.value;
  at("p-head").textContent = text.value || name.value || text.placeholder;
  at("p-greeting").textContent = greeting.value || greeting.placeholder;
}

// -- begin --

document.addEventListener("DOMContentLoaded", () => {
  settle();
  follow();
  paint();
  setInterval(tellTimes, 30_000);
  document.querySelector(".top nav [aria-current]")?.scrollIntoView({ inline: "center", block: "nearest" });
  const story = at("story");
  if (story) story.scrollTop = story.scrollHeight;
  at("theme-form")?.addEventListener("input", (event) => {
    if (event.target.id === "colour-pick") at("colour").value = event.target.value;
    paint();
  });
  at("write")?.addEventListener("submit", (event) => {
    event.preventDefault();
    send(event.target);
  });
  at("text")?.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !event.isComposing) {
      event.preventDefault();
      at("write").requestSubmit();
    }
  });
  at("mode-reply")?.addEventListener("click", () => mode(false));
  at("mode-note")?.addEventListener("click", () => mode(true));
  at("canned-search")?.addEventListener("input", (event) => {
    const wanted = event.target.value.toLowerCase();
    for (const item of document.querySelectorAll("#canned li")) item.hidden = !item.textContent.toLowerCase().includes(wanted);
  });
  document.body.dataset.ready = "true";
});

document.addEventListener("click", async (event) => {
  for (const open of document.querySelectorAll("details[open]")) {
    if (!open.contains(event.target)) open.open = false;
  }
  if (event.target.closest("#about")) {
    document.querySelector(".desk").classList.toggle("telling");
    settle();
  } else if (event.target.closest("[data-insert]")) {
    document.querySelector(".desk").classList.remove("telling");
    settle();
  }
  const inserting = event.target.closest("[data-insert]");
  if (inserting) insert(inserting.dataset.insert);
  const copying = event.target.closest("[data-copy]");
  if (copying) {
    // Without https there is no clipboard, and a browser may forbid it: then the text is marked for the keyboard.
    const copied = await navigator.clipboard?.writeText(copying.dataset.copy).then(() => true, () => false);
    if (!copied) getSelection().selectAllChildren(copying.previousElementSibling);
    copying.textContent = copied ? "Copied" : "Press Ctrl+C";
  }
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") for (const open of document.querySelectorAll("details[open]")) open.open = false;
  if (!event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
  const act = KEYS[event.code];
  if (!act) return;
  event.preventDefault();
  act();
});

document.addEventListener("htmx:beforeRequest", (event) => {
  if (event.detail.requestConfig.verb === "get") return;
  problem.until = 0;
  at("bar")?.querySelector(".problem")?.remove();
});

let stay = false;
let stood = 0; // lines that were there before: what is not new is not read out again
document.addEventListener("htmx:beforeSwap", (event) => {
  const story = event.detail.target;
  if (story.id !== "story") return;
  stay = !atEnd(story);
  stood = story.childElementCount;
});
document.addEventListener("htmx:afterSwap", (event) => {
  settle();
  const story = at("story");
  if (event.detail.target.id === "story" && !stay) {
    story.scrollTop = story.scrollHeight;
    const said = story.querySelector(".said:last-child .text");
    if (said && story.childElementCount > stood && story.lastElementChild.matches(".customer")) at("speech").textContent = said.textContent;
  }
});
document.addEventListener("htmx:responseError", (event) => {
  const { requestConfig, xhr } = event.detail;
  // deleted by its customer: then it does not stay on a screen either
  if (xhr.status === 404 && requestConfig.path === pane()?.dataset.address) location.reload();
  else if (requestConfig.verb === "get" && xhr.status >= 500) say("What is new cannot be shown. Trying again…");
  else say("The service refused that. Load the page again.");
});
document.addEventListener("htmx:sendError", () => say("The service cannot be reached. Trying again…"));
