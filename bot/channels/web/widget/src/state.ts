// What is shown of a conversation, and what becomes of it with each thing that is heard: values and pure functions. Knows
// neither the service nor the browser; `chat.ts` holds the one state there is.

import { bare } from "./bare";
import type { Unsent } from "./memory";
import type { Conversation, Line, Status } from "./protocol";

/** A line as it is shown: one of the customer may still be on its way. */
export interface Shown extends Line {
  sending?: "now" | "queued" | "failed";
  /** It was refused because nobody vouched for the customer. */
  unknown?: boolean;
  /** The answer to this message did not arrive. */
  unanswered?: boolean;
}

export interface State {
  /** Whether what was said before is known. */
  ready: boolean;
  known: boolean;
  status: Status;
  agent: string;
  lines: readonly Shown[];
  /** Messages without their turn, oldest first, and what came of each answer so far. */
  pending: readonly string[];
  partial: Readonly<Record<string, string>>;
  strip: "" | "offline" | "busy";
  unread: number;
  rated: boolean;
  identified: boolean;
  details: { name?: string; email?: string } | null;
}

export const NOTHING: State = {
  ready: false, known: false, status: "open", agent: "", lines: [], pending: [], partial: bare({}), strip: "",
  unread: 0, rated: false, identified: false, details: null,
}; // prettier-ignore

export const holds = (state: State, id: string): boolean => state.lines.some((line) => line.id === id);

/** A line of which something else is true now. */
export function marked(state: State, id: string, changes: Partial<Shown>): State {
  return bare({ ...state, lines: state.lines.map((line) => (line.id === id ? bare({ ...line, ...changes }) : line)) });
}

/** A message that the customer wrote; a person answers in lines of their own, the bot owes each message a turn. */
export function written(state: State, message: Unsent): State {
  if (holds(state, message.id)) return state;
  const line: Shown = bare({ ...message, from: "customer", sending: "now" });
  const pending = state.status === "person" ? [] : [message.id];
  return bare({ ...state, lines: [...state.lines, line], pending: [...state.pending, ...pending] });
}

/** Some more of the answer to a message. With `restart` it is another attempt: what came before no longer counts. */
export function told(state: State, id: string, text: string, restart = false): State {
  if (!state.pending.includes(id)) return state;
  const before = restart ? "" : (state.partial[id] ?? "");
  return bare({ ...state, partial: bare({ ...state.partial, [id]: before + text }) });
}

/** The turn of the message that waited longest stands behind it. A turn without words is no line. */
export function answered(state: State, line: Line): State {
  const [id, ...pending] = state.pending;
  if (id === undefined) return state;
  const lines = state.lines.flatMap((each): readonly Shown[] => {
    if (each.id !== id) return [each];
    const asked = bare({ ...each, sending: undefined });
    return line.text ? [asked, line] : [asked];
  });
  return bare({ ...state, lines, pending, partial: without(state.partial, id), strip: "" });
}

/** The answer to a message does not come. */
export function unanswered(state: State, id: string): State {
  if (!state.pending.includes(id)) return state;
  const pending = state.pending.filter((each) => each !== id);
  return marked(bare({ ...state, pending, partial: without(state.partial, id) }), id, { unanswered: true });
}

/** What the record holds, and with it what is on its way from here. `partial` is what is known of answers to come. */
export function recorded(state: State, said: Conversation, partial: State["partial"]): State {
  const stored = said.messages.filter((line) => line.text || line.file);
  const known = new Set(stored.map((line) => line.id));
  const unsent = state.lines.filter((line) => line.sending && !known.has(line.id));
  // every answer is a line, also one without words that nobody sees, and they come in order
  const asked = stored.filter((line) => line.from === "customer" && line.text).map((line) => line.id);
  const owed = said.status === "resolved" ? [] : asked.slice(said.messages.filter((line) => line.from === "bot").length);
  const sending = unsent.filter((line) => line.sending !== "failed").map((line) => line.id);
  const pending = said.status === "person" ? [] : [...owed, ...sending];
  return bare({ ...state, known: true, status: said.status, agent: said.name ?? "", lines: [...stored, ...unsent], pending, partial });
}

/** What was said to the customer that `before` did not show: all of it where they had been looking, else what stands
 *  behind the line that they saw last. */
export function missed(before: State, now: State, seen: string | undefined): readonly Shown[] {
  const shown = new Set(before.lines.map((line) => line.id));
  // by its place and not by its time: the customer's clock is another than the service's
  const last = now.lines.findIndex((line) => line.id === seen);
  const counts = (at: number): boolean => before.ready || (last >= 0 && at > last);
  return now.lines.filter((line, at) => line.from !== "customer" && !shown.has(line.id) && counts(at));
}

function without(partial: State["partial"], id: string): State["partial"] {
  const rest = bare({ ...partial });
  delete rest[id];
  return rest;
}
