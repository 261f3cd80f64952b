// One message on the page: what the customer said, and the answer as it comes, with sources, thumbs and what to ask next.
// All text goes through textContent.

import { wordsFor } from "./words.js";

const JUDGED = new Set(["approved", "grounded", "clarified", "not_known"]);
const UP = "M6.5 9 9.6 3.2c1.1 0 1.9.9 1.7 2l-.5 2.9h3.9c1 0 1.7.9 1.5 1.9l-1 5c-.2.8-.8 1.3-1.6 1.3H6.5M6.5 9v7.3M6.5 9H4v7.3h2.5";
const DOWN = "M13.5 11 10.4 16.8c-1.1 0-1.9-.9-1.7-2l.5-2.9H5.3c-1 0-1.7-.9-1.5-1.9l1-5c.2-.8.8-1.3 1.6-1.3h7.1M13.5 11V3.7M13.5 11H16V3.7h-2.5";

export const { language, words } = wordsFor(navigator.languages ?? [navigator.language ?? "en"]);

export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "on") element.addEventListener("click", value);
    else if (name in element && name !== "list") element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

function icon(path) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  for (const [name, value] of [["viewBox", "0 0 20 20"], ["width", "18"], ["height", "18"], ["aria-hidden", "true"]]) {
    svg.setAttribute(name, value);
  }
  const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
  line.setAttribute("d", path);
  svg.append(line);
  return svg;
}

/** The address if following it is safe: our own pages and https pages. */
function safe(address) {
  try {
    const url = new URL(address, location.href);
    return url.origin === location.origin || url.protocol === "https:" ? url.href : null;
  } catch {
    return null;
  }
}

export const languageOf = (text) => (/[\u3400-\u9fff]/.test(text) ? "zh" : "en");

export function customerLine(text) {
  const said = make("p", { className: "text", lang: languageOf(text), textContent: text });
  return make("div", { className: "said customer" }, make("span", { className: "unseen", textContent: `${words.you}: ` }), said);
}

export function otherLine(speaker, name = "") {
  const face =
    speaker === "agent"
      ? make("span", { className: "face", textContent: name.slice(0, 1) || "★", ariaHidden: "true" })
      : make("img", { className: "face", src: document.querySelector(".mark").src, alt: "" });
  const who = name
    ? make("p", { className: "name", textContent: name })
    : make("span", { className: "unseen", textContent: `${words[speaker]}: ` });
  const body = make("div", { className: "body" }, who);
  return { line: make("div", { className: `said ${speaker}` }, face, body), body };
}

/** An answer on its way: dots, then the text as it comes, then the whole turn. */
export class Answer {
  constructor() {
    const { line, body } = otherLine("bot");
    this.line = line;
    this.body = body;
    this.text = make("div", { className: "text" });
    this.dots = make("div", { className: "typing" }, make("i"), make("i"), make("i"));
    this.dots.append(make("span", { className: "unseen", textContent: words.writing }));
    body.append(this.dots);
  }

  add(chunk) {
    this.dots.remove();
    if (!this.text.isConnected) this.body.append(this.text);
    this.text.append(chunk);
  }

  /** Another attempt: what came of the one before no longer counts. */
  restart() {
    this.text.replaceChildren();
  }

  finish(turn, act) {
    this.dots.remove();
    this.line.dataset.turn = turn.id;
    this.line.dataset.status = turn.status;
    this.text.lang = languageOf(turn.text);
    this.text.replaceChildren(...setOut(spoken(turn), turn, act));
    this.body.append(this.text);
    if (turn.citations.length) this.body.append(sources(turn, act));
    if (JUDGED.has(turn.status)) this.body.append(verdict(turn, act));
    if (turn.suggestions.length) this.line.append(next(turn, act));
  }

  fail(act) {
    this.dots.remove();
    this.text.remove();
    const again = make("button", { type: "button", textContent: words.again, on: act });
    this.body.append(make("div", { className: "failed" }, make("span", { textContent: words.noAnswer }), again));
  }
}

/** The text without the numbered options that the buttons below show anyway. */
function spoken(turn) {
  if (turn.status !== "clarified") return turn.text;
  const lines = turn.text.split("\n").filter((line) => !turn.suggestions.includes(line.replace(/^\d+\. /, "")));
  return lines.join("\n").trim() || turn.text;
}

