// Which addresses may be followed. Everything else is shown as text and never becomes a link.

/** Where the links of a bot's text may lead: https at one of `hosts` (`*.x.org` allows below x.org), our service, mail. */
export interface Ground {
  origin: string;
  hosts: readonly string[];
}

export function bodyLink(address: string, ground: Ground): string | null {
  const url = read(address, ground);
  if (!url) return null;
  if (url.protocol === "mailto:") {
    // the address alone: a subject or body could carry words of this conversation away
    return /^[^\s@?&%]+@[^\s@?&%]+$/.test(url.pathname) ? `mailto:${url.pathname}` : null;
  }
  if (url.username || url.password) return null;
  if (url.origin === ground.origin) return url.href;
  return url.protocol === "https:" && url.port === "" && ground.hosts.some((host) => matches(url.hostname, host)) ? url.href : null;
}

/** The address of a citation: our own article or a page of the knowledge that was read over https. */
export function citationLink(address: string, ground: Ground): string | null {
  const url = read(address, ground);
  if (!url || url.username || url.password) return null;
  return url.origin === ground.origin || url.protocol === "https:" ? url.href : null;
}

function read(address: string, ground: Ground): URL | null {
  try {
    return new URL(address, ground.origin);
  } catch {
    return null;
  }
}

function matches(name: string, host: string): boolean {
  const wanted = host.toLowerCase();
  return wanted.startsWith("*.") ? name.endsWith(wanted.slice(1)) : name === wanted;
}
