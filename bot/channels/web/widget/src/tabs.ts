// Several tabs of one site: one of them holds the connection and tells the others, because browsers allow few.
// Where the browser has no locks (pages without https), every visible tab listens for itself.

import { bare } from "./bare";

export class Tabs<Note extends object> {
  #channel: BroadcastChannel | null = null;
  #abort: AbortController | null = null;
  #release: (() => void) | null = null;
  leading = false;

  constructor(
    private readonly name: string,
    hear: (note: Note) => void,
    private readonly lead: (leading: boolean) => void,
  ) {
    if (typeof BroadcastChannel !== "undefined") {
      this.#channel = new BroadcastChannel(name);
      this.#channel.onmessage = (event: MessageEvent<Note>) => {
        if (typeof event.data === "object" && event.data !== null) hear(bare(event.data));
      };
    }
  }

  tell(note: Note): void {
    this.#channel?.postMessage(note);
  }

  /** Ask for the lead, or give it up. It comes when no other tab has it. */
  want(wanted: boolean): void {
    if (!wanted) {
      this.#abort?.abort();
      this.#abort = null;
      this.#release?.();
      this.#set(false);
      return;
    }
    if (this.#abort) return;
    const abort = (this.#abort = new AbortController());
    if (!this.#channel || typeof navigator.locks === "undefined") return this.#set(true);
    navigator.locks
      .request(this.name, bare({ signal: abort.signal }), () => {
        if (abort.signal.aborted) return undefined;
        this.#set(true);
        return new Promise<void>((resolve) => (this.#release = resolve));
      })
      .catch(() => {
        // aborted while waiting is what was asked for; where locks are refused everybody listens
        if (!abort.signal.aborted) this.#set(true);
      });
  }

  close(): void {
    this.want(false);
    this.#channel?.close();
    this.#channel = null;
  }

  #set(leading: boolean): void {
    if (this.leading === leading) return;
    this.leading = leading;
    this.lead(leading);
  }
}
