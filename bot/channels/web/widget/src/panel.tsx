// The panel: header, conversation, and where one writes. Owns what is open in it and where the reader is; what was said
// comes from the chat's state.

import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { Details, Earlier, Rating, Welcome } from "./cards";
import { Composer, refusal, type Upload } from "./composer";
import { h, Fragment } from "./h";
import { Icon } from "./icons";
import { LineView, saveAs, Writing } from "./message";
import { Menu, type Deed } from "./menu";
import { Refused } from "./server";
import type { State } from "./state";
import { transcript } from "./transcript";
import { closedText, type View } from "./view";
import { fill } from "./words";

interface Props {
  view: View;
  state: State;
  title: string;
  greeting: string;
  full: boolean;
  /** Asks again, where the service did not say what this site looks like. */
  unreachable: (() => void) | null;
  close(): void;
}

export function Panel({ view, state, title, greeting, full, unreachable, close }: Props): h.JSX.Element {
  const { words, chat, site } = view;
  const [page, setPage] = useState<"chat" | "earlier">("chat");
  const [note, setNote] = useState("");
  const [asking, setAsking] = useState(false);
  const [ended, setEnded] = useState(false);
  const [uploads, setUploads] = useState<readonly Upload[]>([]);
  const [dragging, setDragging] = useState(false);
  const panel = useRef<HTMLElement>(null);
  const { status, lines, pending, partial } = state;
  const withPerson = status === "person" || status === "waiting";
  const wanted = state.known || state.identified || state.details ? [] : (site?.pre_chat ?? []);
  const locked = Boolean(site?.identity_required && !state.identified && !state.known);
  const empty = lines.length === 0 && !withPerson;

  // -- where the reader is: stay at the end only for readers who are there; others get a button --
  const scroll = useRef<HTMLDivElement>(null);
  const stuck = useRef(true);
  const [below, setBelow] = useState(false);
  const down = (): void => {
    stuck.current = true;
    scroll.current!.scrollTop = scroll.current!.scrollHeight;
    setBelow(false);
  };
  const mine = lines.filter((line) => line.from === "customer").length;
  useLayoutEffect(() => {
    stuck.current = true;
  }, [mine]);
  useLayoutEffect(() => {
    if (page !== "chat" || empty) return;
    if (stuck.current) down();
    else setBelow(true);
  }, [lines, partial, status, page, asking, note, state.ready]);
  const scrolled = (): void => {
    const place = scroll.current!;
    stuck.current = place.scrollHeight - place.scrollTop - place.clientHeight < 60;
    if (stuck.current) setBelow(false);
  };

  useEffect(() => {
    if (status !== "resolved") setEnded(false);
  }, [status]);

  // a note is about what was just done; it goes with the next thing that is said
  useEffect(() => setNote(""), [lines.length]);

  const act = (deed: () => Promise<unknown>): void => {
    stuck.current = true; // what comes of it stands at the end
    deed().catch((error: unknown) => {
      view.trouble(error);
      const said = error instanceof Refused && error.status === 401 ? words.signIn : words.notDone;
      setNote(said);
      view.speak(said);
    });
  };
  const say = (text: string): void => {
    setAsking(false);
    chat.say(text);
  };

  const attach = (files: Iterable<File>): void => {
    for (const file of files) {
      const upload: Upload = { key: `${file.name} ${performance.now()}`, name: file.name, abort: new AbortController(), problem: refusal(file, view) || undefined };
      setUploads((all) => [...all.filter((each) => !each.problem), upload]);
      if (upload.problem) continue;
      chat.upload(file, upload.abort.signal).then(
        () => setUploads((all) => all.filter((each) => each !== upload)),
        (error: unknown) => {
          if (upload.abort.signal.aborted) return;
          view.trouble(error);
          setUploads((all) => all.map((each) => (each === upload ? { ...each, problem: fill(words.unsentFile, { name: file.name }) } : each)));
        },
      );
    }
  };

  const words_ = transcript(lines, title, view);
  const deeds: Deed[] = [
    { icon: "fresh", label: words.fresh, able: state.known, act: () => { chat.fresh(); setPage("chat"); } },
    { icon: "history", label: words.history, able: true, act: () => setPage("earlier") },
    {
      icon: "copy", label: words.copy, able: lines.length > 0,
      act: () => act(async () => { await copy(words_); setNote(words.copied); view.speak(words.copied); }),
    },
    { icon: "save", label: words.download, able: lines.length > 0, act: () => saveAs(new Blob([words_]), "conversation.txt", view) },
    { icon: "check", label: words.end, able: state.known && status !== "resolved", act: () => act(async () => { await chat.end(); setEnded(true); }) },
    { icon: "trash", label: words.forget, able: state.known, grave: true, act: () => act(async () => setAsking(true)) },
  ]; // prettier-ignore

  const standing = { person: state.agent ? fill(words.withName, { name: state.agent }) : words.withPerson, waiting: words.waitingShort, open: words.assistant, resolved: words.assistant }[status];
  const foot = { waiting: `${words.waiting} ${closedText(view)}`.trim(), person: "", open: "", resolved: words.resolved }[status];
  const showRating = status === "resolved" && !state.rated && lines.length > 0;
  const lastLine = lines.at(-1);

  return (
    <section
      ref={panel}
      id="frontdesk-panel"
      class={`panel${full ? " full" : ""}`}
      role="dialog"
      aria-modal={full ? "true" : undefined}
      aria-labelledby="frontdesk-title"
      tabIndex={-1}
      onKeyDown={(event) => {
        if (event.key !== "Escape" || event.defaultPrevented) return;
        event.stopPropagation();
        close();
      }}
      onDragOver={(event) => {
        if (!withPerson || !event.dataTransfer?.types.includes("Files")) return;
        event.preventDefault();
        setDragging(true);
      }}
      onDragLeave={(event) => event.target === event.currentTarget && setDragging(false)}
      onDrop={(event) => {
        if (!withPerson) return;
        event.preventDefault();
        setDragging(false);
        attach([...(event.dataTransfer?.files ?? [])]);
      }}
    >
      <header class="top">
        <div class="bar">
          {page === "earlier" && <button type="button" class="quiet" aria-label={words.back} onClick={() => setPage("chat")}><Icon name="back" /></button>}
          <h2 id="frontdesk-title"><bdi>{page === "earlier" ? words.history : title}</bdi></h2>
          <Menu view={view} deeds={deeds} />
          <button type="button" class="quiet" aria-label={words.closeChat} title={words.closeChat} onClick={close}><Icon name={full ? "close" : "down"} /></button>
        </div>
        <div class="bar second">
          <p class={`standing ${state.strip === "offline" ? "lost" : status}`}><span class="dot" aria-hidden="true" /><span dir="auto">{standing}</span></p>
          {!withPerson && !locked && (
            <button type="button" class="to-person" onClick={() => act(() => chat.person())}><Icon name="person" size={17} />{words.person}</button>
          )}
        </div>
      </header>
      <div class="middle">
        <div class="scroll" ref={scroll} onScroll={scrolled} tabIndex={-1}>
          {page === "earlier" ? (
            <Earlier view={view} choose={(id) => { setPage("chat"); act(() => chat.choose(id)); }} />
          ) : (
            <Fragment>
              {empty && state.ready && <Welcome view={view} title={title} greeting={greeting} back={null} quiet={wanted.length > 0 || locked} />}
              {unreachable && <p class="state strong">{words.unreachable} <button type="button" class="link" onClick={() => unreachable()}>{words.again}</button></p>}
              {state.ready && locked && <p class="state strong">{words.signIn}</p>}
              {empty && state.ready && !locked && wanted.length > 0 && <Details view={view} wanted={wanted} />}
              {!state.ready && <div class="empty typing" aria-busy="true"><i /><i /><i /></div>}
              <div class="log" role="log" aria-live="off" aria-label={words.log} aria-busy={pending.length ? "true" : "false"} tabIndex={empty ? -1 : 0}>
                {lines.map((line, at) => (
                  <Fragment key={line.id}>
                    <LineView line={line} view={view} last={line === lastLine} joined={at > 0 && line.from !== "customer" && lines[at - 1]!.from === line.from && lines[at - 1]!.name === line.name} />
                    {pending.includes(line.id) && line.sending !== "queued" && <Writing text={partial[line.id] ?? ""} view={view} />}
                  </Fragment>
                ))}
              </div>
              {foot && !empty && <p class={withPerson ? "state strong" : "state"} dir="auto">{foot}</p>}
              {foot && empty && withPerson && <p class="state strong" dir="auto">{foot}</p>}
              {(showRating || (ended && status === "resolved")) && <Rating view={view} />}
              {asking && (
                <div class="state strong ask" role="alertdialog" aria-label={words.forgetSure}>
                  <p>{words.forgetSure}</p>
                  <button type="button" class="pill grave" onClick={() => act(async () => { setAsking(false); await chat.forget(); setNote(words.forgotten); view.speak(words.forgotten); })}>{words.yesDelete}</button>
                  <button type="button" class="pill" ref={(button) => button?.focus()} onClick={() => setAsking(false)}>{words.keep}</button>
                </div>
              )}
              {note && <p class="state">{note}</p>}
            </Fragment>
          )}
        </div>
        {below && page === "chat" && <button type="button" class="newest" onClick={down}><Icon name="down" size={16} />{words.newest}</button>}
      </div>
      <footer>
        {state.strip && <p class="strip" role="status">{state.strip === "offline" ? words.offline : words.busy}</p>}
        {page === "chat" && !locked && wanted.length === 0 && (
          <Composer
            view={view}
            files={withPerson}
            uploads={uploads}
            send={say}
            attach={attach}
            drop={(upload) => {
              upload.abort.abort();
              setUploads((all) => all.filter((each) => each !== upload && each.key !== upload.key));
            }}
          />
        )}
        {!withPerson && <p class="promise">{words.promise}</p>}
      </footer>
      {dragging && <div class="drop"><Icon name="clip" size={28} />{words.drop}</div>}
    </section>
  );
}

async function copy(text: string): Promise<void> {
  await navigator.clipboard.writeText(text);
}
