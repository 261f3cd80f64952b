// What one rarely does with a conversation, behind the three dots.

import { useEffect, useRef, useState } from "preact/hooks";
import { h } from "./h";
import { Icon, type IconName } from "./icons";
import type { View } from "./view";

export interface Deed {
  icon: IconName;
  label: string;
  able: boolean;
  grave?: boolean;
  act(): void;
}

export function Menu({ view, deeds }: { view: View; deeds: readonly Deed[] }): h.JSX.Element {
  const [open, setOpen] = useState(false);
  const box = useRef<HTMLDivElement>(null);
  const button = useRef<HTMLButtonElement>(null);
  const items = (): HTMLButtonElement[] => [...(box.current?.querySelectorAll<HTMLButtonElement>("[role=menuitem]:not(:disabled)") ?? [])];

  useEffect(() => {
    if (!open) return;
    items()[0]?.focus();
    const away = (event: Event): void => {
      if (!event.composedPath().includes(box.current!)) setOpen(false);
    };
    document.addEventListener("pointerdown", away, true);
    return () => document.removeEventListener("pointerdown", away, true);
  }, [open]);

  const keys = (event: KeyboardEvent): void => {
    if (!open) return;
    const all = items();
    const root = box.current!.getRootNode() as ShadowRoot;
    const at = all.indexOf(root.activeElement as HTMLButtonElement);
    const moves: Record<string, number> = { ArrowDown: at + 1, ArrowUp: at - 1 + all.length, Home: 0, End: all.length - 1 };
    if (event.key === "Escape" || event.key === "Tab") {
      setOpen(false);
      button.current?.focus();
      if (event.key === "Escape") event.stopPropagation();
    } else if (Object.hasOwn(moves, event.key)) {
      all[moves[event.key]! % all.length]?.focus();
    } else {
      return;
    }
    if (event.key !== "Tab") event.preventDefault();
  };

  return (
    <div class="menu" ref={box} onKeyDown={keys}>
      <button ref={button} type="button" class="quiet" aria-label={view.words.menu} title={view.words.menu} aria-haspopup="menu" aria-expanded={open ? "true" : "false"} onClick={() => setOpen(!open)}>
        <Icon name="dots" />
      </button>
      {open && (
        <div class="sheet" role="menu" aria-label={view.words.menu}>
          {deeds.map((deed) => (
            <button
              type="button"
              role="menuitem"
              tabIndex={-1}
              class={deed.grave ? "grave" : ""}
              disabled={!deed.able}
              onClick={() => {
                setOpen(false);
                button.current?.focus();
                deed.act();
              }}
            >
              <Icon name={deed.icon} size={18} />
              {deed.label}
            </button>
          ))}
        </div>
      )}
    </div>
  );
}
