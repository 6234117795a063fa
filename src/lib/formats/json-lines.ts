/** Positions of values in a JSON text, for messages about files that are too large to be parsed with all positions. */
import { firstIndex } from "../bisect.ts";

interface ValueLines {
  readonly value: number;
  /** The offset that a message refers to. For a value in a map, this is the offset of its key. */
  readonly shown: number;
}

/** Shorter lists and maps are read again instead of being cached. */
const LONG_CHARS = 4096;

/** The positions of the values in one JSON text. A long list or map is read only once, regardless of how many of its parts are requested. */
export class JsonPositions {
  readonly #text: string;
  /** Parts of the long lists and maps that have been read so far, by offset. */
  readonly #parts = new Map<number, ReadonlyMap<string, ValueLines>>();
  #lineEnds: readonly number[] | undefined;

  /** The text must be valid JSON. */
  constructor(text: string) {
    this.#text = text;
  }

  /** Offset of the value at a path, or of the nearest existing part above it. For a value in a map, it is the offset of the key. */
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

  /** Line of the value at a path, starting with 1. */
  line(path: readonly PropertyKey[] = []): number {
    const ends = (this.#lineEnds ??= lineEnds(this.#text));
    const offset = this.offset(path);
    return firstIndex(ends.length, (index) => (ends[index] ?? 0) >= offset) + 1;
  }

  #partsOf(container: number): ReadonlyMap<string, ValueLines> {
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

interface ContainerParts {
  readonly parts: ReadonlyMap<string, ValueLines>;
  readonly end: number;
}

function items(text: string, list: number): ContainerParts {
  const parts = new Map<string, ValueLines>();
  let at = skipSpace(text, list + 1);
  for (let item = 0; text[at] !== "]" && at < text.length; item++) {
    parts.set(String(item), { value: at, shown: at });
    at = skipSpace(text, skipValue(text, at));
    if (text[at] === ",") at = skipSpace(text, at + 1);
  }
  return { parts, end: at };
}

/** The last member with each name, as in JSON.parse. Empty for text that is not a map. */
function members(text: string, map: number): ContainerParts {
  const parts = new Map<string, ValueLines>();
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

/** Offset of the closing quote of the string that starts at `from`. */
function endOfString(text: string, from: number): number {
  let at = from + 1;
  while (at < text.length && text[at] !== '"') at += text[at] === "\\" ? 2 : 1;
  return at;
}

/** A key that appears twice in a map in a JSON text. */
export class DuplicateKey {
  readonly key: string;
  /** Path to the map. */
  readonly path: readonly (string | number)[];
  /** Offset of the key's second occurrence. */
  readonly offset: number;

  constructor(key: string, path: readonly (string | number)[], offset: number) {
    this.key = key;
    this.path = path;
    this.offset = offset;
  }
}

/** The value of a JSON text, or its first repeated key, because JSON.parse would silently use the key's last value. Throws like JSON.parse. */
export function readJson(text: string): unknown {
  const value: unknown = JSON.parse(text);
  return findDuplicateKey(text) ?? value;
}

/** The first repeated key in a JSON text. The text must be valid JSON. */
export function findDuplicateKey(text: string): DuplicateKey | undefined {
  /** The maps and lists that contain the current position: the keys of each map so far, and the part that is being read. */
  const open: { readonly keys?: Set<string>; part: string | number }[] = [];
  for (let at = 0; at < text.length; at++) {
    const char = text[at];
    const inner = open.at(-1);
    if (char === "{") open.push({ keys: new Set(), part: "" });
    else if (char === "[") open.push({ part: 0 });
    else if (char === "}" || char === "]") open.pop();
    else if (char === "," && typeof inner?.part === "number") inner.part += 1;
    else if (char === '"') {
      const end = endOfString(text, at);
      if (inner?.keys !== undefined && text[skipSpace(text, end + 1)] === ":") {
        const key = String(JSON.parse(text.slice(at, end + 1)));
        if (inner.keys.has(key)) {
          const path = open.slice(0, -1).map(({ part }) => part);
          return new DuplicateKey(key, path, at);
        }
        inner.keys.add(key);
        inner.part = key;
      }
      at = end;
    }
  }
  return undefined;
}
