// The conversation as the widget lives it: fed by the service's events, by other tabs and by what the customer does, each
// time with another state. Knows no DOM beyond timers; `state.ts` says what becomes of a state, `panel.tsx` shows it.

import { bare } from "./bare";
import type { Kept, Memory, Unsent } from "./memory";
import { Outbox } from "./outbox";
import type { Conversation, FileInfo, Identity, Line, Site, Status, Summary, Turn } from "./protocol";
import { isGone, type Server } from "./server";
import { answered, holds, marked, missed, NOTHING, recorded, told, unanswered, written, type Shown, type State } from "./state";
import { Stream, type Heard } from "./stream";
import { Tabs } from "./tabs";

type Note =
  | { kind: "event"; id: string; heard: Heard }
  | { kind: "said"; id: string; line: Line }
  | { kind: "hello"; id: string }
  | { kind: "so far"; id: string; partial: Record<string, string>; last: number }
  | { kind: "changed" }
  | { kind: "read" };

export interface Ears {
  change(): void;
  message(line: Line): void;
  unread(count: number): void;
  status(status: Status, agent: string): void;
  trouble(problem: unknown): void;
}

const ASLEEP_AFTER = 60_000;
const EXPECTED_WITHIN = 5_000;
const LONGEST_PAUSE = 20_000;
export function newId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6]! & 0x0f) | 0x40;
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

/** Whose identity it is: the `sub` of a JWT, read and not checked, only to keep two customers apart. */
export function subjectOf(identity: Identity): string {
  if ("user_id" in identity) return identity.user_id;
  try {
    const middle = identity.identity.split(".")[1]!.replace(/-/g, "+").replace(/_/g, "/");
    return String(JSON.parse(atob(middle)).sub ?? "");
  } catch {
    return "";
  }
}

export class Chat {
  state: State = NOTHING;
  /** What the customer is writing; it outlives the panel. */
  draft = "";
  readonly #stream: Stream;
  readonly #outbox: Outbox;
  readonly #tabs: Tabs<Note>;
  #identity: Identity | null = null;
  #open = false;
  #asleep = 0;
  #opening: Promise<void> | null = null;
  #expecting = 0;
  #recalling = 0;
  /** Rises with whatever is said or done: a record that was read before is not the last word any more. */
  #heard = 0;
  /** Rises when another customer comes. */
  #era = 0;
  /** The tokens that were used last, to follow and to send: only with the one that counts is the conversation gone. */
  #followed: string | undefined;
  #sentWith: string | undefined;

