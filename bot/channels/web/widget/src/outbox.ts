// What the customer wrote and the service has not got yet: sent in order, each until it is there, under one id for good,
// so that no message is said twice. Survives the page; knows nothing of how the conversation looks.

import type { Kept, Memory, Unsent } from "./memory";
import { isGone, Refused } from "./server";

export interface Postman {
  /** Sends one message; opens a conversation first where there is none. */
  deliver(message: Unsent): Promise<void>;
  /** The conversation is gone: the next delivery opens another. */
  lost(): void;
  sent(message: Unsent): void;
  /** Not yet, for want of a connection or because the service is busy. */
  delayed(message: Unsent, why: "offline" | "busy"): void;
  failed(message: Unsent, problem: Refused): void;
}

const LONGEST_PAUSE = 15_000;
const BUSY_TRIES = 6;
const STALE_AFTER = 24 * 3_600_000;

const freshIn = (kept: Kept): Unsent[] => (kept.outbox ?? []).filter((each) => Date.now() - Date.parse(each.at) < STALE_AFTER);

export class Outbox {
  #waiting: Unsent[] = [];
  #working = false;
  #wake: (() => void) | null = null;
  #closed = false;

  constructor(
    private readonly memory: Memory,
    private readonly postman: Postman,
  ) {}

  /** What an earlier page could not send any more. */
  adopt(kept: Kept): Unsent[] {
    const found = freshIn(kept).filter((each) => !this.#waiting.some((one) => one.id === each.id));
    this.#waiting.unshift(...found);
    if (found.length) void this.#work();
    return found;
  }

  put(message: Unsent): void {
    this.#waiting.push(message);
    this.#save();
    void this.#work();
  }

  /** The network is back: do not wait any longer. */
  hurry(): void {
    this.#wake?.();
  }

  /** Give up what waits here; what is kept for the next page is the caller's. */
  clear(): void {
    this.#waiting = [];
  }

  close(): void {
    this.#closed = true;
    this.#wake?.();
  }

  async #work(): Promise<void> {
    if (this.#working) return;
    this.#working = true;
    let failures = 0;
    let refusals = 0;
    let anew = false;
    while (!this.#closed) {
      const message = this.#waiting[0];
      if (!message) break;
      try {
        await this.postman.deliver(message);
        if (!this.#waiting.includes(message)) continue;
        this.#drop(message);
        failures = refusals = 0;
        anew = false;
        this.postman.sent(message);
      } catch (error) {
        // given up meanwhile, with everything of the customer who wrote it
        if (!this.#waiting.includes(message)) continue;
        failures += 1;
        const refused = error instanceof Refused ? error : null;
        if (refused) refusals += 1; // what found no line at all was not refused
        if (isGone(error) && !anew) {
          // forgotten on the other side: what was written is still worth an answer
          anew = true;
          this.postman.lost();
        } else if (refused && (!refused.passing || refusals >= BUSY_TRIES)) {
          this.#drop(message);
          failures = refusals = 0;
          anew = false;
          this.postman.failed(message, refused);
        } else {
          this.postman.delayed(message, refused ? "busy" : "offline");
          const growing = Math.random() * Math.min(LONGEST_PAUSE, 600 * 2 ** failures);
          await this.#pause(Math.max((refused?.retryAfter ?? 0) * 1000, 300 + growing));
        }
      }
    }
    this.#working = false;
  }

  #drop(message: Unsent): void {
    this.#waiting = this.#waiting.filter((each) => each !== message);
    this.#save(message);
  }

  /** Beside what waits in other tabs. */
  #save(gone?: Unsent): void {
    const mine = new Set([...this.#waiting, ...(gone ? [gone] : [])].map((each) => each.id));
    const all = [...freshIn(this.memory.read()).filter((each) => !mine.has(each.id)), ...this.#waiting];
    this.memory.keep({ outbox: all.length ? all : undefined });
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}