/** The text set out: paragraphs, lists of "- " or "1. " lines, and tables of " | " lines. */
function setOut(text, turn, act) {
  const marked = (line) => withMarks(line, turn, act);
  const shapes = {
    p: (lines) => make("p", {}, ...marked(lines.join("\n"))),
    ul: (lines) => make("ul", {}, ...lines.map((line) => make("li", {}, ...marked(line.slice(2))))),
    ol: (lines) => {
      const items = lines.map((line) => make("li", {}, ...marked(line.replace(/^\d+\. /, ""))));
      return make("ol", { start: parseInt(lines[0], 10) }, ...items);
    },
    table: (lines) => {
      if (lines.length === 1) return shapes.p(lines);
      const row = (line, cell) => make("tr", {}, ...line.split(" | ").map((part) => make(cell, {}, ...marked(part))));
      const [head, ...rest] = lines;
      const body = make("tbody", {}, ...rest.map((line) => row(line, "td")));
      return make("table", {}, make("thead", {}, row(head, "th")), body);
    },
  };
  const kind = (line) => (/^- /.test(line) ? "ul" : /^\d{1,3}\. /.test(line) ? "ol" : line.includes(" | ") ? "table" : "p");
  const found = [];
  for (const block of text.split(/\n{2,}/)) {
    let group = null;
    for (const line of block.split("\n")) {
      if (group?.kind !== kind(line)) found.push((group = { kind: kind(line), lines: [] }));
      group.lines.push(line);
    }
  }
  return found.map((group) => shapes[group.kind](group.lines));
}

/** The text with its marks like [1] as links to the sources they number. */
function withMarks(text, turn, act) {
  return text.split(/( ?\[\d{1,2}\])/).map((piece) => {
    const number = /^ ?\[(\d{1,2})\]$/.exec(piece)?.[1];
    const citation = number && turn.citations[number - 1];
    const href = citation && safe(citation.url);
    if (!href) return piece;
    const link = make("a", { className: "ref", href, target: "_blank", rel: "noopener", textContent: number });
    link.setAttribute("aria-label", `${words.source} ${number}: ${citation.title} (${words.newTab})`);
    link.addEventListener("click", () => act.opened(turn, citation));
    return link;
  });
}

function sources(turn, act) {
  const list = make("ul", { className: "sources", ariaLabel: words.sources });
  turn.citations.forEach((citation, index) => {
    const href = safe(citation.url);
    if (!href) return;
    const link = make(
      "a",
      { href, target: "_blank", rel: "noopener", title: citation.quote },
      make("span", { className: "number", textContent: String(index + 1) }),
      make("span", { className: "title", lang: languageOf(citation.title), textContent: citation.title }),
      make("span", { className: "unseen", textContent: ` (${words.newTab})` }),
    );
    link.addEventListener("click", () => act.opened(turn, citation));
    list.append(make("li", {}, link));
  });
  return list;
}

function verdict(turn, act) {
  const row = make("div", { className: "verdict" });
  const note = make("span", { className: "note", role: "status" });
  const button = (path, label) => {
    const made = make("button", { type: "button", ariaLabel: label, title: label }, icon(path));
    made.setAttribute("aria-pressed", "false");
    return made;
  };
  const up = button(UP, words.up);
  const down = button(DOWN, words.down);
  let why = null;
  const give = async (chosen, verdict) => {
    for (const one of [up, down]) one.setAttribute("aria-pressed", String(one === chosen));
    why?.remove();
    note.textContent = (await act.judged(turn, verdict)) ? words.thanks : words.failed;
  };
  up.addEventListener("click", () => give(up, { verdict: "up" }));
  down.addEventListener("click", async () => {
    await give(down, { verdict: "down" });
    note.textContent = "";
    why = reasons((reason, comment) => give(down, { verdict: "down", reason, comment }));
    row.after(why);
    why.querySelector("button").focus();
    act.grown(why);
  });
  row.append(up, down, note);
  return row;
}

function reasons(send) {
  let chosen = "";
  const pills = Object.entries(words.reasons).map(([reason, label]) => {
    const pill = make("button", { type: "button", className: "pill", textContent: label });
    pill.setAttribute("aria-pressed", "false");
    pill.addEventListener("click", () => {
      chosen = chosen === reason ? "" : reason;
      for (const one of pills) one.setAttribute("aria-pressed", String(one === pill && chosen !== ""));
    });
    return pill;
  });
  const comment = make("textarea", { rows: 2, maxLength: 1000, placeholder: words.comment, ariaLabel: words.comment });
  const done = make("button", { type: "button", className: "pill strong", textContent: words.sendFeedback });
  done.addEventListener("click", () => send(chosen, comment.value.trim()));
  return make(
    "fieldset",
    { className: "reasons" },
    make("legend", { textContent: words.why }),
    make("div", { className: "row" }, ...pills),
    comment,
    done,
  );
}

function next(turn, act) {
  const options = turn.status === "clarified";
  const row = make("div", { className: options ? "next options" : "next", role: "group" });
  row.dataset.full = turn.text;
  row.ariaLabel = options ? words.options : words.suggestions;
  for (const suggestion of turn.suggestions) {
    const pill = make("button", { type: "button", className: "pill", lang: languageOf(suggestion), textContent: suggestion });
    pill.addEventListener("click", () => act.chose(turn, suggestion));
    row.append(pill);
  }
  return row;
}
