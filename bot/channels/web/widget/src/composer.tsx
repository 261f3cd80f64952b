// Where the customer writes: text, and in a talk with a person files.

import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { h } from "./h";
import { Icon } from "./icons";
import type { View } from "./view";
import { sizeOf } from "./view";
import { fill } from "./words";

const LONGEST = 4000;
const COUNT_FROM = 3600;

export interface Upload {
  key: string;
  name: string;
  problem?: string;
  abort: AbortController;
}

interface Props {
  view: View;
  files: boolean;
  uploads: readonly Upload[];
  send(text: string): void;
  attach(files: Iterable<File>): void;
  drop(upload: Upload): void;
}

export function Composer({ view, files, uploads, send, attach, drop }: Props): h.JSX.Element {
  const { words, chat } = view;
  const field = useRef<HTMLTextAreaElement>(null);
  const chooser = useRef<HTMLInputElement>(null);
  const [text, setText] = useState(chat.draft);
  const write = (value: string): void => {
    chat.draft = value;
    setText(value);
  };
  const length = [...text.trim()].length;

  useLayoutEffect(() => {
    // browsers that cannot let a field grow by itself
    const element = field.current!;
    if (CSS.supports("field-sizing", "content")) return;
    element.style.height = "auto";
    element.style.height = `${element.scrollHeight}px`;
  }, [text]);

  const submit = (): void => {
    const said = text.trim();
    if (!said || length > LONGEST) return;
    write("");
    send(said);
    field.current?.focus();
  };

  return (
    <div class="writing-place">
      {uploads.map((upload) => (
        <p class={upload.problem ? "upload failed" : "upload"} role="status" key={upload.key}>
          <Icon name="file" size={18} />
          <span class="title" dir="auto">{upload.problem ?? fill(words.sending, { name: upload.name })}</span>
          <button type="button" class="quiet small" aria-label={words.cancel} onClick={() => drop(upload)}><Icon name="close" size={16} /></button>
        </p>
      ))}
      <form
        class="composer"
        autocomplete="off"
        onSubmit={(event) => {
          event.preventDefault();
          submit();
        }}
      >
        {files && (
          <button type="button" class="quiet" aria-label={words.attach} title={words.attach} onClick={() => chooser.current?.click()}>
            <Icon name="clip" size={22} />
          </button>
        )}
        {files && (
          <input
            ref={chooser}
            type="file"
            hidden
            tabIndex={-1}
            aria-label={words.attach}
            accept={view.site?.files?.types.join(",")}
            onChange={(event) => {
              attach([...(event.currentTarget.files ?? [])]);
              event.currentTarget.value = "";
            }}
          />
        )}
        <textarea
          ref={field}
          class="field"
          rows={1}
          dir={text ? "auto" : undefined}
          value={text}
          aria-label={words.message}
          aria-describedby="frontdesk-count"
          placeholder={words.placeholder}
          enterkeyhint="send"
          onInput={(event) => write(event.currentTarget.value)}
          onPaste={(event) => {
            const pasted = [...(event.clipboardData?.files ?? [])];
            if (!files || !pasted.length) return;
            event.preventDefault();
            attach(pasted);
          }}
          onKeyDown={(event) => {
            // Enter that ends a Chinese or Japanese composition is not a wish to send, nor Escape one to close
            const composing = event.isComposing || event.keyCode === 229;
            // the page's shortcuts must not act on what is written here
            if (event.key !== "Escape" || composing) event.stopPropagation();
            if (event.key !== "Enter" || event.shiftKey || composing) return;
            event.preventDefault();
            submit();
          }}
        />
        <button type="submit" class="send" aria-label={words.send} disabled={length === 0 || length > LONGEST}>
          <Icon name="send" />
        </button>
      </form>
      <p class={length > LONGEST ? "count over" : "count"} id="frontdesk-count" hidden={length < COUNT_FROM}>
        {fill(length > LONGEST ? words.over : words.left, { n: Math.abs(LONGEST - length) })}
      </p>
    </div>
  );
}

/** Why a file cannot be sent; "" when it can. The service decides again. */
export function refusal(file: File, view: View): string {
  const { types = [], max_bytes: most = 0 } = view.site?.files ?? {};
  const name = file.name;
  const suffix = `.${name.split(".").pop()?.toLowerCase() ?? ""}`;
  const fits = types.some((type) => type === file.type || type.toLowerCase() === suffix || (type.endsWith("/*") && file.type.startsWith(type.slice(0, -1))));
  // a browser that does not know the type leaves the decision to the service
  if (types.length && file.type && !fits) return fill(view.words.wrongType, { name, types: types.map(shortType).join(", ") });
  if (most && file.size > most) return fill(view.words.tooLarge, { name, size: sizeOf(most) });
  return "";
}

const shortType = (type: string): string => (type === "text/plain" ? "TXT" : (type.split("/").pop() ?? type).replace(/^\./, "").toUpperCase());
