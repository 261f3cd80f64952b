// Colours that can be read: WCAG 2.2 contrast of two colours, the ink for a background, a tint that is dark enough.

export type Colour = readonly [number, number, number];

export const WHITE: Colour = [255, 255, 255];
export const BLACK: Colour = [0, 0, 0];
const LEAST = 4.5;

/** `#abc` or `#aabbcc`; null for anything else. */
export function parseColour(text: string): Colour | null {
  const hex = /^#([0-9a-f]{3}|[0-9a-f]{6})$/i.exec(text.trim())?.[1];
  if (!hex) return null;
  const wide = hex.length === 3 ? [...hex].map((digit) => digit + digit).join("") : hex;
  return [0, 2, 4].map((at) => parseInt(wide.slice(at, at + 2), 16)) as unknown as Colour;
}

export function toHex(colour: Colour): string {
  return `#${colour.map((part) => Math.round(part).toString(16).padStart(2, "0")).join("")}`;
}

function luminance(colour: Colour): number {
  const [r, g, b] = colour
    .map((part) => part / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)) as [number, number, number];
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

export function contrast(one: Colour, other: Colour): number {
  const [light, dark] = [luminance(one), luminance(other)].sort((a, b) => b - a) as [number, number];
  return (light + 0.05) / (dark + 0.05);
}

/** Black or white, whichever reads better: never below 4.5, because no colour is near both. */
export function inkOn(background: Colour): Colour {
  // white is what people expect on a brand colour, so black must be needed, not merely better
  return contrast(WHITE, background) >= LEAST ? WHITE : BLACK;
}

/** `colour` itself where it can be read on `background`, else the nearest mixture with black or white that can. */
export function readable(colour: Colour, background: Colour): Colour {
  const towards = luminance(background) > 0.18 ? BLACK : WHITE;
  for (let share = 0; share <= 1; share += 0.04) {
    const mixed = mix(colour, towards, share);
    if (contrast(mixed, background) >= LEAST) return mixed;
  }
  return towards;
}

/** `share` of `other` in `colour`, 0 to 1. */
export function mix(colour: Colour, other: Colour, share: number): Colour {
  return colour.map((part, at) => Math.round(part + (other[at]! - part) * share)) as unknown as Colour;
}
