// What is written arrives once, in order, whatever the network does.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Kept, Memory, Unsent } from "../src/memory";
import { Outbox, type Postman } from "../src/outbox";
import { Refused } from "../src/server";

class Page {
  kept: Kept = {};
  read(): Kept {
    return this.kept;
  }
  keep(changes: Kept): Kept {
    return Object.assign(this.kept, changes);
  }
}

class Post implements Postman {
  arrived: string[] = [];
  log: string[] = [];
  constructor(private readonly fate: (message: Unsent, attempt: number) => Error | null) {}
  tried = 0;
  deliver(message: Unsent): Promise<void> {
    const error = this.fate(message, this.tried++);
    if (error) return Promise.reject(error);
    this.arrived.push(message.id);
    return Promise.resolve();
  }
  lost(): void {
    this.log.push("lost");
  }
  sent(message: Unsent): void {
    this.log.push(`sent ${message.id}`);
  }
  delayed(_: Unsent, why: string): void {
    this.log.push(why);
  }
  failed(message: Unsent, problem: Refused): void {
    this.log.push(`failed ${message.id} ${problem.status}`);
  }
}

const note = (id: string): Unsent => ({ id, text: id, at: new Date().toISOString() });

async function run(outbox: Outbox, done: () => boolean): Promise<void> {
  const began = Date.now();
  while (!done()) {
    assert.ok(Date.now() - began < 8_000, "it never happened");
    outbox.hurry();
    await new Promise((resolve) => setImmediate(resolve));
  }
}

const boxed = (post: Post, page = new Page()): Outbox => new Outbox(page as unknown as Memory, post);

test("offline messages wait in order and are sent once each", async () => {
  const page = new Page();
  const post = new Post((_, attempt) => (attempt < 5 ? new TypeError("Failed to fetch") : null));
  const outbox = boxed(post, page);
  for (const id of ["a", "b", "c"]) outbox.put(note(id));
  assert.deepEqual(page.kept.outbox?.map((each) => each.id), ["a", "b", "c"]);
  await run(outbox, () => post.arrived.length === 3);
  assert.deepEqual(post.arrived, ["a", "b", "c"]);
  assert.equal(post.log.filter((each) => each === "offline").length, 5);
  await run(outbox, () => page.kept.outbox === undefined);
});

test("a busy service is asked again, and in the end the customer is told", async () => {
  const post = new Post((message) => (message.id === "a" ? new Refused(503, "busy", 0) : null));
  const outbox = boxed(post);
  outbox.put(note("a"));
  outbox.put(note("b"));
  await run(outbox, () => post.arrived.length === 1);
  assert.deepEqual(post.log, ["busy", "busy", "busy", "busy", "busy", "failed a 503", "sent b"]);
});

test("a service that is busy once the line is back has all its tries", async () => {
  const post = new Post((_, attempt) => (attempt < 9 ? new TypeError("Failed to fetch") : attempt < 11 ? new Refused(503, "busy", 0) : null));
  const outbox = boxed(post);
  outbox.put(note("a"));
  await run(outbox, () => post.log.some((each) => /^(sent|failed)/.test(each)));
  assert.deepEqual(post.log.slice(9), ["busy", "busy", "sent a"]);
});

test("what can never be sent fails at once", async () => {
  const post = new Post(() => new Refused(422, "text: is too long", 0));
  const outbox = boxed(post);
  outbox.put(note("a"));
  await run(outbox, () => post.log.length > 0);
  assert.deepEqual(post.log, ["failed a 422"]);
});

test("a conversation that is gone is begun anew, once", async () => {
  const post = new Post((_, attempt) => (attempt === 0 ? new Refused(404, "gone", 0) : null));
  const outbox = boxed(post);
  outbox.put(note("a"));
  await run(outbox, () => post.arrived.length === 1);
  assert.deepEqual(post.log, ["lost", "sent a"]);
  const gone = new Post(() => new Refused(404, "gone", 0));
  const other = boxed(gone);
  other.put(note("a"));
  await run(other, () => gone.log.length === 2);
  assert.deepEqual(gone.log, ["lost", "failed a 404"]);
});

test("the next page sends what the last one could not, unless it is old", async () => {
  const post = new Post(() => null);
  const page = new Page();
  const old = { ...note("old"), at: new Date(Date.now() - 2 * 24 * 3_600_000).toISOString() };
  page.kept = { outbox: [old, note("new")] };
  const outbox = boxed(post, page);
  assert.deepEqual(outbox.adopt(page.kept).map((each) => each.id), ["new"]);
  await run(outbox, () => page.kept.outbox === undefined);
  assert.deepEqual(post.arrived, ["new"]);
});

test("two tabs keep what waits in either, and what is sent or old goes", async () => {
  const page = new Page();
  page.kept = { outbox: [{ ...note("old"), at: new Date(Date.now() - 2 * 24 * 3_600_000).toISOString() }] };
  const away = boxed(new Post(() => new TypeError("Failed to fetch")), page);
  away.put(note("a"));
  const kept = (): string[] => (page.kept.outbox ?? []).map((each) => each.id);
  assert.deepEqual(kept(), ["a"]);
  const post = new Post(() => null);
  const other = boxed(post, page);
  other.put(note("b"));
  assert.deepEqual(kept(), ["a", "b"]);
  await run(other, () => post.arrived.length === 1);
  await run(other, () => kept().length === 1);
  assert.deepEqual(kept(), ["a"]);
  away.close();
});

test("what was given up on the way is neither said to have arrived nor to have failed", async () => {
  for (const end of [null, new TypeError("Failed to fetch"), new Refused(422, "no", 0)]) {
    const post = new Post(() => {
      outbox.clear();
      return end;
    });
    const outbox = boxed(post);
    outbox.put(note("a"));
    await run(outbox, () => post.tried === 1);
    assert.deepEqual(post.log, []);
    outbox.put(note("b"));
    await run(outbox, () => post.tried === 2);
    assert.deepEqual(post.log, []);
  }
});
