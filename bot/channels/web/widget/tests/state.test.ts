// What is shown of a conversation after each thing that is heard.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Conversation, Line } from "../src/protocol";
import { answered, marked, missed, NOTHING, recorded, told, unanswered, written, type State } from "../src/state";

const AT = "2026-11-30T09:00:00Z";
const line = (id: string, from: Line["from"], text = id): Line => ({ id, from, text, at: AT });
const asking = (...ids: string[]): State => ids.reduce((state, id) => written(state, { id, text: id, at: AT }), NOTHING);
const ids = (state: State): string[] => state.lines.map((each) => each.id);
const record = (status: Conversation["status"], ...messages: Line[]): Conversation =>
  ({ status, messages, last_event_id: 0 }) as unknown as Conversation;

test("a message is written once, and owed a turn unless a person has the conversation", () => {
  const once = asking("a");
  assert.equal(written(once, { id: "a", text: "again", at: AT }), once);
  assert.deepEqual([ids(once), once.pending, once.lines[0]!.sending], [["a"], ["a"], "now"]);
  assert.deepEqual(written({ ...NOTHING, status: "person" }, { id: "a", text: "a", at: AT }).pending, []);
});

test("a turn stands behind the message that waited longest, and what came of it before is gone", () => {
  const heard = told(told(asking("a", "b"), "a", "It "), "a", "takes");
  assert.deepEqual({ ...heard.partial }, { a: "It takes" });
  const after = answered(heard, line("t", "bot"));
  assert.deepEqual([ids(after), after.pending, { ...after.partial }], [["a", "t", "b"], ["b"], {}]);
  assert.equal(after.lines[0]!.sending, undefined);
  assert.equal(after.lines[2]!.sending, "now");
});

test("a turn without words is no line, and one that nobody waits for changes nothing", () => {
  const after = answered(asking("a"), line("t", "bot", ""));
  assert.deepEqual([ids(after), after.pending], [["a"], []]);
  assert.equal(answered(after, line("u", "bot")), after);
});

test("another attempt at an answer begins anew; text of a message that has its turn is not shown", () => {
  const heard = told(asking("a"), "a", "half");
  assert.deepEqual({ ...told(heard, "a", "whole", true).partial }, { a: "whole" });
  const done = answered(heard, line("t", "bot"));
  assert.equal(told(done, "a", "late"), done);
});

test("an answer that does not come is told at its message", () => {
  const after = unanswered(told(asking("a", "b"), "a", "half"), "a");
  assert.deepEqual([after.pending, { ...after.partial }, after.lines[0]!.unanswered], [["b"], {}, true]);
  assert.equal(unanswered(after, "a"), after);
});

test("the record counts, and what is on its way from here stays behind it", () => {
  const here = marked(marked(asking("a", "b", "c"), "b", { sending: "queued" }), "c", { sending: "failed" });
  const after = recorded(here, record("open", line("a", "customer"), line("t", "bot"), line("x", "customer")), {});
  assert.deepEqual(ids(after), ["a", "t", "x", "b", "c"]);
  assert.deepEqual(after.pending, ["x", "b"], "owed, and under way; what failed waits for the customer");
  assert.equal(after.lines[0]!.sending, undefined);
});

test("nobody owes an answer where a person has the conversation, or it is at an end", () => {
  const asked = [line("a", "customer"), line("b", "customer")];
  assert.deepEqual(recorded(asking("c"), record("person", ...asked), {}).pending, []);
  assert.deepEqual(recorded(asking("c"), record("resolved", ...asked), {}).pending, ["c"]);
});

test("an answer without words counts as one and is not shown", () => {
  const after = recorded(NOTHING, record("open", line("a", "customer"), line("t", "bot", ""), line("b", "customer")), {});
  assert.deepEqual([ids(after), after.pending], [["a", "b"], ["b"]]);
});

test("missed is what others said behind the line that was seen last, or since it was shown", () => {
  const said = record("open", line("a", "customer"), line("t", "bot"), line("b", "customer"), line("u", "bot"));
  const now = recorded(NOTHING, said, {});
  const found = (before: State, seen?: string): string[] => missed(before, now, seen).map((each) => each.id);
  assert.deepEqual(found(NOTHING, "t"), ["u"]);
  assert.deepEqual(found(NOTHING), [], "on a page that has just come nobody knows");
  assert.deepEqual(found({ ...NOTHING, ready: true }), ["t", "u"]);
  assert.deepEqual(found({ ...now, ready: true }, "a"), []);
});
