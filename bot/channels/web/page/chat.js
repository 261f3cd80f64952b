// The chat page: shows a conversation and sends what is typed. All text goes through textContent.

import { Conversation, Refused, Store } from "./stream.js";
import { wordsFor } from "./words.js";

const LONGEST = 4000;
const COUNT_FROM = 3600;
const ASLEEP_AFTER = 60_000;
const JUDGED = new Set(["approved", "grounded", "clarified", "not_known"]);
const UP = "M6.5 9 9.6 3.2c1.1 0 1.9.9 1.7 2l-.5 2.9h3.9c1 0 1.7.9 1.5 1.9l-1 5c-.2.8-.8 1.3-1.6 1.3H6.5M6.5 9v7.3M6.5 9H4v7.3h2.5";
const DOWN = "M13.5 11 10.4 16.8c-1.1 0-1.9-.9-1.7-2l.5-2.9H5.3c-1 0-1.7-.9-1.5-1.9l1-5c.2-.8.8-1.3 1.6-1.3h7.1M13.5 11V3.7M13.5 11H16V3.7h-2.5";

const at = (id) => document.getElementById(id);
const { language, words } = wordsFor(navigator.languages ?? [navigator.language ?? "en"]);

function make(tag, properties = {}, ...children) {
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

function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

const languageOf = (text) => (/[\u3400-\u9fff]/.test(text) ? "zh" : "en");

// -- one message on the page ---------------------------------------------------------------------------------------

function customerLine(text) {
  const said = make("p", { className: "text", lang: languageOf(text), textContent: text });
  return make("div", { className: "said customer" }, make("span", { className: "unseen", textContent: `${words.you}: ` }), said);
}

function otherLine(speaker) {
  const face =
    speaker === "agent"
      ? make("span", { className: "face", textContent: "★", ariaHidden: "true" })
      : make("img", { className: "face", src: document.querySelector(".mark").src, alt: "" });
  const body = make("div", { className: "body" }, make("span", { className: "unseen", textContent: `${words[speaker]}: ` }));
  return { line: make("div", { className: `said ${speaker}` }, face, body), body };
}

/** An answer on its way: dots, then the text as it comes, then the whole turn. */
class Answer {
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

// -- the page ------------------------------------------------------------------------------------------------------

class Page {
  #log = at("log");
  #scroll = at("scroll");
  #text = at("text");
  #waiting = []; // messages without their turn, oldest first: {id, text, line, answer}
  #shown = new Set(); // ids of turns on the page
  #asleep = 0;

  constructor() {
    this.conversation = new Conversation(new Store(), {
      event: (name, data) => this.#event(name, data),
      connection: (state) => this.#connection(state),
      busy: () => this.#strip(words.busy),
    });
    this.act = {
      opened: (turn, citation) => this.conversation.click(turn.id, { citation: citation.url }),
      chose: (turn, suggestion) => {
        this.conversation.click(turn.id, { suggestion });
        this.say(suggestion);
      },
      judged: (turn, verdict) => this.conversation.feedback(turn.id, verdict).then(() => true, () => false),
      grown: (element) => element.scrollIntoView({ block: "nearest" }),
    };
  }

  async start() {
    this.#speak();
    this.#listen();
    this.#starters();
    await this.#restore();
    document.body.dataset.ready = "true";
    if (matchMedia("(hover: hover)").matches) this.#text.focus();
  }

  /** Show what the customer writes at once, and send it. */
  async say(text) {
    const entry = this.#expect(newId(), text);
    this.#down(true);
    await this.#send(entry);
  }

  async #send(entry) {
    entry.line.classList.add("unsent");
    try {
      await this.conversation.send({ id: entry.id, text: entry.text });
      entry.line.classList.remove("unsent");
      if (document.body.dataset.status === "resolved") this.#status("open");
    } catch (error) {
      entry.answer.line.remove();
      const again = make("button", { type: "button", textContent: words.again });
      const said = error instanceof Refused && !error.passing ? error.message : words.failed;
      const failed = make("div", { className: "failed", role: "alert" }, make("span", { textContent: said }), again);
      again.addEventListener("click", () => {
        failed.remove();
        entry.answer = new Answer();
        entry.line.after(entry.answer.line);
        this.#send(entry);
      });
      entry.line.append(failed);
      this.#strip("");
      this.#down();
    }
  }

  #expect(id, text) {
    at("welcome").classList.add("small");
    for (const old of this.#log.querySelectorAll(".next")) {
      // options that can no longer be chosen are still part of what was said
      if (old.matches(".options")) old.parentElement.querySelector(".text").textContent = old.dataset.full;
      old.remove();
    }
    const entry = { id, text, line: customerLine(text), answer: new Answer() };
    this.#waiting.push(entry);
    this.#log.append(entry.line, entry.answer.line);
    this.#busy();
    return entry;
  }

  #event(name, data) {
    if (name === "token") {
      const entry = this.#waiting.find((one) => one.id === data.message_id);
      entry?.answer.add(data.text);
    } else if (name === "turn") {
      this.#turn(data);
    } else if (name === "status") {
      this.#status(data.status);
    } else if (name === "agent_message") {
      const { line, body } = otherLine("agent");
      body.append(make("p", { className: "text", lang: languageOf(data.text), textContent: data.text }));
      this.#log.append(line);
      at("speech").textContent = `${words.agent}: ${data.text}`;
    } else if (name === "error") {
      const entry = this.#waiting.find((one) => one.id === data.message_id);
      entry?.answer.fail(() => {
        entry.answer.line.replaceWith((entry.answer = new Answer()).line);
        this.#send(entry);
      });
    }
    this.#down();
  }

  #turn(turn) {
    if (this.#shown.has(turn.id)) return;
    const entry = this.#waiting.shift();
    if (!entry) {
      // another tab asked: show the whole conversation anew
      this.#restore();
      return;
    }
    this.#shown.add(turn.id);
    entry.line.classList.remove("unsent");
    entry.answer.finish(turn, this.act);
    this.#busy();
    at("speech").textContent = `${words.bot}: ${turn.text}`;
  }

  async #restore() {
    this.conversation.sleep();
    const said = await this.conversation.resume();
    this.#clear();
    if (!said || !said.messages.length) return this.#status(said?.status ?? "open");
    for (const message of said.messages) {
      if (message.from === "customer") this.#expect(message.id, message.text);
      else if (message.turn) this.#turn(message.turn);
      else this.#event("agent_message", message);
    }
    at("speech").textContent = "";
    this.#status(said.status);
    this.#down(true);
  }

  #clear() {
    this.#log.replaceChildren();
    this.#waiting = [];
    this.#shown.clear();
    at("welcome").classList.remove("small");
    this.#busy();
  }

  #status(status) {
    document.body.dataset.status = status;
    const said = { waiting: words.waiting, person: words.withPerson, resolved: words.resolved }[status] ?? "";
    const state = at("state");
    state.textContent = said;
    state.hidden = !said;
    state.classList.toggle("strong", status === "waiting" || status === "person");
    at("person").hidden = status === "waiting" || status === "person";
    at("end").disabled = at("forget").disabled = !this.conversation.exists;
    if (said) at("speech").textContent = said;
  }

  #busy() {
    this.#log.setAttribute("aria-busy", String(this.#waiting.length > 0));
  }

  #connection(state) {
    document.body.classList.toggle("lost", state === "lost");
    this.#strip(state === "lost" ? words.offline : "");
  }

  #strip(text) {
    const strip = at("strip");
    strip.textContent = text;
    strip.hidden = !text;
  }

  // Stay at the end only for readers who are there; others get a button.
  #down(always = false) {
    const place = this.#scroll;
    const last = this.#waiting.at(-1)?.answer.line ?? this.#log.lastElementChild;
    const near = place.scrollHeight - place.scrollTop - place.clientHeight < 160 + (last?.offsetHeight ?? 0);
    if (always || near) place.scrollTop = place.scrollHeight;
    at("newest").hidden = always || near;
  }

  // -- the furniture --

  #speak() {
    document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
    for (const element of document.querySelectorAll("[data-word]")) element.textContent = words[element.dataset.word];
    for (const element of document.querySelectorAll("[data-label]")) element.ariaLabel = words[element.dataset.label];
    this.#text.placeholder = words.placeholder;
  }

  #starters() {
    const all = JSON.parse(document.documentElement.dataset.starters || "{}");
    for (const starter of all[language] ?? []) {
      const button = make("button", { type: "button", textContent: starter });
      button.addEventListener("click", () => this.say(starter));
      at("starters").append(button);
    }
  }

  #listen() {
    at("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#text.addEventListener("keydown", (event) => {
      // Enter that ends a Chinese or Japanese composition is not a wish to send
      if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
      event.preventDefault();
      this.#submit();
    });
    this.#text.addEventListener("input", () => this.#typed());
    this.#scroll.addEventListener("scroll", () => {
      const place = this.#scroll;
      if (place.scrollHeight - place.scrollTop - place.clientHeight < 40) at("newest").hidden = true;
    });
    at("newest").addEventListener("click", () => this.#down(true));
    at("person").addEventListener("click", () => this.#person());
    at("fresh").addEventListener("click", () => this.#fresh());
    at("end").addEventListener("click", () => this.#end());
    at("forget").addEventListener("click", () => this.#forget());
    this.#menu();
    document.addEventListener("visibilitychange", () => this.#visibility());
    addEventListener("online", () => this.conversation.wake());
  }

  #submit() {
    const text = this.#text.value.trim();
    if (!text || [...text].length > LONGEST) return;
    this.#text.value = "";
    this.#typed();
    this.say(text);
  }

  #typed() {
    const text = this.#text;
    const length = [...text.value.trim()].length;
    at("send").disabled = length === 0 || length > LONGEST;
    const count = at("count");
    count.hidden = length < COUNT_FROM;
    count.textContent = words.left(LONGEST - length);
    count.classList.toggle("over", length > LONGEST);
    if (!CSS.supports("field-sizing", "content")) {
      text.style.height = "auto";
      text.style.height = `${text.scrollHeight}px`;
    }
  }

  async #person() {
    try {
      const { status } = await this.conversation.askForPerson();
      at("welcome").classList.add("small");
      this.#status(status);
      this.#down(true);
      this.#text.focus();
    } catch {
      this.#strip(words.failed);
    }
  }

  #fresh() {
    this.conversation.leave();
    this.#clear();
    this.#status("open");
    this.#text.focus();
  }

  async #end() {
    try {
      await this.conversation.end();
      this.#status("resolved");
      this.#rating();
    } catch {
      this.#strip(words.failed);
    }
  }

  #rating() {
    const stars = [1, 2, 3, 4, 5].map((number) => make("button", { type: "button", textContent: "★", ariaLabel: words.stars(number) }));
    const card = make("div", { className: "rating", role: "group", ariaLabel: words.rate }, make("p", { textContent: words.rate }));
    stars.forEach((star, index) =>
      star.addEventListener("click", async () => {
        stars.forEach((one, place) => one.classList.toggle("lit", place <= index));
        const kept = await this.conversation.rate(index + 1).then(() => true, () => false);
        card.replaceChildren(make("p", { textContent: kept ? words.rated : words.failed, role: "status" }));
      }),
    );
    card.append(make("div", { className: "stars" }, ...stars));
    this.#log.append(card);
    this.#down(true);
    stars[4].focus();
  }

  #forget() {
    const state = at("state");
    const put = (...children) => {
      state.replaceChildren(...children);
      state.hidden = false;
      state.classList.add("strong");
      this.#down(true);
    };
    const yes = make("button", { type: "button", className: "pill danger", textContent: words.yesDelete });
    const no = make("button", { type: "button", className: "pill", textContent: words.keep });
    yes.addEventListener("click", async () => {
      try {
        await this.conversation.forget();
        this.#fresh();
        put(words.forgotten);
      } catch {
        put(words.failed);
      }
    });
    no.addEventListener("click", () => this.#status(document.body.dataset.status));
    put(make("span", { className: "ask" }, words.forgetSure, yes, no));
    no.focus();
  }

  #menu() {
    const button = at("menu-button");
    const menu = at("menu");
    const show = (open) => {
      menu.hidden = !open;
      button.ariaExpanded = String(open);
      at("end").disabled = at("forget").disabled = !this.conversation.exists;
    };
    button.addEventListener("click", () => show(menu.hidden));
    menu.addEventListener("click", () => show(false));
    document.addEventListener("click", (event) => {
      if (!event.target.closest(".menu")) show(false);
    });
    document.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || menu.hidden) return;
      show(false);
      button.focus();
    });
  }

  #visibility() {
    clearTimeout(this.#asleep);
    if (document.visibilityState === "visible") this.conversation.wake();
    else {
      this.#asleep = setTimeout(() => {
        if (!this.#waiting.length) this.conversation.sleep();
      }, ASLEEP_AFTER);
    }
  }
}

new Page().start();
