// The drawings of the widget, as paths: no picture is ever fetched.

import { h } from "./h";

const PATHS = {
  close: "M5 5l10 10M15 5 5 15",
  down: "M5 7.5 10 12.5l5-5",
  back: "M12.5 4.5 7 10l5.5 5.5",
  send: "M10 16V4M4.5 9.5 10 4l5.5 5.5",
  thumbUp: "M6.5 9 9.6 3.2c1.1 0 1.9.9 1.7 2l-.5 2.9h3.9c1 0 1.7.9 1.5 1.9l-1 5c-.2.8-.8 1.3-1.6 1.3H6.5M6.5 9v7.3M6.5 9H4v7.3h2.5",
  thumbDown: "M13.5 11 10.4 16.8c-1.1 0-1.9-.9-1.7-2l.5-2.9H5.3c-1 0-1.7-.9-1.5-1.9l1-5c.2-.8.8-1.3 1.6-1.3h7.1M13.5 11V3.7M13.5 11H16V3.7h-2.5",
  person: "M10 10.5a3.3 3.3 0 1 0 0-6.6 3.3 3.3 0 0 0 0 6.6zM3.8 17c.6-3 3.1-4.6 6.2-4.6s5.6 1.6 6.2 4.6",
  clip: "M15.5 9.5 9.8 15.2a3.5 3.5 0 0 1-5-5L11 4a2.3 2.3 0 0 1 3.3 3.3l-6 6a1.1 1.1 0 0 1-1.6-1.6L12 6.5",
  file: "M6 2.8h5.5L15.5 7v10.2H6zM11.5 2.8V7h4",
  fresh: "M10 4.5v11M4.5 10h11",
  history: "M10 6v4.3l2.8 1.7M3.5 10a6.5 6.5 0 1 0 2-4.7M3.5 3.5v3h3",
  copy: "M7 7V4h9v9h-3M4 7h9v9H4z",
  save: "M10 3.5v9M6 9l4 4 4-4M4 16.5h12",
  check: "M4.5 10.5 8.3 14.3 15.5 6",
  trash: "M4 6h12M8 6V4h4v2M6 6l.7 10.5h6.6L14 6",
  spark: "M10 3c.6 3.8 3.2 6.4 7 7-3.8.6-6.4 3.2-7 7-.6-3.8-3.2-6.4-7-7 3.8-.6 6.4-3.2 7-7z",
  bubble: "M10 3.5c4 0 7.2 2.7 7.2 6.2S14 16 10 16c-.8 0-1.6-.1-2.3-.3L4 17l.8-2.9C3.6 13 2.8 11.5 2.8 9.7c0-3.5 3.2-6.2 7.2-6.2z",
  clock: "M10 5.5V10l3 2M10 17a7 7 0 1 0 0-14 7 7 0 0 0 0 14z",
};

export type IconName = keyof typeof PATHS | "dots" | "star";

export function Icon({ name, size = 20 }: { name: IconName; size?: number }): h.JSX.Element {
  const box = { viewBox: "0 0 20 20", width: size, height: size, "aria-hidden": "true" as const, class: `icon i-${name}` };
  if (name === "dots") {
    return <svg {...box}>{[4, 10, 16].map((x) => <circle cx={x} cy="10" r="1.6" />)}</svg>;
  }
  if (name === "star") {
    return (
      <svg {...box}>
        <path d="M10 2.6l2.3 4.7 5.1.7-3.7 3.6.9 5.1L10 14.3l-4.6 2.4.9-5.1L2.6 8l5.1-.7z" />
      </svg>
    );
  }
  return (
    <svg {...box}>
      <path d={PATHS[name]} />
    </svg>
  );
}
