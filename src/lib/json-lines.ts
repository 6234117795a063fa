/** Where a value stands in a JSON text: for messages about files too large to be parsed with all their positions. */

/** Offset of the value at a path (of a map's value: of its key), or of the nearest part above it that exists. The text must be valid JSON. */
export function findOffset(text: string, path: readonly PropertyKey[]): number {
  let value = skipSpace(text, 0);
  let shown = value;
  for (const step of path) {
    const found =
      text[value] === "[" ? findItem(text, value, Number(step)) : text[value] === "{" ? findMember(text, value, String(step)) : undefined;
    if (found === undefined) break;
    ({ value, shown } = found);
  }
  return shown;
}

interface Found {
  readonly value: number;
  /** What a message points at. */
  readonly shown: number;
}

function findItem(text: string, list: number, index: number): Found | undefined {
  let at = skipSpace(text, list + 1);
  for (let item = 0; text[at] !== "]" && at < text.length; item++) {
    if (item === index) return { value: at, shown: at };
    at = skipSpace(text, skipValue(text, at));
    if (text[at] === ",") at = skipSpace(text, at + 1);
  }
  return undefined;
}

/** The last member of that name: the one JSON.parse takes. */
function findMember(text: string, map: number, name: string): Found | undefined {
  let found: Found | undefined;
  let at = skipSpace(text, map + 1);
  while (text[at] === '"') {
    const afterKey = skipValue(text, at);
    const value = skipSpace(text, skipSpace(text, afterKey) + 1);
    const key: unknown = JSON.parse(text.slice(at, afterKey));
    if (key === name) found = { value, shown: at };
    at = skipSpace(text, skipValue(text, value));
    if (text[at] === ",") at = skipSpace(text, at + 1);
  }
  return found;
}

function skipSpace(text: string, from: number): number {
  let at = from;
  while (text[at] === " " || text[at] === "\n" || text[at] === "\r" || text[at] === "\t") at += 1;
  return at;
}

/** Offset just after the value that starts at `from`. */
function skipValue(text: string, from: number): number {
  let depth = 0;
  for (let at = from; at < text.length; at++) {
    const char = text[at];
    if (char === '"') {
      at = endOfString(text, at);
      if (depth === 0) return at + 1;
    } else if (char === "{" || char === "[") depth += 1;
    else if (char === "}" || char === "]") {
      depth -= 1;
      if (depth === 0) return at + 1;
      if (depth < 0) return at;
    } else if (depth === 0 && (char === "," || char === " " || char === "\n" || char === "\r" || char === "\t")) return at;
  }
  return text.length;
}

/** Offset of the quote that ends the string which starts at `from`. */
function endOfString(text: string, from: number): number {
  let at = from + 1;
  while (at < text.length && text[at] !== '"') at += text[at] === "\\" ? 2 : 1;
  return at;
}

/** The first key that a map of a JSON text has twice, which JSON.parse lets pass. The text must be valid JSON: anything else has none. */
export function findRepeatedKey(text: string): { readonly key: string; readonly offset: number } | undefined {
  const open: (Set<string> | undefined)[] = [];
  for (let at = 0; at < text.length; at++) {
    const char = text[at];
    if (char === "{") open.push(new Set());
    else if (char === "[") open.push(undefined);
    else if (char === "}" || char === "]") open.pop();
    else if (char === '"') {
      const end = endOfString(text, at);
      const keys = open.at(-1);
      if (keys !== undefined && text[skipSpace(text, end + 1)] === ":") {
        const key: unknown = JSON.parse(text.slice(at, end + 1));
        if (typeof key === "string" && keys.has(key)) return { key, offset: at };
        keys.add(String(key));
      }
      at = end;
    }
  }
  return undefined;
}
