// Objects without a prototype. On a page whose Object.prototype was polluted, every option bag, every parsed answer and
// every element's properties would otherwise hold what the attacker put there.

export function bare<T extends object>(value: T): T {
  return Object.assign(Object.create(null), value) as T;
}

/** JSON as plain data: no object in it inherits anything. Null where it is none. */
export function parse<T>(text: string | null): T | null {
  if (text === null) return null;
  try {
    return JSON.parse(text, (_, value: unknown) =>
      typeof value === "object" && value !== null && !Array.isArray(value) ? Object.setPrototypeOf(value, null) : value,
    ) as T;
  } catch {
    return null;
  }
}
