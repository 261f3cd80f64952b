// One line of the conversation: what the customer said, an answer as it comes or whole with sources and thumbs, a person's
// words, a file. All text becomes text nodes; addresses become links only where `links.ts` allows it.

import { Component } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { bare } from "./bare";
import { h, Fragment } from "./h";
import { Icon } from "./icons";
import { bodyLink, citationLink } from "./links";
import { blocks, settled, type Block, type Inline } from "./markdown";
import type { Citation, FileInfo, Turn } from "./protocol";
import type { Shown } from "./state";
import { sizeOf, timeOf, type View } from "./view";
import { fill, scriptOf } from "./words";

const JUDGED = ["approved", "grounded", "clarified", "not_known"];
const REASONS = ["not_asked", "wrong", "outdated", "unclear", "incomplete"] as const;

const spoken = (text: string): { lang?: string; dir: "auto" } => ({ lang: scriptOf(text) || undefined, dir: "auto" });

interface Place {
  view: View;
  turn?: Turn;
}

function Span({ inline, view, turn }: Place & { inline: Inline }): h.JSX.Element {
  if (typeof inline === "string") return <Fragment>{inline}</Fragment>;
  switch (inline.kind) {
    case "code":
      return <code>{inline.text}</code>;
    case "strong":
      return <strong><Spans inside={inline.inside} view={view} turn={turn} /></strong>;
    case "em":
      return <em><Spans inside={inline.inside} view={view} turn={turn} /></em>;
    case "mark":
      return <Mark number={inline.number} view={view} turn={turn} />;
    case "link": {
      const href = bodyLink(inline.address, view.ground);
      const inside = <Spans inside={inline.inside} view={view} turn={turn} />;
      if (!href) {
        // a label must not hide where it would have led
        const bare = inline.inside.length === 1 && inline.inside[0] === inline.address;
        return <Fragment>{inside}{bare ? "" : ` (${inline.address})`}</Fragment>;
      }
      return <a href={href} target="_blank" rel="noopener noreferrer nofollow">{inside}<span class="unseen"> ({view.words.newTab})</span></a>;
    }
  }
}

function Spans({ inside, view, turn }: Place & { inside: Inline[] }): h.JSX.Element {
  return <Fragment>{inside.map((each) => <Span inline={each} view={view} turn={turn} />)}</Fragment>;
}

/** A mark like [1] as a link to the source it numbers; without that source it stays the text it is. */
function Mark({ number, view, turn }: Place & { number: number }): h.JSX.Element {
  const citation = turn?.citations[number - 1];
  const href = citation && citationLink(citation.url, view.ground);
  if (!turn || !citation || !href) return <Fragment>{turn ? ` [${number}]` : ""}</Fragment>;
  const label = `${view.words.source} ${number}: ${citation.title} (${view.words.newTab})`;
  // joined to the word before it, so that no line begins with a mark
  return (
    <Fragment>{"\u2060"}<a class="mark" href={href} target="_blank" rel="noopener" aria-label={label} onClick={() => view.chat.click(turn, { citation: citation.url })}>
      {String(number)}
    </a></Fragment>
  );
}

function Shape({ block, view, turn }: Place & { block: Block }): h.JSX.Element {
  const spans = (inside: Inline[]): h.JSX.Element => <Spans inside={inside} view={view} turn={turn} />;
  switch (block.kind) {
    case "p":
      return <p>{spans(block.inside)}</p>;
    case "h":
      return <p class="heading">{spans(block.inside)}</p>;
    case "pre":
      return <pre tabIndex={0}><code>{block.text}</code></pre>;
    case "ul":
      return <ul>{block.items.map((item) => <li>{spans(item)}</li>)}</ul>;
    case "ol":
      return <ol start={block.start}>{block.items.map((item) => <li>{spans(item)}</li>)}</ol>;
    case "table":
      return (
        <div class="wide" tabIndex={0} role="group">
          <table>
            <thead><tr>{block.head.map((cell) => <th scope="col">{spans(cell)}</th>)}</tr></thead>
            <tbody>{block.rows.map((row) => <tr>{row.map((cell) => <td>{spans(cell)}</td>)}</tr>)}</tbody>
          </table>
        </div>
      );
  }
}

/** The text set out; while it is `written` the half of a link at its end is kept back. */
export function SetOut({ text, view, turn, written = false }: Place & { text: string; written?: boolean }): h.JSX.Element {
  return (
    <div class="text" {...spoken(text)}>
      {blocks(written ? settled(text) : text).map((block) => <Shape block={block} view={view} turn={turn} />)}
    </div>
  );
}

