// What the parts of the panel share: the words, the chat, and what links may lead to. Handed down, never looked up.

import type { Chat } from "./chat";
import type { Ground } from "./links";
import type { Site } from "./protocol";
import type { Tongue, Words } from "./words";

export interface View {
  chat: Chat;
  site: Site | null;
  ground: Ground;
  tongue: Tongue;
  words: Words;
  /** Says something to those who do not see, once. */
  speak(text: string): void;
}

export function timeOf(at: string, view: View): string {
  const date = new Date(at);
  if (Number.isNaN(date.getTime())) return "";
  const today = new Date().toDateString() === date.toDateString();
  const shape = Object.assign(Object.create(null), { hour: "numeric", minute: "2-digit" }, today ? {} : { month: "short", day: "numeric" });
  return new Intl.DateTimeFormat(view.tongue.language, shape).format(date);
}

export function sizeOf(bytes: number): string {
  if (bytes < 1_000_000) return `${Math.max(1, Math.round(bytes / 1_000))} kB`;
  return `${(bytes / 1_000_000).toFixed(bytes < 10_000_000 ? 1 : 0).replace(/\.0$/, "")} MB`;
}
