// Builds the widget: `node build.mjs [folder]` writes dist/, `node build.mjs --tests` the unit tests into .tests/.
// Two programs: the loader, a plain script that every page gets, and the app, a module that is fetched when wanted.
// dist/ is committed. SOURCES holds the hash of what it was made from, so that a stale build is seen without Node.

import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
process.chdir(here);
const { build } = await import("vite");

/**
 * preact without its one way from text to HTML, and without what a polluted Object.prototype would reach: its empty object,
 * and the element that it hands to `createElementNS` beside the name. The build stops when preact no longer looks like this.
 */
const withoutSinks = {
  name: "without-sinks",
  transform(code, id) {
    if (!/preact\/dist\/preact\.mjs$/.test(id)) return null;
    const once = (pattern, instead) => {
      if (code.match(new RegExp(pattern, "g"))?.length !== 1) throw new Error(`preact has changed: ${pattern} is not there once`);
      code = code.replace(pattern, instead);
    };
    once(/createElementNS\((\w+),(\w+),\w+\.is\?\w+:\w+\)/, "createElementNS($1,$2)");
    once(/(\w)=\{\},(?=\w=\[\],\w=\/\^m\()/, "$1=Object.create(null),");
    once(/\w+\.__html==\w+\.innerHTML/, "1");
    once(/\w+\.innerHTML=\w+\.__html/, "0");
    return code;
  },
};

const shared = {
  plugins: [withoutSinks],
  root: here,
  configFile: false,
  publicDir: false,
  logLevel: "warn",
  oxc: { jsx: { runtime: "classic", pragma: "h", pragmaFrag: "Fragment" } },
};

function product(folder, entry, output) {
  return build({
    ...shared,
    define: { "process.env.NODE_ENV": '"production"' },
    build: {
      outDir: folder,
      emptyOutDir: false,
      target: "es2022",
      modulePreload: false,
      reportCompressedSize: false,
      // a library, so that nothing is added for pages of ours: no preloading, which needs a link element
      lib: { entry, name: "frontdesk", formats: [output.format] },
      rolldownOptions: { output: { ...output, minify: { compress: true, mangle: true, codegen: { removeWhitespace: true } } } },
    },
  });
}

/** One hash over all sources, each with its path: what SOURCES holds, and what the fast test computes again. */
export function sourcesHash() {
  const names = ["package-lock.json", "build.mjs", ...walk("src")].sort();
  const hash = createHash("sha256");
  for (const name of names) hash.update(`${name}\0`).update(readFileSync(name)).update("\0");
  return hash.digest("hex");
}

function walk(folder) {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) =>
    entry.isDirectory() ? walk(`${folder}/${entry.name}`) : [`${folder}/${entry.name}`],
  );
}

if (process.argv[2] === "--tests") {
  rmSync(".tests", { recursive: true, force: true });
  await build({
    ...shared,
    ssr: { noExternal: true },
    build: {
      outDir: ".tests",
      ssr: true,
      minify: false,
      target: "node20",
      rolldownOptions: {
        input: readdirSync("tests").map((name) => `tests/${name}`),
        output: { entryFileNames: "[name].mjs", chunkFileNames: "chunks/[name].mjs" },
      },
    },
  });
} else {
  const folder = resolve(process.argv[2] ?? "dist");
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  await product(folder, "src/loader.ts", { format: "iife", entryFileNames: "widget.js" });
  await product(folder, "src/app.tsx", {
    format: "es",
    entryFileNames: "app.js",
    chunkFileNames: "words-[name].js",
  });
  // what is bundled asks that its notice goes with it
  const notices = ["preact", "eventsource-parser"].map((part) => `${part}\n\n${readFileSync(`node_modules/${part}/LICENSE`, "utf8").trim()}\n`);
  writeFileSync(join(folder, "NOTICES"), notices.join("\n---\n\n"));
  const app = join(folder, "app.js");
  writeFileSync(app, `/*! with preact and eventsource-parser, both MIT: see NOTICES of frontdesk */\n${readFileSync(app, "utf8")}`);
  writeFileSync(join(folder, "SOURCES"), `${sourcesHash()}\n`);
}