function Sources({ turn, view }: { turn: Turn; view: View }): h.JSX.Element | null {
  const shown = turn.citations
    .map((citation, at) => ({ citation, number: at + 1, href: citationLink(citation.url, view.ground) }))
    .filter((each): each is { citation: Citation; number: number; href: string } => each.href !== null);
  if (!shown.length) return null;
  return (
    <ul class="sources" aria-label={view.words.sources}>
      {shown.map(({ citation, number, href }) => (
        <li>
          <a href={href} target="_blank" rel="noopener" title={citation.quote} onClick={() => view.chat.click(turn, { citation: citation.url })}>
            <span class="number">{String(number)}</span>
            <span class="title" {...spoken(citation.title)}>{citation.title}</span>
            <span class="unseen"> ({view.words.newTab})</span>
          </a>
        </li>
      ))}
    </ul>
  );
}

function Verdict({ turn, view }: { turn: Turn; view: View }): h.JSX.Element {
  const { words } = view;
  const [given, setGiven] = useState<"up" | "down" | "">("");
  const [asking, setAsking] = useState(false);
  const [note, setNote] = useState("");
  const form = useRef<HTMLFieldSetElement>(null);
  useEffect(() => {
    if (!asking) return;
    form.current?.querySelector("button")?.focus();
    form.current?.scrollIntoView(bare<ScrollIntoViewOptions>({ block: "nearest" }));
  }, [asking]);

  const give = async (verdict: "up" | "down", more: object = {}): Promise<void> => {
    setGiven(verdict);
    setNote("");
    const kept = await view.chat.judge(turn, { verdict, ...more }).then(() => true, () => false);
    setNote(kept ? words.thanks : words.notDone);
  };
  const button = (verdict: "up" | "down"): h.JSX.Element => (
    <button
      type="button"
      class="thumb"
      aria-label={words[verdict]}
      title={words[verdict]}
      aria-pressed={given === verdict ? "true" : "false"}
      onClick={() => {
        void give(verdict);
        setAsking(verdict === "down");
      }}
    >
      <Icon name={verdict === "up" ? "thumbUp" : "thumbDown"} size={18} />
    </button>
  );
  return (
    <Fragment>
      <div class="verdict">
        {button("up")}
        {button("down")}
        <span class="note" role="status">{asking ? "" : note}</span>
      </div>
      {asking && (
        <Reasons
          inside={form}
          view={view}
          send={(reason, comment) => {
            setAsking(false);
            void give("down", { reason, comment });
          }}
        />
      )}
    </Fragment>
  );
}

interface ReasonsProps {
  inside: { current: HTMLFieldSetElement | null };
  view: View;
  send(reason: string, comment: string): void;
}

function Reasons({ inside, view, send }: ReasonsProps): h.JSX.Element {
  const { words } = view;
  const [chosen, setChosen] = useState("");
  const [comment, setComment] = useState("");
  return (
    <fieldset class="reasons" ref={inside}>
      <legend>{words.why}</legend>
      <div class="row">
        {REASONS.map((reason) => (
          <button type="button" class="pill" aria-pressed={chosen === reason ? "true" : "false"} onClick={() => setChosen(chosen === reason ? "" : reason)}>
            {words[reason]}
          </button>
        ))}
      </div>
      <textarea rows={2} maxLength={1000} value={comment} placeholder={words.comment} aria-label={words.comment} onInput={(event) => setComment(event.currentTarget.value)} />
      <button type="button" class="pill strong" onClick={() => send(chosen, comment.trim())}>{words.sendFeedback}</button>
    </fieldset>
  );
}

/** What the customer may ask next, or choose from. Only the last answer offers anything. */
export function Next({ turn, view }: { turn: Turn; view: View }): h.JSX.Element | null {
  if (!turn.suggestions.length) return null;
  const options = turn.status === "clarified";
  return (
    <div class={options ? "next options" : "next"} role="group" aria-label={options ? view.words.options : view.words.suggestions}>
      {turn.suggestions.map((suggestion) => (
        <button
          type="button"
          class="pill"
          {...spoken(suggestion)}
          onClick={() => {
            view.chat.click(turn, { suggestion });
            view.chat.say(suggestion);
          }}
        >
          {suggestion}
        </button>
      ))}
    </div>
  );
}

/** The text without the numbered options that buttons below it show anyway. */
function without(turn: Turn): string {
  if (turn.status !== "clarified") return turn.text;
  const lines = turn.text.split("\n").filter((line) => !turn.suggestions.includes(line.replace(/^\d+\. /, "")));
  return lines.join("\n").trim() || turn.text;
}

