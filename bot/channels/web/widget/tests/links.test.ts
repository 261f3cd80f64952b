// Where the text of a bot may lead, and where citations may.

import assert from "node:assert/strict";
import { test } from "node:test";
import { bodyLink, citationLink } from "../src/links";

const GROUND = { origin: "https://help.example", hosts: ["larkmoor.example", "*.docs.example"] };

test("https to the hosts of the site, our own articles, and mail", () => {
  assert.equal(bodyLink("https://larkmoor.example/a?b#c", GROUND), "https://larkmoor.example/a?b#c");
  assert.equal(bodyLink("https://en.docs.example/", GROUND), "https://en.docs.example/");
  assert.equal(bodyLink("/articles/a.md#p-1", GROUND), "https://help.example/articles/a.md#p-1");
  assert.equal(bodyLink("mailto:help@larkmoor.example", GROUND), "mailto:help@larkmoor.example");
  assert.equal(bodyLink("mailto:help@larkmoor.example?body=secret&cc=x@y.z", GROUND), "mailto:help@larkmoor.example", "and nothing with it");
});

test("nothing else", () => {
  const refused = [
    "javascript:alert(1)", "JaVaScRiPt:alert(1)", " javascript:alert(1)", "java\nscript:alert(1)", "data:text/html,x", "vbscript:x",
    "http://larkmoor.example/", "https://evil.example/", "//evil.example/", "https://larkmoor.example.evil.example/",
    "https://evil.example/#larkmoor.example", "https://larkmoor.example@evil.example/", "https://user:pass@larkmoor.example/",
    "https://larkmoor.example:8443/", "https://docs.example/", "https://evildocs.example/", "blob:https://larkmoor.example/x",
    "file:///etc/passwd", "mailto:a@b.c&cc=x@y.z", "mailto:", "mailto:a@b.c,x@y.z?x", "https://", "https://[", "",
    "tel:123", "intent://x", "\u0000https://evil.example", "https:\\\\evil.example",
  ].filter((each) => each !== ""); // prettier-ignore
  for (const address of refused) assert.equal(bodyLink(address, GROUND), null, JSON.stringify(address));
  assert.ok(refused.length > 25);
});

test("a citation opens our article or a page that was read over https", () => {
  assert.equal(citationLink("/articles/a.md", GROUND), "https://help.example/articles/a.md");
  assert.equal(citationLink("https://anywhere.example/a", GROUND), "https://anywhere.example/a");
  for (const address of ["javascript:alert(1)", "data:text/html,x", "http://anywhere.example/", "https://u:p@x.example/", "mailto:a@b.c"]) {
    assert.equal(citationLink(address, GROUND), null, address);
  }
});
