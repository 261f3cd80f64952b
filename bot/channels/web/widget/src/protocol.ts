// The JSON of the HTTP contract, as far as the widget reads it, and the commands and events of `window.Frontdesk`.

export type Status = "open" | "waiting" | "person" | "resolved";

export interface Citation {
  title: string;
  url: string;
  quote: string;
}

export interface Turn {
  id: string;
  status: string;
  text: string;
  citations: Citation[];
  suggestions: string[];
}

export interface FileInfo {
  id: string;
  name: string;
  bytes: number;
  type: string;
}

export interface Line {
  id: string;
  from: "customer" | "bot" | "agent";
  text: string;
  at: string;
  turn?: Turn;
  name?: string;
  file?: FileInfo;
}

export interface Conversation {
  status: Status;
  last_event_id: number;
  messages: Line[];
  /** Of the agent who has the conversation, while one has. */
  name?: string;
}

export interface Summary {
  conversation_id: string;
  status: Status;
  started_at: string;
  last_at: string;
  last_text: string;
  unread: number;
}

export interface Opened {
  conversation_id: string;
  token: string;
  expires_at?: string;
  status?: Status;
}

export interface Site {
  site: string;
  name: string;
  title: string;
  greeting: string;
  colour: string;
  position: "right" | "left";
  mode: "auto" | "light" | "dark";
  suggestions: Record<string, string[]>;
  link_hosts: string[];
  open: boolean;
  hours_text: string | null;
  /** The next opening, in UTC; null while people are in or without hours, missing where the service is older. */
  opens_at?: string | null;
  pre_chat: ("name" | "email")[];
  identity_required: boolean;
  files: { types: string[]; max_bytes: number };
}

/** What a company's page may set at run time; all of it overrides what the console says. */
export interface Theme {
  colour?: string;
  title?: string;
  greeting?: string;
  position?: "right" | "left";
  mode?: "auto" | "light" | "dark";
}

/** A signed-in customer: a JWT of the company's backend, or the older pair of id and HMAC. */
export type Identity = { identity: string } | { user_id: string; identity_hash: string };

export type EventName = "ready" | "open" | "close" | "message" | "unread" | "status" | "error";
export type Hear = (detail: unknown) => void;

/** What the loader hands to the app, once. */
export interface Start {
  origin: string;
  site: string;
  /** The name under which the browser keeps what belongs to this site. */
  key: string;
  locale: string;
  host: HTMLElement;
  root: ShadowRoot;
  button: HTMLButtonElement;
  config: Promise<Site | null>;
  theme: Theme;
  ears: Map<unknown, Set<Hear>>;
  tell(name: EventName, detail?: unknown): void;
  paint(theme: Theme): void;
}

export interface App {
  run(command: unknown, ...rest: unknown[]): void;
}
