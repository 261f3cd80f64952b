// Which language the widget speaks, and its words. Answers come from the service; only the furniture is here.

import english, { type Words } from "./words/en";

export type { Words };

const OTHERS: Record<string, () => Promise<{ default: Words }>> = {
  zh: () => import("./words/zh"),
  es: () => import("./words/es"),
  fr: () => import("./words/fr"),
  de: () => import("./words/de"),
  pt: () => import("./words/pt"),
  ja: () => import("./words/ja"),
  ar: () => import("./words/ar"),
};

export interface Tongue {
  language: string;
  words: Words;
  direction: "ltr" | "rtl";
}

export const ENGLISH: Tongue = { language: "en", words: english, direction: "ltr" };

/** The first of these languages that we speak; English where none is. */
export function choose(wanted: readonly string[]): string {
  for (const each of wanted) {
    const code = each.toLowerCase().split(/[-_]/)[0]!;
    if (code === "en" || Object.hasOwn(OTHERS, code)) return code;
  }
  return "en";
}

/** The words of a language; English when they cannot be fetched. */
export async function tongue(language: string): Promise<Tongue> {
  if (language === "en") return ENGLISH;
  try {
    const { default: words } = await OTHERS[language]!();
    return { language, words, direction: language === "ar" ? "rtl" : "ltr" };
  } catch {
    return ENGLISH;
  }
}

/** `{n}` and the like in `text` replaced. */
export function fill(text: string, values: Record<string, string | number>): string {
  return text.replace(/\{(\w+)\}/g, (whole, name: string) => (Object.hasOwn(values, name) ? String(values[name]) : whole));
}

/** The language a text is written in, as far as its script tells; "" where it does not. */
export function scriptOf(text: string): string {
  if (/[\u3040-\u30ff]/.test(text)) return "ja";
  if (/[\u3400-\u9fff]/.test(text)) return "zh";
  return /[\u0600-\u06ff]/.test(text) ? "ar" : "";
}
