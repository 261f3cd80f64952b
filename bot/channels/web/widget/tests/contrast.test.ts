// Every brand colour gets an ink and a tint that can be read. Known values are from WCAG's own examples.

import assert from "node:assert/strict";
import { test } from "node:test";
import { BLACK, contrast, inkOn, parseColour, readable, toHex, WHITE, type Colour } from "../src/contrast";

test("contrast is WCAG's", () => {
  assert.equal(contrast(WHITE, BLACK), 21);
  assert.equal(contrast(WHITE, WHITE), 1);
  assert.equal(contrast(WHITE, parseColour("#767676")!).toFixed(2), "4.54");
  assert.equal(contrast(parseColour("#777777")!, WHITE).toFixed(2), "4.48");
  assert.equal(contrast(parseColour("#ff0000")!, WHITE).toFixed(2), "4.00");
});

test("colours are read and written", () => {
  assert.deepEqual(parseColour("#1f5fBF"), [31, 95, 191]);
  assert.deepEqual(parseColour(" #fa0 "), [255, 170, 0]);
  assert.equal(toHex([31, 95, 191]), "#1f5fbf");
  for (const text of ["red", "#12", "#1234567", "url(x)", "", "#gggggg"]) assert.equal(parseColour(text), null);
});

test("on every colour there is ink at 4.5 or more, and every colour has a readable form on both cards", () => {
  let tried = 0;
  const cards: Colour[] = [WHITE, [33, 36, 42]];
  for (let r = 0; r < 256; r += 15) {
    for (let g = 0; g < 256; g += 15) {
      for (let b = 0; b < 256; b += 15) {
        const colour: Colour = [r, g, b];
        assert.ok(contrast(inkOn(colour), colour) >= 4.5, toHex(colour));
        for (const card of cards) assert.ok(contrast(readable(colour, card), card) >= 4.5, toHex(colour));
        tried += 1;
      }
    }
  }
  assert.ok(tried > 5_000);
});

test("a colour that can be read is left as it is, and white ink is preferred", () => {
  assert.deepEqual(readable([20, 88, 76], WHITE), [20, 88, 76]);
  assert.equal(inkOn([20, 88, 76]), WHITE);
  assert.equal(inkOn([242, 184, 75]), BLACK);
});
