// A bot's text as a tree: paragraphs, lists, tables, code, emphasis, links and the marks of sources. No HTML, no pictures.
// Knows no DOM; `message.tsx` turns the tree into elements. Whatever is not understood stays the text it is.

export type Inline =
  | string
  | { kind: "strong" | "em"; inside: Inline[] }
  | { kind: "code"; text: string }
  | { kind: "link"; address: string; inside: Inline[] }
  | { kind: "mark"; number: number };

export type Block =
  | { kind: "p" | "h"; inside: Inline[] }
  | { kind: "ul"; items: Inline[][] }
  | { kind: "ol"; start: number; items: Inline[][] }
  | { kind: "table"; head: Inline[][]; rows: Inline[][][] }
  | { kind: "pre"; text: string };

type Kind = "ul" | "ol" | "table" | "h" | "p";

const ITEM = /^ {0,3}[-*•] +/;
const NUMBERED = /^ {0,3}(\d{1,3})[.)] +/;
const HEADING = /^#{1,6} +/;
const RULE = /^[\s|:-]*-[\s|:-]*$/;

export function blocks(text: string): Block[] {
  const found: Block[] = [];
  let group = null as { kind: Kind; lines: string[] } | null;
  const close = (): void => {
    if (group) found.push(block(group.kind, group.lines));
    group = null;
  };
  const lines = text.replace(/\r\n?/g, "\n").split("\n");
  for (let at = 0; at < lines.length; at++) {
    const line = lines[at]!;
    if (/^ {0,3}```[\w+-]*\s*$/.test(line)) {
      close();
      const code: string[] = [];
      while (++at < lines.length && !/^ {0,3}```\s*$/.test(lines[at]!)) code.push(lines[at]!);
      found.push({ kind: "pre", text: code.join("\n") });
    } else if (line.trim() === "") {
      close();
    } else {
      const kind = kindOf(line);
      if (kind === "h" || group?.kind !== kind) close();
      group ??= { kind, lines: [] };
      group.lines.push(line);
    }
  }
  close();
  return found;
}

function kindOf(line: string): Kind {
  if (ITEM.test(line)) return "ul";
  if (NUMBERED.test(line)) return "ol";
  if (HEADING.test(line)) return "h";
  return line.includes(" | ") || /^\|.*\|\s*$/.test(line) ? "table" : "p";
}

function block(kind: Kind, lines: string[]): Block {
  switch (kind) {
    case "ul":
      return { kind, items: lines.map((line) => inline(line.replace(ITEM, ""))) };
    case "ol":
      return {
        kind,
        start: Number(NUMBERED.exec(lines[0]!)![1]),
        items: lines.map((line) => inline(line.replace(NUMBERED, ""))),
      };
    case "h":
      return { kind, inside: inline(lines[0]!.replace(HEADING, "")) };
    case "table": {
      // one line alone is a sentence with a bar in it
      if (lines.length === 1) return { kind: "p", inside: inline(lines[0]!) };
      const cells = (line: string): Inline[][] =>
        line.replace(/^\s*\|/, "").replace(/\|\s*$/, "").split("|").map((cell) => inline(cell.trim()));
      const rows = lines.slice(1).filter((line) => !RULE.test(line));
      return { kind, head: cells(lines[0]!), rows: rows.map(cells) };
    }
    case "p":
      return { kind, inside: inline(lines.join("\n")) };
  }
}

// What may begin inside a line, in the order in which it is tried at each place.
const SPANS: readonly [RegExp, (match: RegExpExecArray, depth: number) => Inline][] = [
  [/`([^`\n]+)`/y, (m) => ({ kind: "code", text: m[1]! })],
  [/ ?\[(\d{1,2})\](?!\()/y, (m) => ({ kind: "mark", number: Number(m[1]) })],
  [/\[([^[\]\n]{1,300})\]\(\s*([^\s()<>]{1,2000}(?:\([^\s()<>]*\)[^\s()<>]*)?)(?:\s+"[^"\n]*")?\s*\)/y, (m, d) => ({ kind: "link", address: m[2]!, inside: inline(m[1]!, d + 1) })],
  [/\*\*(?=\S)([^\n]*?\S)\*\*(?!\*)/y, (m, d) => ({ kind: "strong", inside: inline(m[1]!, d + 1) })],
  [/\*(?=[^\s*])([^*\n]*[^\s*])\*(?![\w*])/y, (m, d) => ({ kind: "em", inside: inline(m[1]!, d + 1) })],
  [/_(?=[^\s_])([^_\n]*[^\s_])_(?![\w_])/y, (m, d) => ({ kind: "em", inside: inline(m[1]!, d + 1) })],
  [/https:\/\/[^\s<>"'`\])\u3000-\u30ff\u3400-\u9fff\uff00-\uffef]*[^\s<>"'`\]).,;:!?\u3000-\u30ff\u3400-\u9fff\uff00-\uffef]/y, (m) => ({ kind: "link", address: m[0], inside: [m[0]] })],
];

/** One paragraph's text. Nests at most four deep, so that hostile text costs no more than its length. */
export function inline(text: string, depth = 0): Inline[] {
  if (depth > 3) return [text];
  const found: Inline[] = [];
  let plain = 0;
  for (let at = 0; at < text.length; at++) {
    if (!"`[*_h ".includes(text[at]!)) continue;
    // a marker in the middle of a word is part of the word: 2*3*4, snake_case; Chinese has no spaces before an address
    const within = text[at] === "h" ? /[a-z0-9]/i : /[\p{L}\p{N}]/u;
    if ("*_h".includes(text[at]!) && at > 0 && within.test(text[at - 1]!) && !text.startsWith("**", at)) continue;
    for (const [pattern, make] of SPANS) {
      pattern.lastIndex = at;
      const match = pattern.exec(text);
      if (!match) continue;
      if (at > plain) found.push(text.slice(plain, at));
      found.push(make(match, depth));
      at += match[0].length - 1;
      plain = at + 1;
      break;
    }
  }
  if (plain < text.length) found.push(text.slice(plain));
  return found;
}

/** Text that is still being written, without the half of a link or of an emphasis at its end. */
export function settled(text: string): string {
  return text
    .replace(/ ?\[([^[\]\n]*)(\]\([^)\n]*|\])?$/, (whole, label: string, rest?: string) => {
      if (/^\d*$/.test(label)) return rest === "]" ? whole : "";
      return rest === "]" ? whole : (whole.startsWith(" ") ? " " : "") + label;
    })
    .replace(/(^|[\s(])(\*\*?|_|`)(?!\s)([^*_`\n]*)$/, "$1$3");
}

/** The text as it is read aloud: its words, without markers, addresses and marks of sources. */
export function aloud(text: string): string {
  const words = (inside: Inline[]): string =>
    inside.map((each) => (typeof each === "string" ? each : each.kind === "code" ? each.text : each.kind === "mark" ? "" : words(each.inside))).join("");
  const line = (block: Block): string => {
    if (block.kind === "pre") return block.text;
    if (block.kind === "ul" || block.kind === "ol") return block.items.map(words).join("\n");
    if (block.kind === "table") return [block.head, ...block.rows].map((row) => row.map(words).join(", ")).join("\n");
    return words(block.inside);
  };
  return blocks(text).map(line).join("\n");
}
