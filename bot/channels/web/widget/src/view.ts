// What the parts of the panel share: the words, the chat, and what links may lead to. Handed down, never looked up.

import type { Chat } from "./chat";
import type { Ground } from "./links";
import type { Site } from "./protocol";
import { bare } from "./bare";
import { fill, type Tongue, type Words } from "./words";

export interface View {
  chat: Chat;
  site: Site | null;
  ground: Ground;
  tongue: Tongue;
  words: Words;
  /** Says something to those who do not see, once. */
  speak(text: string): void;
  /** What went wrong, for whoever runs the page; customers read their own words. */
  trouble(problem: unknown): void;
}

export function timeOf(at: string, view: View): string {
  const date = new Date(at);
  if (Number.isNaN(date.getTime())) return "";
  const today = new Date().toDateString() === date.toDateString();
  const shape = Object.assign(Object.create(null), { hour: "numeric", minute: "2-digit" }, today ? {} : { month: "short", day: "numeric" });
  return new Intl.DateTimeFormat(view.tongue.language, shape).format(date);
}

/** What customers are told outside of business hours, in their words and their time; "" within. */
export function closedText({ site, tongue, words }: View): string {
  if (site?.open !== false) return "";
  if (!site.opens_at) return site.hours_text || words.closed;
  const at = Date.parse(site.opens_at);
  const days = (at - Date.now()) / (24 * 3_600_000);
  if (days <= 0) return ""; // open by now; what is known is from before
  const say = (shape: Intl.DateTimeFormatOptions): string => new Intl.DateTimeFormat(tongue.language, bare(shape)).format(at);
  const day = say(days < 6 ? { weekday: "long" } : { weekday: "long", day: "numeric", month: "long" });
  return fill(words.backAt, { day, time: say({ hour: "numeric", minute: "2-digit" }) });
}

export function sizeOf(bytes: number): string {
  if (bytes < 1_000_000) return `${Math.max(1, Math.round(bytes / 1_000))} kB`;
  return `${(bytes / 1_000_000).toFixed(bytes < 10_000_000 ? 1 : 0).replace(/\.0$/, "")} MB`;
}