  constructor(
    private readonly server: Server,
    private readonly memory: Memory,
    private readonly ears: Ears,
  ) {
    this.#stream = new Stream({
      connect: (after, signal) => {
        const { id, token } = this.#kept;
        this.#followed = token;
        return this.server.events(id!, token!, after, signal);
      },
      poll: () => this.#reload(),
      event: (heard) => {
        this.#hear(heard);
        this.#tabs.tell({ kind: "event", id: this.#kept.id!, heard });
      },
      connection: (state) => this.#strip(state === "lost" ? "offline" : ""),
      lively: () => this.state.pending.length > 0 || this.state.status !== "open",
      gone: () => {
        if (this.#followed === this.#kept.token) this.#leave();
        else this.#care();
      },
    });
    this.#outbox = new Outbox(memory, {
      deliver: (message) => this.#deliver(message),
      // without a token it was the opening of a conversation that was refused
      lost: () => this.#sentWith && this.#sentWith === this.#kept.token && this.#leave(true),
      sent: (message) => this.#sent(message),
      delayed: (message, why) => {
        this.#mark(message.id, { sending: "queued" });
        this.#strip(why);
      },
      failed: (message, problem) => {
        this.#mark(message.id, { sending: "failed", unknown: problem.status === 401 });
        this.ears.trouble(problem);
        this.#set({ pending: this.state.pending.filter((id) => id !== message.id), strip: "" });
      },
    });
    this.#tabs = new Tabs<Note>(
      `frontdesk.${server.site}`,
      (note) => this.#note(note),
      (leading) => (leading ? this.#stream.start() : this.#stream.stop()),
    );
  }

  get #kept(): Kept {
    return this.memory.read();
  }

  // -- what the customer does -----------------------------------------------------------------------------------------

  /** Show what was said before, here or in another tab. */
  async start(): Promise<void> {
    const kept = this.#kept;
    this.#set({ rated: kept.rated ?? false, unread: kept.unread ?? 0, details: kept.details ?? null });
    for (const each of this.#outbox.adopt(kept)) this.#expect(each);
    await this.#recall();
    this.#set({ ready: true });
    this.#care();
  }

  /** What was said before, asked for again with growing pauses where the service is away. */
  async #recall(pause = 1_000): Promise<void> {
    clearTimeout(this.#recalling);
    const { id, token } = this.#kept;
    if (!id || this.state.known) return;
    try {
      await this.#follow(id);
    } catch (error) {
      if (token !== this.#kept.token) return;
      if (isGone(error)) return this.#leave(true);
      this.#strip("offline");
      this.#recalling = window.setTimeout(() => void this.#recall(Math.min(2 * pause, LONGEST_PAUSE)), pause);
    }
  }

  /** What was said, from the record, and from there on what comes. */
  async #follow(id: string): Promise<void> {
    await this.#reload();
    this.#tabs.tell({ kind: "hello", id });
    this.#strip("");
    this.#care();
  }

  /** Whether the customer looks at the conversation just now. */
  look(open: boolean): void {
    this.#open = open;
    if (open) this.#read();
    if (open) this.#introduce();
    this.#care();
  }

  /** A customer with a name finds what they said elsewhere. */
  #introduce(): void {
    const identity = this.#identity;
    if (!identity || this.state.known) return;
    this.#connect().catch((error) => identity === this.#identity && this.ears.trouble(error));
  }

  say(text: string): void {
    const message: Unsent = { id: newId(), text, at: new Date().toISOString() };
    this.#expect(message);
    this.#outbox.put(message);
    this.ears.message(bare({ id: message.id, from: "customer", text, at: message.at }));
    this.#care();
  }

  /** Send again what could not be sent, or was not answered. */
  again(line: Shown): void {
    this.#mark(line.id, { sending: "now", unanswered: false });
    if (this.state.status !== "person") this.#set({ pending: [...this.state.pending, line.id] });
    this.#outbox.put({ id: line.id, text: line.text, at: line.at });
    this.#care();
  }

  async person(): Promise<void> {
    await this.#connect();
    const { status } = await this.#same(this.server.person(this.#kept.id!, this.#kept.token!));
    this.#status(status, "");
    this.#care();
  }

  async end(): Promise<void> {
    const { status } = await this.#same(this.server.end(this.#kept.id!, this.#kept.token!));
    this.#status(status, "");
  }

  async rate(stars: number, comment: string): Promise<void> {
    await this.#same(this.server.rate(this.#kept.id!, this.#kept.token!, stars, comment));
    this.memory.keep({ rated: true });
  }

  /** The thanks were seen; the card goes. */
  ratingDone(): void {
    this.#set({ rated: true });
  }

  judge(turn: Turn, verdict: object): Promise<null> {
    return this.server.judge(turn.id, this.#kept.token!, bare({ ...verdict }));
  }

  click(turn: Turn, what: { suggestion: string } | { citation: string }): void {
    void this.server.click(turn.id, this.#kept.token!, bare({ ...what }));
  }

  async forget(): Promise<void> {
    await this.server.forget(this.#kept.id!, this.#kept.token!);
    this.#leave();
    this.#tabs.tell({ kind: "changed" });
  }

  /** Begin another conversation; this one stays among the earlier ones. */
  fresh(): void {
    const { token, vouched } = this.#kept;
    this.#leave();
    if (token) this.memory.keep({ visitor: token, vouched });
    this.#tabs.tell({ kind: "changed" });
  }

  async earlier(): Promise<Summary[]> {
    const token = this.#kept.token ?? this.#kept.visitor;
    if (!token) return [];
    const { conversations } = await this.server.list(token);
    // Of the conversation that is open we know better what was read: the server hears of it when the line ends.
    return conversations
      .filter((each) => each.last_text)
      .map((each) => (each.conversation_id === this.#kept.id ? { ...each, unread: this.state.unread } : each));
  }

  /** Go on with an earlier conversation. */
  async choose(id: string): Promise<void> {
    const kept = this.#kept;
    if (kept.id === id) return;
    const { token } = await this.#same(this.server.token(id, (kept.token ?? kept.visitor)!));
    this.#leave();
    this.memory.keep({ id, token, visitor: token, vouched: kept.vouched, unread: 0 });
    await this.#reload();
    this.#read();
    this.#tabs.tell({ kind: "changed" });
    this.#care();
  }

  tellDetails(details: { name?: string; email?: string }): void {
    this.memory.keep({ details });
    this.#set({ details });
  }

  async upload(file: File, signal: AbortSignal): Promise<void> {
    const sent = await this.#same(this.server.upload(this.#kept.id!, this.#kept.token!, file, signal));
    const line: Line = bare({ id: sent.id, from: "customer", text: "", at: new Date().toISOString(), file: sent });
    this.#tabs.tell({ kind: "said", id: this.#kept.id!, line });
    this.#add(line);
  }

  download(file: FileInfo): Promise<Blob> {
    return this.server.download(file.id, this.#kept.token!);
  }

  /**
   * Who the customer is. What belongs to somebody else leaves this browser first; what was said before anybody was named
   * is this customer's from now on, whether or not the service can be told at once.
   */
  identify(identity: Identity): void {
    const who = subjectOf(identity);
    const { who: before } = this.#kept;
    if (before !== undefined && before !== who) this.logout();
    this.#identity = identity;
    const { id, token, vouched } = this.memory.keep({ who });
    this.#set({ identified: true });
    if (id && !vouched) {
      // opened anew with both proofs, the service makes it this customer's
      this.#tabs.want(false);
      this.#stream.last = 0;
      this.memory.keep({ id: undefined, token: undefined, visitor: token });
      this.#set({ known: false });
    }
    if (this.#open || (id && !vouched)) this.#introduce();
  }

  logout(): void {
    this.#forgetWho();
    this.#leave();
    this.memory.clear();
    this.#set({ ...NOTHING, ready: true });
  }

  /** The same in another tab, which cleared what is kept. */
  left(): void {
    this.#forgetWho();
    this.#note({ kind: "changed" });
  }

  /** What is under way for this customer must not end with the next. */
  #forgetWho(): void {
    this.#era += 1;
    this.#opening = null;
    this.#identity = null;
    this.draft = "";
    this.#outbox.clear();
    this.#set({ identified: false });
  }

  visible(): void {
    clearTimeout(this.#asleep);
    this.#asleep = 0;
    if (document.visibilityState === "hidden") {
      this.#asleep = window.setTimeout(() => {
        this.#asleep = 0;
        this.#care();
      }, ASLEEP_AFTER);
    } else if (this.#open) this.#read();
    this.#care();
  }

  /** The page was kept as it was and is shown again: what happened in other tabs meanwhile was not heard. */
  back(): void {
    this.#note({ kind: "changed" });
    this.visible();
  }

  /** The network is back. */
  hurry(): void {
    void this.#recall();
    this.#stream.hurry();
    this.#outbox.hurry();
  }

  /** The page goes, perhaps to come back. */
  pause(): void {
    this.#tabs.want(false);
  }

  close(): void {
    clearTimeout(this.#asleep);
    clearTimeout(this.#expecting);
    clearTimeout(this.#recalling);
    this.#outbox.close();
    this.#tabs.close();
    this.#stream.stop();
  }

  /** Hold a connection only while something may come that somebody waits for. */
  #care(): void {
    const { known, pending, status } = this.state;
    const expected = pending.length > 0 || status === "waiting" || status === "person";
    const asleep = document.visibilityState === "hidden" && this.#asleep === 0;
    this.#tabs.want(known && (expected || (this.#open && !asleep)));
    if (this.#tabs.leading) this.#stream.start();
  }

  /** What was begun for one customer, and rejects if there is another by now: it must not end with them. */
  async #same<T>(work: Promise<T>): Promise<T> {
    const era = this.#era;
    const done = await work;
    if (era !== this.#era) throw new Error("the customer has changed");
    return done;
  }

  // -- what is sent ---------------------------------------------------------------------------------------------------

  #expect(message: Unsent): void {
    this.#become(written(this.state, message));
  }

  async #deliver(message: Unsent): Promise<void> {
    await this.#same(this.#connect());
    const { id, token } = this.#kept;
    this.#sentWith = token;
    this.#care();
    await this.server.say(id!, token!, { id: message.id, text: message.text });
  }

  #sent(message: Unsent): void {
    this.#heard += 1;
    this.#mark(message.id, { sending: undefined });
    this.#set({ strip: "", status: this.state.status === "resolved" ? "open" : this.state.status });
    this.#remember();
    const line: Line = bare({ id: message.id, from: "customer", text: message.text, at: message.at });
    this.#tabs.tell({ kind: "said", id: this.#kept.id!, line });
    this.#care();
    clearTimeout(this.#expecting);
    this.#expecting = window.setTimeout(() => void this.#check(message.id), EXPECTED_WITHIN);
  }

  /** Nothing was heard of a message: look whether its answer is there and only the stream is not. */
  async #check(id: string): Promise<void> {
    if (!this.state.pending.includes(id) || this.state.partial[id] || this.#stream.polling) return;
    await this.#reload().catch(() => {});
    if (!this.state.pending.includes(id)) this.#stream.distrust();
    else this.#expecting = window.setTimeout(() => void this.#check(id), 2 * EXPECTED_WITHIN);
  }

  /** A conversation of which it is known what was said, opened if there is none. */
  #connect(): Promise<void> {
    if (this.#kept.id && this.state.known) return Promise.resolve();
    if (this.#opening) return this.#opening;
    const opening = this.#find().finally(() => {
      if (this.#opening === opening) this.#opening = null;
    });
    return (this.#opening = opening);
  }

  async #find(): Promise<void> {
    const { id, token } = this.#kept;
    if (!id) return this.#start();
    try {
      // told from its beginning, answers of long ago would be taken for those that are owed now
      await this.#follow(id);
    } catch (error) {
      if (!isGone(error) || token !== this.#kept.token) throw error;
      this.#leave(true);
      await this.#start();
    }
  }

  async #start(): Promise<void> {
    const { visitor, details, vouched } = this.#kept;
    const identity = this.#identity;
    const asked = bare({
      ...(identity ?? {}),
      ...(identity ? { resume: true } : {}),
      ...(details ? { pre_chat: details } : {}),
    });
    const opened = await this.#same(this.server.open(asked, visitor));
    // named while it was opened for nobody: open it again, now with both
    if (identity !== this.#identity) {
      this.memory.keep({ visitor: opened.token });
      return this.#start();
    }
    const { conversation_id: id, token } = opened;
    this.memory.keep({ id, token, visitor: token, status: "open", rated: false, vouched: Boolean(identity ?? (visitor && vouched)) });
    this.#stream.last = 0;
    this.#set({ known: true, rated: false });
    if (identity) await this.#reload();
    this.#tabs.tell({ kind: "changed" });
    this.#care();
  }

  // -- what is heard --------------------------------------------------------------------------------------------------

  #note(note: Note): void {
    if (note.kind === "changed") {
      if (!this.memory.lasting) return;
      const { id, who } = this.#kept;
      // somebody else came in another tab: the last word counts
      if (this.#identity && who !== subjectOf(this.#identity)) this.#forgetWho();
      if ((id ?? "") !== this.#shown) void this.#switch();
    } else if (note.kind === "read") {
      this.#set({ unread: 0 });
    } else if (note.id !== this.#kept.id) {
      return;
    } else if (note.kind === "event") {
      if (this.#stream.running || (note.heard.id !== null && note.heard.id <= this.#stream.last)) return;
      if (note.heard.id !== null) this.#stream.last = note.heard.id;
      this.#hear(note.heard);
    } else if (note.kind === "said") {
      if (holds(this.state, note.line.id)) return;
      this.#add(note.line);
      if (this.state.status !== "person" && !note.line.file) this.#set({ pending: [...this.state.pending, note.line.id] });
      this.#care();
    } else if (note.kind === "hello") {
      if (this.#stream.running) {
        this.#tabs.tell({ kind: "so far", id: note.id, partial: { ...this.state.partial }, last: this.#stream.last });
      }
    } else if (!this.#stream.running && note.last > this.#stream.last) {
      this.#stream.last = note.last;
      this.#set({ partial: bare({ ...note.partial }) });
    }
  }

  /** The id of the conversation that is shown. */
  #shown = "";

  async #switch(): Promise<void> {
    this.#tabs.want(false);
    this.#set({ ...NOTHING, ready: true, identified: this.state.identified, details: this.#kept.details ?? null });
    this.#shown = "";
    await this.#recall();
    this.#care();
  }

  #hear({ name, data }: Heard): void {
    if (typeof data !== "object" || data === null) return;
    if (name !== "token") this.#heard += 1;
    if (name === "token") {
      const { message_id: id, text, restart } = data as { message_id: string; text: string; restart?: boolean };
      this.#become(told(this.state, id, text, restart));
    } else if (name === "turn") {
      this.#turn(data as Turn);
    } else if (name === "agent_message") {
      const line = bare({ ...(data as Line), from: "agent" as const });
      if (!holds(this.state, line.id)) this.#arrived(line);
    } else if (name === "status") {
      const { status, name: agent } = data as { status: Status; name?: string };
      this.#status(status, agent ?? "");
    } else if (name === "error") {
      this.#become(unanswered(this.state, (data as { message_id?: string }).message_id ?? ""));
    }
  }

  #turn(turn: Turn): void {
    const { lines, pending } = this.state;
    if (lines.some((line) => line.turn?.id === turn.id)) return;
    const line: Line = bare({ id: turn.id, from: "bot", text: turn.text, at: new Date().toISOString(), turn });
    if (pending.length === 0) {
      // another device asked: show the whole conversation anew
      if (turn.status !== "waiting") void this.#reload().catch(() => {});
      else if (turn.text) this.#arrived(line);
      return;
    }
    this.#become(answered(this.state, line));
    if (turn.text) this.#noticed(line);
    this.#care();
  }

  #arrived(line: Line): void {
    this.#add(line);
    this.#noticed(line);
  }

  #noticed(line: Line): void {
    this.ears.message(line);
    const looking = this.#open && document.visibilityState === "visible";
    if (looking) return this.#read();
    const unread = this.state.unread + 1;
    this.memory.keep({ unread });
    this.#set({ unread });
    this.ears.unread(unread);
  }

  #read(): void {
    const seen = this.state.lines.findLast((line) => !line.sending)?.id;
    if (seen) this.memory.keep({ seen, unread: 0 });
    if (this.state.unread === 0) return;
    this.#set({ unread: 0 });
    this.ears.unread(0);
    this.#tabs.tell({ kind: "read" });
  }

  #status(status: Status, agent: string): void {
    if (status === this.state.status && agent === this.state.agent) return;
    this.#heard += 1;
    this.#set({ status, agent, pending: status === "person" ? [] : this.state.pending });
    this.#remember();
    this.ears.status(status, agent);
  }

  /** Everything said, from the record; what is on its way from here stays. */
  async #reload(): Promise<void> {
    const { id, token, seen } = this.#kept;
    this.#followed = token;
    const heard = this.#heard;
    const said: Conversation = await this.server.read(id!, token!);
    if (id !== this.#kept.id) return;
    // what was said meanwhile need not be in it, and must not vanish
    if (heard !== this.#heard) return this.#reload();
    const before = this.state;
    if (!this.#stream.running) this.#stream.last = said.last_event_id;
    this.#shown = id!;
    this.#become(recorded(before, said, bare({ ...(this.#stream.running ? before.partial : {}) })));
    this.#remember();
    const fresh = missed(before, this.state, seen);
    for (const line of fresh) if (before.ready) this.ears.message(line);
    if (this.#open && document.visibilityState === "visible") this.#read();
    else if (fresh.length) {
      const unread = before.ready ? before.unread + fresh.length : fresh.length;
      this.memory.keep({ unread });
      this.#set({ unread });
      this.ears.unread(unread);
    }
  }

  #leave(keepLines = false): void {
    this.#tabs.want(false);
    this.#stream.last = 0;
    this.#shown = "";
    this.memory.keep({ id: undefined, token: undefined, visitor: undefined, vouched: undefined, status: undefined, unread: 0, seen: undefined, rated: false });
    const lines = keepLines ? this.state.lines.filter((line) => line.sending) : [];
    const pending = lines.map((line) => line.id);
    this.#set({ known: false, status: "open", agent: "", lines, pending, partial: bare({}), unread: 0, rated: false, strip: "" });
  }

  // -- the state ------------------------------------------------------------------------------------------------------

  #add(line: Line): void {
    this.#heard += 1;
    this.#set({ lines: [...this.state.lines, line] });
  }

  #mark(id: string, changes: Partial<Shown>): void {
    this.#become(marked(this.state, id, changes));
  }

  #strip(strip: State["strip"]): void {
    if (strip !== this.state.strip) this.#set({ strip });
  }

  /** What the loader of the next page must know without asking. */
  #remember(): void {
    const { status, pending } = this.state;
    this.memory.keep({ status: pending.length ? "waiting" : status });
    this.#shown = this.#kept.id ?? "";
  }

  #set(changes: Partial<State>): void {
    this.#become(bare({ ...this.state, ...changes }));
  }

  #become(state: State): void {
    if (state === this.state) return;
    this.state = state;
    this.ears.change();
  }
}

export type { Site };
