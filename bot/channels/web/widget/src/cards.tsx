// What stands in the panel beside the conversation: the welcome, the form before it, the list of earlier ones, the rating.

import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { bare } from "./bare";
import { h, Fragment } from "./h";
import { Icon } from "./icons";
import type { Summary } from "./protocol";
import { closedText, timeOf, type View } from "./view";
import { fill, scriptOf } from "./words";

const ADDRESS = /^[^\s@]+@[^\s@]+\.[^\s@]{2,}$/;

export function Welcome({ view, title, greeting, back, quiet }: { view: View; title: string; greeting: string; back: (() => void) | null; quiet: boolean }): h.JSX.Element {
  const { words, site, tongue } = view;
  const starters = site?.suggestions[tongue.language] ?? [];
  const closed = closedText(view);
  return (
    <section class="welcome" aria-label={title}>
      <h3 dir="auto">{greeting || words.greeting}</h3>
      {!quiet && <p>{starters.length ? words.lead : words.leadPlain}</p>}
      {closed && <p class="hours"><Icon name="clock" size={18} /><span dir="auto">{closed}</span></p>}
      {back && <button type="button" class="card" onClick={back}><Icon name="history" /><span>{words.goOn}</span></button>}
      {!quiet && (
        <div class="starters" role="group" aria-label={words.suggestions}>
          {starters.map((starter) => (
            <button type="button" class="card" lang={scriptOf(starter) || undefined} dir="auto" onClick={() => view.chat.say(starter)}>{starter}</button>
          ))}
        </div>
      )}
    </section>
  );
}

/** Asked once, before the first conversation; the browser may fill it in. */
export function Details({ view, wanted }: { view: View; wanted: readonly ("name" | "email")[] }): h.JSX.Element {
  const { words } = view;
  const form = useRef<HTMLFormElement>(null);
  const [values, setValues] = useState({ name: "", email: "" });
  const [wrong, setWrong] = useState<{ name?: string; email?: string }>({});
  const submit = (): void => {
    const found: { name?: string; email?: string } = {};
    if (wanted.includes("name") && !values.name.trim()) found.name = words.nameMissing;
    if (wanted.includes("email") && !ADDRESS.test(values.email.trim())) found.email = words.emailWrong;
    setWrong(found);
    const first = wanted.find((each) => found[each]);
    if (first) return form.current?.querySelector<HTMLElement>(`#frontdesk-${first}`)?.focus();
    const told: { name?: string; email?: string } = {};
    for (const each of wanted) told[each] = values[each].trim();
    view.chat.tellDetails(told);
  };
  return (
    <form
      ref={form}
      class="details"
      noValidate
      aria-label={words.before}
      onSubmit={(event) => {
        event.preventDefault();
        submit();
      }}
      onKeyDown={(event) => event.key !== "Escape" && event.stopPropagation()}
    >
      {wanted.map((each) => (
        <Fragment>
          <label for={`frontdesk-${each}`}>{words[each]}</label>
          <input
            id={`frontdesk-${each}`}
            name={each}
            type="text"
            inputMode={each === "email" ? "email" : "text"}
            autocomplete={each}
            maxLength={200}
            required
            dir="auto"
            value={values[each]}
            aria-invalid={wrong[each] ? "true" : "false"}
            aria-describedby={wrong[each] ? `frontdesk-${each}-wrong` : undefined}
            onInput={(event) => setValues({ ...values, [each]: event.currentTarget.value })}
          />
          {wrong[each] && <p class="wrong" id={`frontdesk-${each}-wrong`} role="alert">{wrong[each]}</p>}
        </Fragment>
      ))}
      <button type="submit" class="pill strong">{words.start}</button>
    </form>
  );
}

export function Earlier({ view, choose }: { view: View; choose(id: string): void }): h.JSX.Element {
  const { words } = view;
  const [found, setFound] = useState<Summary[] | null>(null);
  const [failed, setFailed] = useState(false);
  const load = (): void => {
    setFailed(false);
    view.chat.earlier().then(setFound, () => setFailed(true));
  };
  useEffect(load, []);
  if (failed) {
    return <p class="empty" role="alert">{words.notDone} <button type="button" class="link" onClick={load}>{words.again}</button></p>;
  }
  if (!found) return <div class="empty typing" aria-busy="true"><i /><i /><i /></div>;
  if (!found.length) return <p class="empty">{words.noHistory}</p>;
  return (
    <ul class="earlier">
      {found.map((each) => (
        <li key={each.conversation_id}>
          <button type="button" class="card" onClick={() => choose(each.conversation_id)}>
            <span class="said-last" dir="auto">{each.last_text}</span>
            <span class="meta">
              <time dateTime={each.last_at}>{timeOf(each.last_at, view)}</time>
              {each.unread > 0 && <span class="count-unread"><span class="unseen">{fill(words.unread, { n: each.unread })}</span><span aria-hidden="true">{each.unread}</span></span>}
            </span>
          </button>
        </li>
      ))}
    </ul>
  );
}

/** Five stars as one choice, and a comment if there is one. */
export function Rating({ view }: { view: View }): h.JSX.Element {
  const { words } = view;
  const [stars, setStars] = useState(0);
  const [comment, setComment] = useState("");
  const [said, setSaid] = useState("");
  const card = useRef<HTMLDivElement>(null);
  // the card has grown: what there is to do next must be seen
  useLayoutEffect(() => {
    if (stars > 0) card.current?.scrollIntoView(bare<ScrollIntoViewOptions>({ block: "nearest" }));
  }, [stars > 0, said]);
  const send = async (): Promise<void> => {
    try {
      await view.chat.rate(stars, comment.trim());
      setSaid(words.rated);
    } catch (error) {
      view.trouble(error);
      setSaid(words.notDone);
    }
  };
  if (said === words.rated) return <div class="rating"><p class="done" role="status"><Icon name="check" /> {said}</p></div>;
  return (
    <div ref={card} class="rating" role="group" aria-label={words.rate}>
      <p>{words.rate}</p>
      <div class="stars" role="radiogroup" aria-label={words.rate}>
        {[1, 2, 3, 4, 5].map((number) => (
          <label class={number <= stars ? "lit" : ""}>
            <input type="radio" name="frontdesk-stars" value={number} checked={number === stars} aria-label={fill(words.stars, { n: number })} onChange={() => setStars(number)} />
            <Icon name="star" size={28} />
          </label>
        ))}
      </div>
      {stars > 0 && (
        <Fragment>
          <textarea rows={2} maxLength={1000} value={comment} placeholder={words.comment} aria-label={words.comment} onInput={(event) => setComment(event.currentTarget.value)} onKeyDown={(event) => event.key !== "Escape" && event.stopPropagation()} />
          <button type="button" class="pill strong" onClick={() => void send()}>{words.sendRating}</button>
        </Fragment>
      )}
      {said && <p class="failed" role="alert">{said}</p>}
    </div>
  );
}
