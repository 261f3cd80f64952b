// The widget's side of the HTTP contract: one method a route. Knows neither the page nor what is remembered.

import { bare, parse } from "./bare";
import type { Conversation, FileInfo, Identity, Opened, Site, Status, Summary } from "./protocol";

/** A request that was refused, with the service's own words: for whoever runs the page, not for its customers. */
export class Refused extends Error {
  constructor(
    readonly status: number,
    detail: string,
    readonly retryAfter: number,
  ) {
    super(detail || `HTTP ${status}`);
  }

  /** Whether the same request may succeed in a moment. */
  get passing(): boolean {
    return this.status === 429 || this.status >= 500;
  }

  /** Whether the conversation, or our right to it, is gone. */
  get gone(): boolean {
    return this.status === 401 || this.status === 404;
  }
}

export const isGone = (error: unknown): boolean => error instanceof Refused && error.gone;

/** For everything but files and streams, which have a signal of their own. */
const PATIENCE = 30_000;

interface Request {
  body?: object;
  form?: FormData;
  token?: string;
  signal?: AbortSignal;
  keepalive?: boolean;
}

export class Server {
  constructor(
    readonly origin: string,
    readonly site: string,
  ) {}

  describe(): Promise<Site> {
    return this.#call("GET", `/sites/${encodeURIComponent(this.site)}`, bare({}));
  }

  open(asked: Partial<Identity> & { resume?: boolean; pre_chat?: object }, token?: string): Promise<Opened> {
    return this.#call("POST", "/conversations", bare({ body: bare({ ...asked, site: this.site }), token }));
  }

  list(token: string): Promise<{ conversations: Summary[] }> {
    return this.#call("GET", "/conversations", bare({ token }));
  }

  token(id: string, token: string): Promise<{ token: string }> {
    return this.#call("POST", `/conversations/${id}/token`, bare({ body: bare({}), token }));
  }

  read(id: string, token: string): Promise<Conversation> {
    return this.#call("GET", `/conversations/${id}`, bare({ token }));
  }

  say(id: string, token: string, message: { id: string; text: string }): Promise<{ message_id: string }> {
    return this.#call("POST", `/conversations/${id}/messages`, bare({ body: bare({ ...message }), token }));
  }

  events(id: string, token: string, after: number, signal: AbortSignal): Promise<Response> {
    return this.#send("GET", `/conversations/${id}/events`, bare({ token, signal }), {
      Accept: "text/event-stream",
      "Last-Event-ID": String(after),
    });
  }

  person(id: string, token: string): Promise<{ status: Status }> {
    return this.#call("POST", `/conversations/${id}/handover`, bare({ body: bare({}), token }));
  }

  end(id: string, token: string): Promise<{ status: Status }> {
    return this.#call("POST", `/conversations/${id}/end`, bare({ body: bare({}), token }));
  }

  rate(id: string, token: string, stars: number, comment: string): Promise<null> {
    return this.#call("POST", `/conversations/${id}/rating`, bare({ body: bare({ stars, comment }), token }));
  }

  forget(id: string, token: string): Promise<null> {
    return this.#call("DELETE", `/conversations/${id}`, bare({ token }));
  }

  judge(turn: string, token: string, verdict: object): Promise<null> {
    return this.#call("POST", `/turns/${turn}/feedback`, bare({ body: verdict, token }));
  }

  /** What was clicked; not worth an error message. */
  async click(turn: string, token: string, what: object): Promise<void> {
    await this.#call("POST", `/turns/${turn}/click`, bare({ body: what, token, keepalive: true })).catch(() => {});
  }

  upload(id: string, token: string, file: File, signal: AbortSignal): Promise<FileInfo> {
    const form = new FormData();
    form.append("file", file, file.name);
    return this.#call("POST", `/conversations/${id}/files`, bare({ form, token, signal }));
  }

  async download(id: string, token: string): Promise<Blob> {
    return (await this.#send("GET", `/files/${encodeURIComponent(id)}`, bare({ token }), {})).blob();
  }

  async #call<T>(method: string, path: string, request: Request): Promise<T> {
    // a line that swallows what it is given would hold a message, and all behind it, for minutes
    const abort = new AbortController();
    const timer = setTimeout(() => abort.abort(), PATIENCE);
    try {
      const response = await this.#send(method, path, bare({ signal: abort.signal, ...request }), {});
      if (response.status === 204) return null as T;
      const answer = parse<T>(await response.text());
      if (answer === null) throw new Refused(502, "", 0);
      return answer;
    } finally {
      clearTimeout(timer);
    }
  }

  async #send(method: string, path: string, request: Request, headers: Record<string, string>): Promise<Response> {
    if (request.token) headers.Authorization = `Bearer ${request.token}`;
    if (request.body) headers["Content-Type"] = "application/json";
    const options = bare<RequestInit>({
      method,
      headers: bare(headers),
      credentials: "omit",
      referrerPolicy: "no-referrer",
      cache: "no-store",
      keepalive: request.keepalive ?? false,
      mode: "cors",
      redirect: "error",
    });
    const body = request.body ? JSON.stringify(request.body) : request.form;
    // an undefined member is not a missing one on every browser
    if (body !== undefined) options.body = body;
    if (request.signal) options.signal = request.signal;
    const response = await fetch(`${this.origin}/api/v1${path}`, options);
    if (response.ok) return response;
    const problem = parse<{ detail?: unknown }>(await response.text().catch(() => ""));
    const detail = typeof problem?.detail === "string" ? problem.detail : "";
    throw new Refused(response.status, detail, Number(response.headers.get("Retry-After")) || 0);
  }
}
