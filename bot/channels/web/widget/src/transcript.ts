// What was said as plain text, for the customer to keep.

import type { Shown } from "./state";
import type { View } from "./view";

export function transcript(lines: readonly Shown[], title: string, view: View): string {
  const { words } = view;
  const stamp = new Intl.DateTimeFormat(view.tongue.language, Object.assign(Object.create(null), { dateStyle: "medium", timeStyle: "short" }));
  const said = lines.map((line) => {
    const who = line.from === "customer" ? words.you : line.from === "agent" ? line.name || words.agent : words.bot;
    const date = new Date(line.at);
    const when = Number.isNaN(date.getTime()) ? "" : `[${stamp.format(date)}] `;
    const sources = (line.turn?.citations ?? []).map((citation, at) => `  [${at + 1}] ${citation.title}`);
    return [`${when}${who}: ${line.file ? line.file.name : line.text}`, ...sources].join("\n");
  });
  return `${title}\n\n${said.join("\n\n")}\n`;
}
