// The page's side of the HTTP contract: one conversation, its messages out and its events in.
// Knows nothing of the page. Every message has an id of its own, so sending it again can never say it twice.

const API = "/api/v1";
const KEY = "frontdesk.conversation";
const LONGEST_PAUSE = 20_000;
const PATIENCE = 30_000; // for an answer of the service: some lines swallow what they are given
const SILENT_FOR = 40_000; // it sends a sign of life on a stream every 15 seconds

/** Small storage that works where browsers forbid it: then things last as long as the page. */
export class Store {
  #memory = new Map();

  #place() {
    for (const name of ["localStorage", "sessionStorage"]) {
      try {
        window[name].setItem("frontdesk.probe", "1");
        window[name].removeItem("frontdesk.probe");
        return window[name];
      } catch {
        // forbidden or full: the next one
      }
    }
    return null;
  }

  get(key) {
    const text = this.#place()?.getItem(key) ?? this.#memory.get(key) ?? null;
    try {
      return text === null ? null : JSON.parse(text);
    } catch {
      return null;
    }
  }

  set(key, value) {
    const text = JSON.stringify(value);
    this.#memory.set(key, text);
    this.#place()?.setItem(key, text);
  }

  remove(key) {
    this.#memory.delete(key);
    this.#place()?.removeItem(key);
  }
}

/** A request that was refused, with the service's own words. */
export class Refused extends Error {
  constructor(status, problem) {
    super(problem?.detail ?? `HTTP ${status}`);
    this.status = status;
  }

  get passing() {
    return this.status === 429 || this.status >= 500;
  }
}

/** Server-sent events of a response body, as {id, event, data}; `alive` is called whenever anything comes. */
export async function* eventsOf(body, alive) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let event = { id: null, event: "message", data: [] };
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    alive();
    // a lone CR at the end may be half of a CR LF
    const text = rest + value;
    const end = text.endsWith("\r") ? text.length - 1 : text.length;
    const lines = text.slice(0, end).split(/\r\n|\n|\r/);
    rest = lines.pop() + text.slice(end);
    for (const line of lines) {
      if (line === "") {
        if (event.data.length) yield { ...event, data: JSON.parse(event.data.join("\n")) };
        event = { id: null, event: "message", data: [] };
        continue;
      }
      const [, field, value_] = /^([^:]*):? ?(.*)$/.exec(line);
      if (field === "data") event.data.push(value_);
      else if (field === "id") event.id = value_;
      else if (field === "event") event.event = value_;
    }
  }
}

export class Conversation {
  #store;
  #listener;
  #known;
  #last = 0;
  #following = null;
  #before = Promise.resolve(); // what was asked of the service last
  #pauses = new Set(); // what ends each pause that runs

  /** `listener` has event(name, data), record(said), lively(), connection("lost" | "back"), busy(). */
  constructor(store, listener) {
    this.#store = store;
    this.#listener = listener;
    this.#known = store.get(KEY);
  }

  get exists() {
    return this.#known !== null;
  }

  /** Everything said before, or null when there was nothing or it is gone. Then events follow. */
  async resume() {
    if (!this.exists) return null;
    try {
      const said = await this.#persist(() => this.#call("GET", this.#path()));
      this.#last = said.last_event_id;
      this.#follow();
      return said;
    } catch (error) {
      if (error instanceof Refused && [401, 404].includes(error.status)) this.leave();
      else this.#follow(); // what was said comes as events, once the line is back
      return null;
    }
  }