function FileCard({ file, view }: { file: FileInfo; view: View }): h.JSX.Element {
  const [failed, setFailed] = useState(false);
  const save = async (): Promise<void> => {
    try {
      setFailed(false);
      saveAs(await view.chat.download(file), file.name, view);
    } catch {
      setFailed(true);
    }
  };
  return (
    <Fragment>
      <button type="button" class="file" aria-label={fill(view.words.save, { name: file.name })} onClick={() => void save()}>
        <Icon name="file" />
        <span class="title" dir="auto">{file.name}</span>
        <span class="size">{sizeOf(file.bytes)}</span>
        <Icon name="save" size={18} />
      </button>
      {failed && <span class="failed" role="alert">{view.words.notDone}</span>}
    </Fragment>
  );
}

/** A file for the customer to keep. Made here from bytes, so its name and type cannot lead anywhere. */
export function saveAs(content: Blob, name: string, view: View): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], Object.assign(Object.create(null), { type: "application/octet-stream" })));
  link.download = name.replace(/[\\/\u0000-\u001f\u202a-\u202e\u2066-\u2069]/g, "_") || view.words.file;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

export interface LineProps {
  line: Shown;
  view: View;
  /** The last answer: it may offer what to ask next. */
  last: boolean;
  /** Whether the line before is of the same speaker. */
  joined: boolean;
}

/** One line. Lines never change once they are shown, so it is drawn again only when its value is another. */
export class LineView extends Component<LineProps> {
  shouldComponentUpdate(next: LineProps): boolean {
    const { line, view, last, joined } = this.props;
    return next.line !== line || next.last !== last || next.joined !== joined || next.view !== view;
  }

  render({ line, view, last, joined }: LineProps): h.JSX.Element {
    return line.from === "customer" ? <Said line={line} view={view} /> : <Answer line={line} view={view} last={last} joined={joined} />;
  }
}

function Said({ line, view }: { line: Shown; view: View }): h.JSX.Element {
  const { words } = view;
  return (
    <div class={`said customer ${line.sending ?? ""}`} data-id={line.id}>
      <span class="unseen">{words.you}: </span>
      {line.file ? <FileCard file={line.file} view={view} /> : <p class="text" {...spoken(line.text)}>{line.text}</p>}
      {line.sending === "queued" && <span class="meta"><Icon name="clock" size={14} /> {words.queued}</span>}
      {(line.sending === "failed" || line.unanswered) && (
        <span class="failed" role="alert">
          {line.unanswered ? words.noAnswer : line.unknown ? words.signIn : words.failed}{" "}
          <button type="button" onClick={() => view.chat.again(line)}>{words.again}</button>
        </span>
      )}
    </div>
  );
}

function Answer({ line, view, last, joined }: LineProps): h.JSX.Element {
  const { words } = view;
  const { turn } = line;
  const agent = line.from === "agent";
  const name = agent ? line.name || words.agent : words.bot;
  return (
    <div class={`said ${line.from}${joined ? " joined" : ""}`} data-turn={turn?.id} data-status={turn?.status} data-id={line.id}>
      <Face agent={agent} name={line.name ?? ""} />
      <div class="body">
        {agent && !joined ? <span class="name" dir="auto">{name}</span> : <span class="unseen">{name}: </span>}
        {line.file && <FileCard file={line.file} view={view} />}
        {line.text && <SetOut text={turn && last ? without(turn) : line.text} view={view} turn={turn ?? NO_TURN} />}
        {turn && <Sources turn={turn} view={view} />}
        {turn && JUDGED.includes(turn.status) && <Verdict turn={turn} view={view} />}
      </div>
      <time class="at" dateTime={line.at}>{timeOf(line.at, view)}</time>
      {turn && last && <Next turn={turn} view={view} />}
    </div>
  );
}

const NO_TURN: Turn = { id: "", status: "", text: "", citations: [], suggestions: [] };

function Face({ agent, name }: { agent: boolean; name: string }): h.JSX.Element {
  const letter = [...name.trim()][0];
  return <span class="face" aria-hidden="true">{agent ? letter?.toUpperCase() ?? <Icon name="person" /> : <Icon name="spark" />}</span>;
}

/** An answer on its way: dots, then the text as it comes. */
export function Writing({ text, view }: { text: string; view: View }): h.JSX.Element {
  return (
    <div class="said bot writing">
      <Face agent={false} name="" />
      <div class="body">
        {text ? (
          <SetOut text={text} view={view} written />
        ) : (
          <div class="typing"><i /><i /><i /><span class="unseen">{view.words.writing}</span></div>
        )}
      </div>
    </div>
  );
}
