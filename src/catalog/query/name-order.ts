/** Names of DNS in the order of their ends, in which a name is followed by all names below it. Names are in plain form. */

const DOT = 0x2e;

/** Whether a name comes before another one. HOT: some twenty times for each registered alias, and for each question that needs a plan. */
export function isEndBefore(a: string, b: string): boolean {
  const [aLength, bLength] = [a.length, b.length];
  const shared = Math.min(aLength, bLength);
  for (let back = 1; back <= shared; back++) {
    const [aCode, bCode] = [a.charCodeAt(aLength - back), b.charCodeAt(bLength - back)];
    if (aCode === bCode) continue;
    // Nothing is less than a dot, so that no other name stands between a name and those below it.
    return aCode === DOT || (bCode !== DOT && aCode < bCode);
  }
  return aLength < bLength;
}

export function isAtOrBelow(name: string, suffix: string): boolean {
  return name.endsWith(suffix) && (name.length === suffix.length || name.charCodeAt(name.length - suffix.length - 1) === DOT);
}

/** The name and all names above it, which are its suffixes at dots. */
export function* suffixesOf(name: string): Generator<string> {
  for (let at = 0; ; ) {
    yield name.slice(at);
    const dot = name.indexOf(".", at);
    if (dot < 0) return;
    at = dot + 1;
  }
}
