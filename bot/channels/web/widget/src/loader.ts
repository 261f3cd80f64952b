// What every page gets: the button, and a queue for calls made before the rest is here. The rest, `app.js`, is fetched when
// the customer goes near the button, when the page asks for it, or when somebody has written. At most 2 KB compressed.
//
//   <script async src="https://help.example/widget.js" data-site="shop"></script>

import type { App, EventName, Hear, Site, Start, Theme } from "./protocol";

/** Filled in by the service with the hash of the app's files. */
const VERSION = "__FRONTDESK_VERSION__";

// `all: initial !important` in :host stands above every rule of the page, also its !important ones
const CSS = `:host{all:initial!important;direction:ltr!important;display:block!important;position:fixed!important;z-index:2147483647!important}
.launcher{all:unset;position:fixed;bottom:max(20px,env(safe-area-inset-bottom));right:20px;width:60px;height:60px;border-radius:50%;display:grid;place-items:center;cursor:pointer;background:var(--accent);color:var(--ink);box-shadow:0 4px 20px #0004}
:host([data-position=left]) .launcher{right:auto;left:20px}
.launcher:focus-visible{outline:3px solid;outline-offset:-6px}
.launcher[aria-busy=true]{opacity:.7}
.launcher svg{width:28px;fill:none;stroke:currentColor;stroke-width:1.9}
@media print{:host{display:none!important}}`;

const LABELS = { en: "Open chat", zh: "打开聊天", es: "Abrir el chat", fr: "Ouvrir le chat", de: "Chat öffnen", pt: "Abrir o chat", ja: "チャットを開く", ar: "فتح المحادثة" };
const BUBBLE = "M12 4c5 0 9 3 9 7.5s-4 7.5-9 7.5l-3-.5L4.5 20.5l1-3.5C4 15.5 3 13.5 3 11.5 3 7 7 4 12 4z";

type Api = ((...call: unknown[]) => void) & { q?: ArrayLike<unknown>[]; here?: 1 };
declare global {
  interface Window {
    Frontdesk?: Api;
  }
}

// on a page whose Object.prototype was polluted, what is asked for must be what is written here
const bare = <T extends object>(value: T): T => Object.assign(Object.create(null), value) as T;

/** White where it can be read on the colour (4.5 and more), else black. */
function inkOn(colour: string): string {
  const [r, g, b] = [1, 3, 5].map((at) => (parseInt(colour.slice(at, at + 2), 16) / 255 + 0.055) / 1.055) as [number, number, number];
  return 0.2126 * r ** 2.4 + 0.7152 * g ** 2.4 + 0.0722 * b ** 2.4 < 0.183 ? "#fff" : "#000";
}

function begin(tag: HTMLScriptElement): void {
  const before = window.Frontdesk;
  if (before?.here) return; // the tag is on the page twice
  const { origin } = new URL(tag.src);
  const { site = "default", locale = "" } = bare({ ...tag.dataset });
  const key = `frontdesk.${site}`;
  let queue: unknown[][] = [];
  const ears = new Map<unknown, Set<Hear>>();
  const theme: Theme = bare({});
  let app: App | undefined;
  let fetching: Promise<void> | null = null;
  let tries = 0;
  let gone: boolean | undefined;

  let place: Storage | undefined;
  try {
    place = localStorage;
  } catch {
    // forbidden: nothing is kept
  }
  const kept = place?.[key] as string;

  const tell = (name: EventName, detail?: unknown): void => {
    ears.get(name)?.forEach((hear) => {
      // apart from us, because a fault of the page must not stop the chat
      queueMicrotask(() => hear(detail));
    });
  };

  const host = document.createElement("frontdesk-chat");
  const root = host.attachShadow(bare({ mode: "open" as const }));
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(CSS);
  root.adoptedStyleSheets = [sheet];
  const button = document.createElement("button");
  button.className = "launcher";
  const spoken = [locale, ...navigator.languages, "en"].map((each) => each.slice(0, 2)).find((each) => Object.hasOwn(LABELS, each));
  button.ariaLabel = LABELS[spoken as keyof typeof LABELS];
  button.ariaExpanded = "false";
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
  line.setAttribute("d", BUBBLE);
  svg.append(line);
  button.append(svg);

  const paint = (changes: Theme): void => {
    Object.assign(theme, changes);
    const own = getComputedStyle(host).getPropertyValue("--frontdesk-colour");
    const colour = [own, theme.colour].find((each) => /^#[0-9a-f]{6}$/i.test(each ?? "")) ?? "#1f5fbf";
    host.style.setProperty("--accent", colour);
    host.style.setProperty("--ink", inkOn(colour));
    host.dataset.position = theme.position;
  };

  // beside the body, so that a page that replaces or transforms its body does not take the chat with it
  document.documentElement.append(host);

  const load = (): Promise<void> =>
    (fetching ??= (async () => {
      button.ariaBusy = "true";
      try {
        const { start } = (await import(`${origin}/widget/${VERSION}/app.js?${tries}`)) as { start(given: Start): App };
        if (gone) return;
        app = start(bare({ origin, site, key, locale, host, root, button, config, theme, ears, tell, paint }));
        for (const [command, ...rest] of queue) app.run(command, ...rest);
        queue = [];
      } catch (error) {
        tries++;
        fetching = null;
        tell("error", error);
      }
      button.ariaBusy = "false";
    })());

  const api: Api = (...call) => {
    const [command, first, second] = call;
    if (command === "on" || command === "off") {
      const heard = ears.get(first) ?? new Set();
      heard[command === "on" ? "add" : "delete"](second as Hear);
      ears.set(first, heard);
      return;
    }
    if (command === "theme") paint(first as Theme);
    // at once, because the page may go before the rest is here
    if (command === "logout") place?.removeItem(key);
    if (command === "destroy") {
      gone = true;
      host.remove();
      delete window.Frontdesk;
    }
    if (app) app.run(command, first);
    else {
      queue.push(call);
      // what was said here before anybody was named is this customer's: settled now, before another one comes
      if (/^(open|toggle|send|identify{(?!.*vouched":t))/.test((command as string) + kept)) load();
    }
  };
  api.here = 1;
  window.Frontdesk = api;

  button.onpointerenter = button.onfocus = load;
  button.onclick = () => api(app ? "toggle" : "open");

  // the button shows once it is known what it looks like, or after a moment without an answer
  const config: Promise<Site | null> = fetch(`${origin}/api/v1/sites/${site}`, bare({ credentials: "omit" as const }))
    .then((answer) => (answer.ok ? answer.json() : null))
    .catch(() => null);
  const show = (known?: Site | null): void => {
    paint(known ? bare({ colour: known.colour, position: known.position, ...theme }) : theme);
    if (!button.parentNode) root.append(button);
  };
  setTimeout(show, 1000);
  config.then(show);

  for (const call of before?.q ?? []) api(...(call as unknown[]));

  // somebody has written, or writes: the badge must show, and a panel that was open stays open on the next page
  if (/"unread":[1-9]|"status":"(wait|pers)|"outbox"/.test(kept) || (place && sessionStorage[key])) load();
}

const tag = (document.currentScript ?? document.querySelector('script[src*="/widget.js"]')) as HTMLScriptElement;
if (tag) begin(tag);