  /** Send a message; resolves once the service has stored it. The answer comes as events. */
  send(message) {
    return this.#inOrder(async () => {
      try {
        await this.#persist(async () => {
          await this.#open();
          await this.#call("POST", `${this.#path()}/messages`, message);
        });
      } catch (error) {
        if (!(error instanceof Refused) || ![401, 404].includes(error.status)) throw error;
        // forgotten on the other side: what was written is still worth an answer
        this.leave();
        await this.#open();
        await this.#call("POST", `${this.#path()}/messages`, message);
      }
    });
  }

  askForPerson() {
    return this.#inOrder(async () => {
      await this.#persist(() => this.#open());
      return this.#call("POST", `${this.#path()}/handover`, {});
    });
  }

  end() {
    return this.#call("POST", `${this.#path()}/end`, {});
  }

  rate(stars) {
    return this.#call("POST", `${this.#path()}/rating`, { stars });
  }

  feedback(turn, verdict) {
    return this.#call("POST", `${API}/turns/${turn}/feedback`, verdict);
  }

  click(turn, what) {
    // a click is not worth an error message
    return this.#call("POST", `${API}/turns/${turn}/click`, what, { keepalive: true }).catch(() => {});
  }

  async forget() {
    await this.#call("DELETE", this.#path());
    this.leave();
  }

  /** Stop listening and let go of the conversation on this side. */
  leave() {
    this.#following?.abort();
    this.#following = null;
    this.#known = null;
    this.#last = 0;
    this.#store.remove(KEY);
  }

  /** Stop listening for now, to leave the browser's few connections to other tabs. */
  sleep() {
    this.#following?.abort();
    this.#following = null;
  }

  /** The network is back, or somebody looks: do not wait any longer. */
  wake() {
    if (this.exists && !this.#following) this.#follow();
    for (const end of this.#pauses) end();
  }

  #pause(ms) {
    return new Promise((resolve) => {
      const end = () => {
        clearTimeout(timer);
        this.#pauses.delete(end);
        resolve();
      };
      const timer = setTimeout(end, ms);
      this.#pauses.add(end);
    });
  }

  /** One after the other: messages arrive as they were written, and two at once do not open two conversations. */
  #inOrder(act) {
    const done = this.#before.then(act);
    this.#before = done.catch(() => {});
    return done;
  }

  #path() {
    return `${API}/conversations/${this.#known.id}`;
  }

  async #open() {
    if (!this.exists) {
      const opened = await this.#call("POST", `${API}/conversations`, {});
      this.#known = { id: opened.conversation_id, token: opened.token };
      this.#store.set(KEY, this.#known);
    }
    if (!this.#following) this.#follow();
  }

  async #call(method, path, body, options = {}) {
    const headers = {};
    if (this.#known) headers.Authorization = `Bearer ${this.#known.token}`;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    const abort = new AbortController();
    const timer = setTimeout(() => abort.abort(), PATIENCE);
    try {
      const response = await fetch(path, {
        method,
        headers,
        body: body === undefined ? undefined : JSON.stringify(body),
        credentials: "omit",
        signal: abort.signal,
        ...options,
      });
      if (!response.ok) throw new Refused(response.status, await response.json().catch(() => null));
      return response.status === 204 ? null : await response.json();
    } finally {
      clearTimeout(timer);
    }
  }

  /** Try again while the network or the service is briefly away. */
  async #persist(act) {
    for (let attempt = 0; ; attempt++) {
      try {
        return await act();
      } catch (error) {
        const passing = error instanceof Refused ? error.passing : true;
        if (!passing || attempt === 4) throw error;
        if (error instanceof Refused) this.#listener.busy();
        else this.#listener.connection("lost");
        await this.#pause(Math.random() * Math.min(LONGEST_PAUSE, 600 * 2 ** attempt));
      }
    }
  }

  async #follow() {
    this.#following?.abort(); // one stream, or each word would be heard twice
    const abort = new AbortController();
    this.#following = abort;
    let failures = 0;
    while (!abort.signal.aborted) {
      let refused = false;
      const line = new AbortController();
      const stop = () => line.abort();
      abort.signal.addEventListener("abort", stop);
      let silence = setTimeout(stop, SILENT_FOR);
      const alive = () => {
        clearTimeout(silence);
        silence = setTimeout(stop, SILENT_FOR);
      };
      try {
        const response = await fetch(`${this.#path()}/events`, {
          headers: {
            Authorization: `Bearer ${this.#known.token}`,
            Accept: "text/event-stream",
            "Last-Event-ID": String(this.#last),
          },
          credentials: "omit",
          signal: line.signal,
        });
        if (!response.ok) throw new Refused(response.status, null);
        this.#listener.connection("back");
        failures = 0;
        for await (const { id, event, data } of eventsOf(response.body, alive)) {
          if (abort.signal.aborted) return;
          if (id !== null) this.#last = Number(id);
          this.#listener.event(event, data);
        }
      } catch (error) {
        if (abort.signal.aborted) return;
        if (error instanceof Refused && [401, 404].includes(error.status)) return;
        refused = error instanceof Refused && error.passing;
      } finally {
        clearTimeout(silence);
        abort.signal.removeEventListener("abort", stop);
      }
      // there is no place for one more stream; what the service is asked it still answers
      const polled = refused && (await this.#poll());
      if (abort.signal.aborted) return;
      if (polled) {
        this.#listener.connection("back");
        await this.#pause(this.#listener.lively() ? 1_200 : 5_000);
        continue;
      }
      // the first break is usually a restart or a proxy: say nothing unless it lasts
      if (failures > 0) this.#listener.connection("lost");
      await this.#pause(300 + Math.random() * Math.min(LONGEST_PAUSE, 400 * 2 ** failures));
      failures += 1;
    }
  }

  /** Whether the service told what was said; anything new is handed on. */
  async #poll() {
    const known = this.#known;
    const said = await this.#call("GET", this.#path()).catch(() => null);
    if (said && known === this.#known && said.last_event_id > this.#last) {
      this.#last = said.last_event_id;
      this.#listener.record(said);
    }
    return said !== null;
  }
}
