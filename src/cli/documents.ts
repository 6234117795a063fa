/** YAML and JSON documents with the line of every value, bounded against bombs; the base of `apply` and `import`. */
import { type Document, isAlias, isMap, isScalar, isSeq, LineCounter, type Node, parseAllDocuments } from "yaml";

export interface LineProblem {
  /** 1-based line of the file. */
  readonly line: number;
  readonly message: string;
}

/** A part of a document: its value and where it stands. */
export class Place {
  readonly #node: Node | undefined;
  readonly #document: Document;
  readonly #lines: LineCounter;
  readonly value: unknown;

  constructor(node: Node | undefined, document: Document, lines: LineCounter, value: unknown) {
    this.#node = node;
    this.#document = document;
    this.#lines = lines;
    this.value = value;
  }

  /** Line of the value at a path below here, or of the nearest part above it that exists. */
  line(path: readonly PropertyKey[] = []): number {
    let node = this.#resolve(this.#node);
    let offset = node?.range?.[0] ?? 0;
    for (const step of path) {
      const next = this.#child(node, step);
      if (next === undefined) break;
      node = this.#resolve(next.node);
      offset = next.offset;
    }
    return this.#lines.linePos(offset).line;
  }

  /** The parts of a list, or the named part of a map. */
  at(step: PropertyKey): Place {
    const child = this.#child(this.#resolve(this.#node), step);
    const value: unknown = typeof this.value === "object" && this.value !== null ? Reflect.get(this.value, step) : undefined;
    return new Place(child?.node, this.#document, this.#lines, value);
  }

  /** The node an alias stands for, or the node itself. */
  #resolve(node: Node | undefined): Node | undefined {
    return isAlias(node) ? node.resolve(this.#document) : node;
  }

  #child(node: Node | undefined, step: PropertyKey): { readonly node: Node | undefined; readonly offset: number } | undefined {
    if (isSeq<Node>(node)) {
      const item = node.items[Number(step)];
      return item === undefined ? undefined : { node: item, offset: item.range?.[0] ?? 0 };
    }
    if (!isMap<Node, Node>(node)) return undefined;
    const pair = node.items.find(({ key }) => isScalar(key) && String(key.value) === String(step));
    return pair === undefined ? undefined : { node: pair.value ?? undefined, offset: pair.key.range?.[0] ?? 0 };
  }
}

export interface Documents {
  /** Documents that parse and hold something. */
  readonly places: readonly Place[];
  readonly problems: readonly LineProblem[];
}

/** Most aliases one document may resolve to: stops "billion laughs". */
const MAX_ALIASES = 100;

/** Reads every document of a text. One that is broken is a problem; those around it are still read. Never throws. */
export function readDocuments(text: string): Documents {
  const lines = new LineCounter();
  const problems: LineProblem[] = [];
  const places: Place[] = [];
  let documents: readonly Document[];
  try {
    documents = parseAllDocuments(text, { lineCounter: lines, prettyErrors: false, uniqueKeys: true, logLevel: "silent" });
  } catch (error) {
    return { places, problems: [{ line: 1, message: broken(error) }] };
  }
  for (const document of documents) {
    for (const { pos, message } of document.errors) problems.push({ line: lines.linePos(pos[0]).line, message: oneLine(message) });
    const node = document.contents ?? undefined;
    if (document.errors.length > 0 || node === undefined) continue;
    try {
      const value: unknown = document.toJS({ maxAliasCount: MAX_ALIASES });
      if (value !== null && value !== undefined) places.push(new Place(node, document, lines, value));
    } catch (error) {
      problems.push({ line: lines.linePos(node.range?.[0] ?? 0).line, message: broken(error) });
    }
  }
  return { places, problems };
}

function broken(error: unknown): string {
  if (error instanceof RangeError) return "is nested too deeply";
  const message = error instanceof Error ? error.message : String(error);
  return message.includes("alias count") ? `uses more than ${MAX_ALIASES} aliases` : oneLine(message);
}

function oneLine(message: string): string {
  return (message.split("\n")[0] ?? "").replace(/:$/, "");
}
