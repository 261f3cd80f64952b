// The chat page: shows a conversation and sends what is typed. All text goes through textContent.

import { Answer, customerLine, language, languageOf, make, otherLine, words } from "./message.js";
import { Conversation, Store } from "./stream.js";

const LONGEST = 4000;
const COUNT_FROM = 3600;
const ASLEEP_AFTER = 60_000;

const at = (id) => document.getElementById(id);

function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

class Page {
  #log = at("log");
  #scroll = at("scroll");
  #text = at("text");
  #waiting = []; // messages without their turn, oldest first: {id, text, line, answer}
  #shown = new Set(); // ids of turns and agents' messages on the page
  #asleep = 0;

  constructor() {
    this.conversation = new Conversation(new Store(), {
      event: (name, data) => this.#event(name, data),
      record: (said) => this.#show(said),
      lively: () => this.#waiting.length > 0 || ["waiting", "person"].includes(document.body.dataset.status),
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
      this.#drop(entry);
      entry.answer.line.remove();
      const again = make("button", { type: "button", textContent: words.again });
      console.warn("Frontdesk:", error); // the service's own words are not for customers
      const failed = make("div", { className: "failed", role: "alert" }, make("span", { textContent: words.failed }), again);
      again.addEventListener("click", () => {
        failed.remove();
        this.#again(entry);
      });
      entry.line.append(failed);
      this.#strip("");
      this.#down();
    }
  }

  /** Send again what could not be sent, or was not answered. */
  async #again(entry) {
    entry.answer.line.remove();
    entry.answer = new Answer();
    entry.line.after(entry.answer.line);
    this.#waiting.push(entry);
    this.#busy();
    await this.#send(entry);
    // it may have been answered meanwhile, and then nothing more is told of it
    if (this.#waiting.includes(entry)) this.#restore();
  }

  /** No turn comes to this message for now: the next one is another's. */
  #drop(entry) {
    this.#waiting = this.#waiting.filter((one) => one !== entry);
    this.#busy();
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
      if (data.restart) entry?.answer.restart();
      entry?.answer.add(data.text);
    } else if (name === "turn") {
      this.#turn(data);
    } else if (name === "status") {
      this.#status(data.status, data.name);
    } else if (name === "agent_message") {
      if (this.#shown.has(data.id)) return;
      this.#shown.add(data.id);
      at("welcome").classList.add("small");
      const { line, body } = otherLine("agent", data.name);
      body.append(make("p", { className: "text", lang: languageOf(data.text), textContent: data.text }));
      this.#log.append(line);
      at("speech").textContent = `${data.name || words.agent}: ${data.text}`;
    } else if (name === "error") {
      const entry = this.#waiting.find((one) => one.id === data.message_id);
      if (!entry) return;
      this.#drop(entry);
      entry.answer.fail(() => this.#again(entry));
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
    this.#busy();
    if (turn.status === "waiting" && !turn.text) {
      // a person has the conversation and answers here
      entry.answer.line.remove();
      return;
    }
    entry.answer.finish(turn, this.act);
    at("speech").textContent = `${words.bot}: ${turn.text}`;
  }

  async #restore() {
    this.conversation.sleep();
    const said = await this.conversation.resume();
    if (!said && this.conversation.exists) return; // the line is away: what is shown stays
    this.#show(said);
  }

  /** The whole conversation anew, as the record has it. */
  #show(said) {
    const unsent = this.#waiting.filter((entry) => !said?.messages.some((message) => message.id === entry.id));
    this.#clear();
    if (!said || !said.messages.length) return this.#status(said?.status ?? "open", said?.name);
    for (const message of said.messages) {
      if (message.from === "customer") this.#expect(message.id, message.text);
      else if (message.turn) this.#turn(message.turn);
      else this.#event("agent_message", message);
    }
    for (const entry of unsent) {
      this.#waiting.push(entry);
      this.#log.append(entry.line, entry.answer.line);
    }
    this.#busy();
    at("speech").textContent = "";
    this.#status(said.status, said.name);
    this.#down(true);
  }

  #clear() {
    this.#log.replaceChildren();
    this.#waiting = [];
    this.#shown.clear();
    at("welcome").classList.remove("small");
    this.#busy();
  }

  #status(status, name = "") {
    document.body.dataset.status = status;
    const person = name ? words.withNamed(name) : words.withPerson;
    const said = { waiting: words.waiting, person, resolved: words.resolved }[status] ?? "";
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
