// Server-sent events cut anywhere, a stream that breaks and resumes, and one that a proxy holds back.

import assert from "node:assert/strict";
import { afterEach, mock, test } from "node:test";
import { eventsOf, FIRST_BYTE_WITHIN, Stream, type Heard, type Line } from "../src/stream";

const encoder = new TextEncoder();
const WIRE =
  ": open\r\nretry: 2000\r\n\r\n" +
  'id: 10001\r\nevent: token\r\ndata: {"message_id": "m", "text": "Gr\\u00fc\\u00df dich \\ud83d\\ude00"}\r\n\r\n' +
  ": ping\r\n\r\n" +
  'id: 10002\nevent: token\ndata: {"message_id": "m",\ndata: "text": " zwei"}\n\n' +
  'id: 19000\r\nevent: turn\r\ndata: {"id": "t", "text": "Grüß dich 😀 zwei"}\r\n\r\n';
const EXPECTED = [
  [10001, "token", { message_id: "m", text: "Grüß dich 😀" }],
  [10002, "token", { message_id: "m", text: " zwei" }],
  [19000, "turn", { id: "t", text: "Grüß dich 😀 zwei" }],
];

function body(...chunks: Uint8Array[]): ReadableStream<Uint8Array> {
  return new ReadableStream({
    start(controller) {
      for (const chunk of chunks) controller.enqueue(chunk);
      controller.close();
    },
  });
}

async function heardIn(stream: ReadableStream<Uint8Array>): Promise<unknown[]> {
  const found: unknown[] = [];
  for await (const { id, name, data } of eventsOf(stream)) if (name) found.push([id, name, { ...(data as object) }]);
  return found;
}

test("events are the same wherever the bytes are cut", async () => {
  const bytes = encoder.encode(WIRE);
  for (let cut = 0; cut <= bytes.length; cut++) {
    assert.deepEqual(await heardIn(body(bytes.slice(0, cut), bytes.slice(cut))), EXPECTED, `cut at ${cut}`);
  }
  for (const size of [1, 2, 3, 5, 7]) {
    const chunks = Array.from({ length: Math.ceil(bytes.length / size) }, (_, at) => bytes.slice(at * size, (at + 1) * size));
    assert.deepEqual(await heardIn(body(...chunks)), EXPECTED, `pieces of ${size}`);
  }
});

test("an event whose end never came is not given", async () => {
  const bytes = encoder.encode(WIRE);
  assert.deepEqual(await heardIn(body(bytes.slice(0, bytes.length - 4))), EXPECTED.slice(0, 2));
});

test("data that is no JSON is heard as nothing and inherits nothing", async () => {
  assert.deepEqual(await heardIn(body(encoder.encode("event: token\ndata: {broken\n\n"))), [[null, "token", {}]]);
  for await (const { name, data } of eventsOf(body(encoder.encode('event: turn\ndata: {"a": {"b": 1}, "__proto__": {"evil": 1}}\n\n')))) {
    if (!name) continue;
    assert.equal(Object.getPrototypeOf(data), null);
    assert.equal((data as { evil?: unknown }).evil, undefined);
  }
});

/** A service that sends its events on each connection behind the id it is asked for, a few at a time, and then breaks. */
class Flaky implements Line {
  heard: Heard[] = [];
  asked: number[] = [];
  states: string[] = [];
  polls = 0;
  left = false;
  constructor(private readonly answer: (after: number, signal: AbortSignal) => Promise<Response>) {}
  connect(after: number, signal: AbortSignal): Promise<Response> {
    this.asked.push(after);
    return this.answer(after, signal);
  }
  poll(): Promise<void> {
    this.polls += 1;
    return Promise.resolve();
  }
  event(heard: Heard): void {
    this.heard.push(heard);
  }
  connection(state: "lost" | "back"): void {
    this.states.push(state);
  }
  lively(): boolean {
    return true;
  }
  gone(): void {
    this.left = true;
  }
}

async function until(happened: () => boolean): Promise<void> {
  const began = Date.now();
  while (!happened()) {
    assert.ok(Date.now() - began < 8_000, "it never happened");
    await new Promise((resolve) => setImmediate(resolve));
  }
}

afterEach(() => mock.reset());

test("a stream that breaks after every event resumes with nothing missing and nothing twice", async () => {
  mock.method(Math, "random", () => 0);
  const line = new Flaky((after) => {
    if (line.asked.length % 4 === 2) return Promise.reject(new TypeError("Failed to fetch"));
    const next = after + 1;
    const text = next <= 6 ? `: hi\n\nid: ${next}\nevent: token\ndata: {"n": ${next}}\n\n` : ": hi\n\n";
    return Promise.resolve(new Response(body(encoder.encode(text))));
  });
  const stream = new Stream(line);
  stream.start();
  const hurry = setInterval(() => stream.hurry(), 1);
  await until(() => line.heard.length === 6);
  stream.stop();
  clearInterval(hurry);
  assert.deepEqual(line.heard.map((each) => each.id), [1, 2, 3, 4, 5, 6]);
  assert.equal(stream.last, 6);
});

test("a conversation that is gone ends it", async () => {
  const { Refused } = await import("../src/server");
  const line = new Flaky(() => Promise.reject(new Refused(404, "gone", 0)));
  const stream = new Stream(line);
  stream.start();
  await until(() => line.left);
  assert.equal(stream.running, false);
});

test("a stream that is stopped while it asks instead of listening does not count as asking for ever", async () => {
  mock.timers.enable({ apis: ["setTimeout", "Date"] });
  const line = new Flaky(
    (_, signal) => new Promise((_resolve, reject) => signal.addEventListener("abort", () => reject(new DOMException("stop", "AbortError")))),
  );
  let fail = (): void => {};
  line.poll = () => {
    line.polls += 1;
    return new Promise((_, reject) => (fail = () => reject(new TypeError("Failed to fetch"))));
  };
  const stream = new Stream(line);
  stream.start();
  mock.timers.tick(FIRST_BYTE_WITHIN + 1);
  await until(() => line.polls === 1);
  assert.equal(stream.polling, true);
  stream.stop();
  fail();
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(stream.polling, false);
});

test("where there is no place for one more stream the conversation is polled instead", async () => {
  const { Refused } = await import("../src/server");
  const line = new Flaky(() => Promise.reject(new Refused(503, "Too many", 5)));
  const stream = new Stream(line);
  stream.start();
  const hurry = setInterval(() => stream.hurry(), 1);
  await until(() => line.polls > 2 || line.states.includes("lost"));
  stream.stop();
  clearInterval(hurry);
  assert.deepEqual([line.asked.length, line.states.includes("lost")], [1, false]);
});

test("where nothing comes for three seconds the conversation is polled instead", async () => {
  mock.timers.enable({ apis: ["setTimeout", "Date"] });
  const line = new Flaky(
    (_, signal) => new Promise((_resolve, reject) => signal.addEventListener("abort", () => reject(new DOMException("stop", "AbortError")))),
  );
  const stream = new Stream(line);
  stream.start();
  mock.timers.tick(FIRST_BYTE_WITHIN - 1);
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(line.polls, 0);
  mock.timers.tick(2);
  await until(() => line.polls === 1);
  for (let passed = 0; passed < 70; passed++) {
    mock.timers.tick(1_000);
    await new Promise((resolve) => setImmediate(resolve));
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.ok(line.polls > 20, `polled ${line.polls} times`);
  assert.ok(line.asked.length >= 2, "the stream is tried again after a while");
  stream.stop();
});
