/** Where a value stands in a JSON text: for messages about files too large to be parsed with all their positions. */

interface Found {
  readonly value: number;
  /** What a message points at: of a map's value, its key. */
  readonly shown: number;
}

/** Shorter lists and maps are read again rather than remembered. */
const LONG_CHARS = 4096;

/** Where the values of one JSON text stand. What is long is looked through once, however many of its parts are asked for. */
export class JsonPlaces {
  readonly #text: string;
  /** Parts of the long lists and maps seen so far, by offset. */
  readonly #parts = new Map<number, ReadonlyMap<string, Found>>();
  #lineEnds: readonly number[] | undefined;

  /** The text must be valid JSON. */
  constructor(text: string) {
    this.#text = text;
  }

  /** Offset of the value at a path (of a map's value: of its key), or of the nearest part above it that exists. */
  offset(path: readonly PropertyKey[]): number {
    let value = skipSpace(this.#text, 0);
    let shown = value;
    for (const step of path) {
      const found = this.#partsOf(value).get(String(step));
      if (found === undefined) break;
      ({ value, shown } = found);
    }
    return shown;
  }

  /** Line of the value at a path, from 1. */
  line(path: readonly PropertyKey[] = []): number {
    this.#lineEnds ??= lineEnds(this.#text);
    const offset = this.offset(path);
    let [low, high] = [0, this.#lineEnds.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#lineEnds[middle] ?? 0) < offset) low = middle + 1;
      else high = middle;
    }
    return low + 1;
  }

  #partsOf(container: number): ReadonlyMap<string, Found> {
    const known = this.#parts.get(container);
    if (known !== undefined) return known;
    const { parts, end } = this.#text[container] === "[" ? items(this.#text, container) : members(this.#text, container);
    if (end - container >= LONG_CHARS) this.#parts.set(container, parts);
    return parts;
  }
}

function lineEnds(text: string): readonly number[] {
  const ends: number[] = [];
  for (let at = text.indexOf("\n"); at !== -1; at = text.indexOf("\n", at + 1)) ends.push(at);
  return ends;
}

interface Parts {
  readonly parts: ReadonlyMap<string, Found>;
  readonly end: number;
}

function items(text: string, list: number): Parts {
  const parts = new Map<string, Found>();
  let at = skipSpace(text, list + 1);
  for (let item = 0; text[at] !== "]" && at < text.length; item++) {
    parts.set(String(item), { value: at, shown: at });
    at = skipSpace(text, skipValue(text, at));
    if (text[at] === ",") at = skipSpace(text, at + 1);
  }
  return { parts, end: at };
}

/** The last member of each name: the one JSON.parse takes. None of what is no map. */
function members(text: string, map: number): Parts {
  const parts = new Map<string, Found>();
  if (text[map] !== "{") return { parts, end: map };
  let at = skipSpace(text, map + 1);
  while (text[at] === '"') {
    const afterKey = skipValue(text, at);
    const value = skipSpace(text, skipSpace(text, afterKey) + 1);
    parts.set(String(JSON.parse(text.slice(at, afterKey))), { value, shown: at });
    at = skipSpace(text, skipValue(text, value));
    if (text[at] === ",") at = skipSpace(text, at + 1);
  }
  return { parts, end: at };
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
