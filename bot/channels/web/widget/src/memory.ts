// What the widget remembers between pages: one record a site in localStorage, or in this page where storage is forbidden.
// The page's own storage, because third-party storage is blocked; no cookie.

import { bare, parse } from "./bare";
import type { Status } from "./protocol";

export interface Unsent {
  id: string;
  text: string;
  at: string;
}

export interface Kept {
  /** The conversation that is open, and the token that opens it and nothing else. */
  id?: string;
  token?: string;
  status?: Status;
  /** The last line that was read. */
  seen?: string;
  unread?: number;
  rated?: boolean;
  /** Whose all of this is: the subject of the identity that the page named last. */
  who?: string;
  /** Whether the service was told so when the conversation was opened. */
  vouched?: boolean;
  /** Another token of the same visitor, from a conversation that was left. */
  visitor?: string;
  details?: { name?: string; email?: string };
  outbox?: Unsent[];
}

export class Memory {
  #text: string | null = null;
  #place: Storage | null = null;

  constructor(private readonly key: string) {
    try {
      const place = window.localStorage;
      place.setItem("frontdesk.probe", "1");
      place.removeItem("frontdesk.probe");
      this.#place = place;
    } catch {
      // forbidden or full: things last as long as the page
    }
  }

  /** Whether other tabs and later pages see what is kept. */
  get lasting(): boolean {
    return this.#place !== null;
  }

  read(): Kept {
    try {
      this.#text = this.#place?.getItem(this.key) ?? (this.#place ? null : this.#text);
    } catch {
      this.#place = null;
    }
    const kept = parse<Kept>(this.#text);
    return kept && typeof kept === "object" ? kept : bare({});
  }

  /** Change some of it; undefined removes. */
  keep(changes: Kept): Kept {
    const kept = Object.assign(this.read(), changes);
    this.#text = JSON.stringify(kept);
    try {
      this.#place?.setItem(this.key, this.#text);
    } catch {
      // full: the page still knows
    }
    return kept;
  }

  clear(): void {
    this.#text = null;
    try {
      this.#place?.removeItem(this.key);
    } catch {
      // nothing was kept there
    }
  }
}
