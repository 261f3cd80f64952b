// Follows the events of a conversation for as long as they are wanted: server-sent events over fetch, resumed by
// Last-Event-ID, with growing pauses between attempts. Where a proxy holds the stream back, or the service has no place for
// it, the conversation is polled.

import { createParser } from "eventsource-parser";
import { parse } from "./bare";
import { isGone, Refused } from "./server";

export interface Heard {
  id: number | null;
  name: string;
  data: unknown;
}

/** The events of a body. One that is cut off in the middle of an event does not give that event. */
export async function* eventsOf(body: ReadableStream<Uint8Array>): AsyncGenerator<Heard> {
  const heard: Heard[] = [];
  const parser = createParser({
    onEvent: ({ id, event, data }) => {
      const number = id === undefined || id === "" ? null : Number(id);
      heard.push({ id: Number.isFinite(number) ? number : null, name: event ?? "message", data: parse(data) });
    },
  });
  const reader = body.getReader();
  const decoder = new TextDecoder();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    parser.feed(decoder.decode(value, { stream: true }));
    yield* heard.splice(0);
    yield { id: null, name: "", data: null }; // bytes came: the line is alive
  }
}

export interface Line {
  /** Opens the stream behind an event. */
  connect(after: number, signal: AbortSignal): Promise<Response>;
  /** Reads the whole conversation instead. */
  poll(): Promise<void>;
  event(heard: Heard): void;
  connection(state: "lost" | "back"): void;
  /** Whether something is expected soon. */
  lively(): boolean;
  gone(): void;
}

export const FIRST_BYTE_WITHIN = 3_000;
const LONGEST_PAUSE = 20_000;
const STREAM_AGAIN_AFTER = 60_000;
/** The service sends a sign of life every 15 seconds. */
const SILENT_FOR = 40_000;

export class Stream {
  #abort: AbortController | null = null;
  #wake: (() => void) | null = null;
  #heldBack: (() => void) | null = null;
  last = 0;
  polling = false;

  constructor(private readonly line: Line) {}

  get running(): boolean {
    return this.#abort !== null;
  }

  start(): void {
    if (this.#abort) return this.#wake?.();
    const abort = (this.#abort = new AbortController());
    void this.#run(abort.signal);
  }

  stop(): void {
    this.#abort?.abort();
    this.#abort = null;
    this.#wake?.();
  }

  /** Something happened that this connection did not tell: a proxy holds it back. */
  distrust(): void {
    this.#heldBack?.();
  }

  /** The network is back, or somebody looks: do not wait any longer. */
  hurry(): void {
    this.#wake?.();
  }

  async #run(signal: AbortSignal): Promise<void> {
    let failures = 0;
    while (!signal.aborted) {
      const came = await this.#listen(signal).catch((error: unknown) => {
        if (isGone(error) && !signal.aborted) {
          this.stop();
          this.line.gone();
        }
        return "failed" as const;
      });
      if (signal.aborted) return;
      if (came === "held back") {
        await this.#poll(signal);
        failures = 0;
        continue;
      }
      if (came === "some") failures = 0;
      // the first break is usually a restart or a proxy: say nothing unless it lasts
      else if (failures > 0) this.line.connection("lost");
      await this.#pause(300 + Math.random() * Math.min(LONGEST_PAUSE, 400 * 2 ** failures), signal);
      failures += 1;
    }
  }

  /** One connection, to its end: whether anything came, or nothing did for so long that something holds it back. */
  async #listen(outer: AbortSignal): Promise<"some" | "held back"> {
    const abort = new AbortController();
    const stop = (): void => abort.abort();
    outer.addEventListener("abort", stop);
    let quiet = false;
    let came = false;
    const giveUp = (): void => {
      quiet = true;
      abort.abort();
    };
    let distrusted = false;
    this.#heldBack = () => {
      distrusted = true;
      abort.abort();
    };
    let timer = setTimeout(giveUp, FIRST_BYTE_WITHIN);
    try {
      const response = await this.line.connect(this.last, abort.signal);
      if (!response.body) throw new TypeError("no body");
      for await (const heard of eventsOf(response.body)) {
        if (!came) this.line.connection("back");
        came = true;
        clearTimeout(timer);
        timer = setTimeout(giveUp, SILENT_FOR);
        if (outer.aborted) break;
        if (heard.name === "") continue;
        if (heard.id !== null) this.last = heard.id;
        this.line.event(heard);
      }
      return "some";
    } catch (error) {
      if (distrusted || (quiet && !came)) return "held back";
      // the service has no place for one more stream, and says when to come again; what it is asked it still answers
      if (error instanceof Refused && error.passing && error.retryAfter) return "held back";
      if (came) return "some";
      throw error;
    } finally {
      clearTimeout(timer);
      this.#heldBack = null;
      outer.removeEventListener("abort", stop);
      abort.abort();
    }
  }

  async #poll(signal: AbortSignal): Promise<void> {
    const until = Date.now() + STREAM_AGAIN_AFTER;
    let failures = 0;
    this.polling = true;
    while (!signal.aborted && Date.now() < until) {
      try {
        await this.line.poll();
        this.line.connection("back");
        failures = 0;
      } catch (error) {
        if (signal.aborted) break;
        if (isGone(error)) {
          this.stop();
          this.line.gone();
          break;
        }
        failures += 1;
        if (failures > 1) this.line.connection("lost");
      }
      const pause = this.line.lively() ? 1_200 : 5_000;
      await this.#pause(pause + Math.min(LONGEST_PAUSE, 800 * failures * (1 + Math.random())), signal);
    }
    this.polling = false;
  }

  #pause(ms: number, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}
