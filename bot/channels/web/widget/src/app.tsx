// The widget behind the button: puts the panel on the page, opens and closes it, and does what `window.Frontdesk` asks.
// Owns everything that touches the page around it, and takes all of it back with `destroy`.

import { render } from "preact";
import { Chat } from "./chat";
import { BLACK, inkOn, mix, parseColour, readable, toHex, WHITE, type Colour } from "./contrast";
import { bare } from "./bare";
import { h, Fragment } from "./h";
import { aloud } from "./markdown";
import { Memory } from "./memory";
import { Panel } from "./panel";
import type { App, Identity, Line, Site, Start, Theme } from "./protocol";
import { Server } from "./server";
import type { State } from "./state";
import css from "./style.css?inline";
import { closedText, type View } from "./view";
import { choose, ENGLISH, fill, tongue, type Tongue } from "./words";

const SMALL = "(max-width: 500px), (max-height: 420px)";
const STALE_AFTER = 3 * 60_000;
const CARDS: Record<"light" | "dark", Colour> = { light: WHITE, dark: [33, 36, 42] };

export function start(given: Start): App {
  const { host, root, button, ears, tell } = given;
  const server = new Server(given.origin, given.site);
  const memory = new Memory(given.key);
  const small = matchMedia(SMALL);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let site: Site | null = null;
  let asked = 0;
  let speech: Tongue = ENGLISH;
  let open = false;
  let gone = false;
  let full = false;
  let pushed = false;
  let spoken = "";
  let view: View;
  let drawing = 0;

  const badge = document.createElement("span");
  badge.className = "badge";
  badge.ariaHidden = "true";
  button.ariaHasPopup = "dialog";
  button.firstElementChild!.setAttribute("aria-hidden", "true");
  button.append(badge);
  const bubble = button.querySelector("path")!.getAttribute("d")!;
  const place = document.createElement("div");
  place.className = "root";
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(css);
  root.adoptedStyleSheets = [...root.adoptedStyleSheets, sheet];
  root.append(place);

  const chat = new Chat(server, memory, {
    change: () => draw(),
    message: (line) => {
      if (line.from !== "customer" && open) speak(`${nameOf(line)}: ${aloud(line.text) || (line.file?.name ?? "")}`);
      tell("message", bare({ from: line.from, text: line.text, at: line.at }));
    },
    unread: (count) => tell("unread", count),
    status: (status, agent) => {
      const { words } = speech;
      const announcements = { person: agent ? fill(words.withName, { name: agent }) : words.withPerson, resolved: words.resolved, open: words.botAgain };
      if (status === "waiting") void renew().then(() => open && speak(`${words.waiting} ${closedText(view)}`));
      else if (open) speak(announcements[status]);
      tell("status", bare({ status, agent }));
    },
    trouble,
  });
  const nameOf = (line: Line): string => (line.from === "agent" ? line.name || speech.words.agent : speech.words.bot);

  function trouble(problem: unknown): void {
    console.warn("Frontdesk:", problem);
    tell("error", problem);
  }

  function speak(text: string): void {
    spoken = text.trim();
    draw();
  }

  // -- drawing --------------------------------------------------------------------------------------------------------

  function draw(): void {
    if (drawing || gone) return;
    // one drawing for all that happened at once; not a frame, which hidden pages never get
    drawing = window.setTimeout(() => {
      drawing = 0;
      if (!gone) paint();
    });
  }

  function paint(): void {
    const { state } = chat;
    const { words } = speech;
    place.dir = speech.direction;
    place.lang = speech.language;
    badge.textContent = state.unread ? String(Math.min(state.unread, 99)) : "";
    button.ariaLabel = [open ? words.closeChat : words.openChat, state.unread ? fill(words.unread, { n: state.unread }) : ""].filter(Boolean).join(". ");
    button.ariaExpanded = String(open);
    button.hidden = open && full;
    button.querySelector("path")!.setAttribute("d", open ? "M6 9.5l6 6 6-6" : bubble);
    button.dir = speech.direction;
    if (open) button.setAttribute("aria-controls", "frontdesk-panel");
    else button.removeAttribute("aria-controls");
    const title = given.theme.title || site?.title || site?.name || words.bot;
    const greeting = given.theme.greeting || site?.greeting || "";
    const held = root.activeElement;
    render(
      <Fragment>
        {open && <Panel view={view} state={state as State} title={title} greeting={greeting} full={full} unreachable={asked && !site ? () => void ask() : null} close={close} />}
        <p class="unseen" role="status">{spoken || null}</p>
      </Fragment>,
      place,
    );
    // what had the focus may be gone, a button that did its work for one: the focus stays in the panel
    if (open && held && !root.activeElement) root.getElementById("frontdesk-panel")?.focus(bare({ preventScroll: true }));
  }

  function look(): void {
    const mode = given.theme.mode ?? site?.mode ?? "auto";
    const scheme = mode === "dark" || (mode !== "light" && dark.matches) ? "dark" : "light";
    place.dataset.scheme = scheme;
    const accent = parseColour(host.style.getPropertyValue("--accent")) ?? [31, 95, 191];
    // on the dark card a dark brand colour would be a hole: it is lightened until it can be read as text
    const text = readable(accent, CARDS[scheme]);
    const tint = mix(CARDS[scheme], text, scheme === "dark" ? 0.16 : 0.09);
    const set = (name: string, colour: Colour): void => place.style.setProperty(name, toHex(colour));
    set("--text-accent", readable(text, tint));
    set("--tint", tint);
    set("--tint-line", mix(CARDS[scheme], text, 0.34));
    set("--quiet-ink", mix(inkOn(accent), accent, inkOn(accent) === BLACK ? 0 : 0.06));
  }

  function refresh(): void {
    const ground = bare({ origin: given.origin, hosts: site?.link_hosts ?? [] });
    view = bare({ chat, site, ground, tongue: speech, words: speech.words, speak, trouble });
    draw();
  }

  async function speakIn(locale: string): Promise<void> {
    const wanted = locale ? [locale] : [...(navigator.languages ?? [navigator.language ?? "en"])];
    speech = await tongue(choose(wanted));
    refresh();
  }

  /** What the site looks like and allows; asked again where the first attempt failed. */
  async function ask(first?: Promise<Site | null>): Promise<void> {
    site = (await (first ?? server.describe().catch(() => null))) ?? site;
    asked = Date.now();
    if (gone) return;
    if (site) given.paint(bare({ colour: site.colour, position: site.position, ...given.theme }));
    look();
    refresh();
  }

  /** Whether people are in changes with the hours of the day. */
  async function renew(): Promise<void> {
    if (Date.now() - asked > STALE_AFTER) await ask();
  }

  // -- opening and closing --------------------------------------------------------------------------------------------

  function show(): void {
    if (open || gone) return;
    open = true;
    note("1");
    fit();
    chat.look(true);
    void (site ? renew() : ask());
    paint();
    const panel = root.getElementById("frontdesk-panel");
    // on a phone the field would bring the keyboard over what there is to read
    const field = matchMedia("(hover: hover)").matches ? panel?.querySelector<HTMLElement>(".details input, .field") : null;
    (field ?? panel)?.focus(bare({ preventScroll: true }));
    tell("open");
  }

  function close(): void {
    if (!open) return;
    const held = root.activeElement !== null;
    open = false;
    note("");
    fit();
    chat.look(false);
    paint();
    // focus goes back to where it came from, unless it is elsewhere on the page by now
    if (held) button.focus(bare({ preventScroll: true }));
    tell("close");
  }

  function note(value: string): void {
    try {
      if (value) sessionStorage.setItem(given.key, value);
      else sessionStorage.removeItem(given.key);
    } catch {
      // forbidden: the next page begins closed
    }
  }

  /** Full screen on small screens: the page behind is inert and does not scroll, and the back button closes. */
  function fit(): void {
    const wanted = open && small.matches;
    if (wanted !== full) {
      full = wanted;
      const { body, documentElement: page } = document;
      if (body) body.inert = wanted;
      if (wanted) page.style.setProperty("overflow", "hidden");
      else page.style.removeProperty("overflow");
    }
    if (wanted && !pushed) {
      pushed = true;
      history.pushState({ ...(history.state as object | null), frontdesk: true }, "");
    } else if (!wanted && pushed) {
      pushed = false;
      if ((history.state as { frontdesk?: boolean } | null)?.frontdesk) history.back();
    }
    keyboard();
    draw();
  }

  /** The keyboard of a phone covers the page without making it smaller: the panel keeps to what is left. */
  function keyboard(): void {
    const seen = window.visualViewport;
    if (!seen || !full) {
      place.style.removeProperty("--seen");
      place.style.removeProperty("--from");
      return;
    }
    place.style.setProperty("--seen", `${Math.round(seen.height)}px`);
    place.style.setProperty("--from", `${Math.round(seen.offsetTop)}px`);
  }

  // -- the page around it ---------------------------------------------------------------------------------------------

  const undo: (() => void)[] = [];
  function hear(target: EventTarget | null, name: string, act: (event: Event) => void): void {
    target?.addEventListener(name, act, false);
    undo.push(() => target?.removeEventListener(name, act, false));
  }
  hear(small, "change", fit);
  hear(dark, "change", look);
  hear(window.visualViewport, "resize", keyboard);
  hear(window.visualViewport, "scroll", keyboard);
  hear(window, "online", () => chat.hurry());
  hear(window, "pagehide", () => chat.pause());
  hear(window, "pageshow", (event) => ((event as PageTransitionEvent).persisted ? chat.back() : chat.visible()));
  hear(window, "storage", (event) => {
    const { key, newValue } = event as StorageEvent;
    if ((key === given.key || key === null) && newValue === null) chat.left();
  });
  hear(window, "popstate", () => {
    if (!pushed) return;
    pushed = false;
    close();
  });
  hear(document, "visibilitychange", () => chat.visible());
  hear(place, "keydown", (event) => {
    if ((event as KeyboardEvent).key === "Escape" && open && !event.defaultPrevented) close();
  });

  function destroy(): void {
    if (open) close();
    gone = true;
    chat.close();
    for (const each of undo) each();
    render(null, place);
    ears.clear();
  }

  function who(value: unknown): Identity | null {
    if (typeof value === "string" && value) return bare({ identity: value });
    if (typeof value !== "object" || value === null) return null;
    const { user_id: id, identity_hash: hash, identity } = bare({ ...value }) as Record<string, unknown>;
    if (typeof identity === "string") return bare({ identity });
    return id !== undefined && typeof hash === "string" ? bare({ user_id: String(id), identity_hash: hash }) : null;
  }

  const commands: Record<string, (...rest: unknown[]) => void> = bare({
    open: show,
    close,
    toggle: () => (open ? close() : show()),
    identify: (value: unknown) => {
      const identity = who(value);
      if (identity) chat.identify(identity);
      else tell("error", new TypeError("Frontdesk('identify'): give a JWT, or {user_id, identity_hash}"));
    },
    logout: () => {
      close();
      chat.logout();
    },
    theme: (theme: unknown) => {
      // the loader has painted it already
      void (theme as Theme);
      look();
      draw();
    },
    locale: (locale: unknown) => void speakIn(String(locale ?? "")),
    send: (text: unknown) => {
      show();
      const said = String(text ?? "").trim();
      if (said) chat.say(said);
    },
    destroy,
  });

  look();
  refresh();
  void ask(given.config);
  const ready = Promise.all([speakIn(given.locale), chat.start()]);
  void ready.then(() => {
    let was = false;
    try {
      was = sessionStorage.getItem(given.key) !== null;
    } catch {
      // forbidden
    }
    if (was && !small.matches) show();
    tell("ready");
  });

  return bare({
    run(command: unknown, ...rest: unknown[]): void {
      const act = commands[String(command)];
      if (act) act(...rest);
      else tell("error", new TypeError(`Frontdesk('${command}'): there is no such command`));
    },
  });
}
