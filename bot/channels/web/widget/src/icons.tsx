// The drawings of the widget, as paths: no picture is ever fetched.

import { h } from "./h";

const PATHS = {
  close: "M5 5l10 10M15 5 5 15",
  down: "M5 7.5 10 12.500l5-5",
  back: "M12.5 4.5 7 10l5.5 5.5",
  send: "M10 16V4M4.5 9.5 10 4l5.5 5.5",
  thumbUp: "M6.5 9 9.6 3.200c1.1 0 1.9.9 1.7 2l-.5 2.900h3.900c1 0 1.7.9 1.5 1.900l-1 5c-.2.8-.8 1.3-1.6 1.300H6.500M6.5 9v7.300M6.5 9H4v7.300h2.5",
  thumbDown: "M13.5 11 10.4 16.800c-1.1 0-1.9-.9-1.7-2l.5-2.900H5.300c-1 0-1.7-.9-1.5-1.900l1-5c.2-.8.8-1.3 1.6-1.300h7.100M13.5 11V3.700M13.5 11H16V3.700h-2.5",
  person: "M10 10.500a3.3 3.3 0 1 0 0-6.6 3.3 3.3 0 0 0 0 6.600zM3.8 17c.6-3 3.1-4.6 6.2-4.600s5.6 1.6 6.2 4.6",
  clip: "M15.5 9.5 9.8 15.200a3.5 3.5 0 0 1-5-5L11 4a2.3 2.3 0 0 1 3.3 3.300l-6 6a1.1 1.1 0 0 1-1.6-1.600L12 6.5",
  file: "M6 2.800h5.500L15.5 7v10.200H6zM11.5 2.800V7h4",
  fresh: "M10 4.500v11M4.5 10h11",
  history: "M10 6v4.300l2.8 1.700M3.5 10a6.5 6.5 0 1 0 2-4.700M3.5 3.500v3h3",
  copy: "M7 7V4h9v9h-3M4 7h9v9H4z",
  save: "M10 3.500v9M6 9l4 4 4-4M4 16.500h12",
  check: "M4.5 10.5 8.3 14.3 15.5 6",
  trash: "M4 6h12M8 6V4h4v2M6 6l.7 10.500h6.600L14 6",
  spark: "M10 3c.6 3.8 3.2 6.4 7 7-3.8.6-6.4 3.2-7 7-.6-3.8-3.2-6.4-7-7 3.8-.6 6.4-3.2 7-7z",
  bubble: "M10 3.500c4 0 7.2 2.7 7.2 6.200S14 16 10 16c-.8 0-1.6-.1-2.3-.3L4 17l.8-2.900C3.6 13 2.8 11.5 2.8 9.700c0-3.5 3.2-6.2 7.2-6.200z",
  clock: "M10 5.500V10l3 2M10 17a7 7 0 1 0 0-14 7 7 0 0 0 0 14z",
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
        <path d="M10 2.600l2.3 4.7 5.1.7-3.7 3.6.9 5.100L10 14.300l-4.6 2.4.9-5.100L2.6 8l5.1-.7z" />
      </svg>
    );
  }
  return (
    <svg {...box}>
      <path d={PATHS[name]} />
    </svg>
  );
}
