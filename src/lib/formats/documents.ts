/**
 * Reads YAML and JSON documents that users write, and records the line of every value. The limits in this file protect against malicious files.
 */
import { type Document, isAlias, isMap, isScalar, isSeq, LineCounter, type Node, parseAllDocuments } from "yaml";
import { findDuplicateKey, JsonPositions } from "./json-lines.ts";

export interface LineProblem {
  /** Line in the file, starting with 1. */
  readonly line: number;
  readonly message: string;
}

/** Returns the line of the value at a path, or of the nearest existing part above it. */
type LineLocator = (path: readonly PropertyKey[]) => number;

/** A part of a document: its value and its path. Lines are computed only when they are requested, because few values are invalid. */
export class DocumentNode {
  readonly value: unknown;
  readonly #path: readonly PropertyKey[];
  readonly #locator: LineLocator;

  constructor(value: unknown, path: readonly PropertyKey[], locator: LineLocator) {
    this.value = value;
    this.#path = path;
    this.#locator = locator;
  }

  /** Line of the value at a path below this part. */
  line(path: readonly PropertyKey[] = []): number {
    return this.#locator([...this.#path, ...path]);
  }

  /** Returns an item of a list, or the member with this name of a map. */
  at(step: PropertyKey): DocumentNode {
    const value: unknown = typeof this.value === "object" && this.value !== null ? Reflect.get(this.value, step) : undefined;
    return new DocumentNode(value, [...this.#path, step], this.#locator);
  }
}

export interface ParsedDocuments {
  /** The parsed documents that are not empty. */
  readonly places: readonly DocumentNode[];
  readonly problems: readonly LineProblem[];
}

/** Maximum number of alias resolutions in one document. The limit prevents "billion laughs" attacks. */
const MAX_ALIASES = 100;
/** Longest YAML text. Parsing a document with positions needs a hundred times its size in memory. */
const MAX_YAML_CHARS = 8 * 1024 * 1024;
/** Maximum nesting depth. This is deeper than any real manifest, but not too deep for recursive readers. */
const MAX_DEPTH = 64;

/**
 * Reads every document in a text. A document with a syntax error is reported as a problem, and the others are still read. Never throws. In YAML, a
 * repeated key is a problem. In JSON, it is a problem only if `refusesRepeatedKeys` is set, which reads the text a second time.
 */
export function readDocuments(text: string, { refusesRepeatedKeys = false } = {}): ParsedDocuments {
  const json = parseJson(text);
  if (json !== undefined) {
    const repeated = refusesRepeatedKeys ? findDuplicateKey(text) : undefined;
    if (repeated !== undefined) {
      const message = `the key ${JSON.stringify(repeated.key.slice(0, 64))} appears twice`;
      return { places: [], problems: [{ line: lineAt(text, repeated.offset), message }] };
    }
    if (isTooDeep(json)) return { places: [], problems: [{ line: 1, message: TOO_DEEP }] };
    const where = new JsonPositions(text);
    return { places: [new DocumentNode(json, [], (path) => where.line(path))], problems: [] };
  }
  if (text.length > MAX_YAML_CHARS) {
    return {
      places: [],
      problems: [{ line: 1, message: `has more than ${MAX_YAML_CHARS} characters of YAML; split it, or convert it to JSON` }],
    };
  }
  return readYaml(text);
}

const TOO_DEEP = "is nested too deeply";
/** Maximum number of problems that are recorded for a text. */
const MAX_PROBLEMS = 1000;

/** The JSON value in a text, or undefined for other texts. For invalid JSON, the YAML parser reports errors with lines. */
function parseJson(text: string): unknown {
  if (!/^\s*[[{]/.test(text)) return undefined;
  try {
    const value: unknown = JSON.parse(text);
    return value;
  } catch {
    return undefined;
  }
}

function lineAt(text: string, offset: number): number {
  let line = 1;
  for (let at = text.indexOf("\n"); at !== -1 && at < offset; at = text.indexOf("\n", at + 1)) line += 1;
  return line;
}

function readYaml(text: string): ParsedDocuments {
  const lines = new LineCounter();
  const problems: LineProblem[] = [];
  const places: DocumentNode[] = [];
  let documents: readonly Document[];
  try {
    documents = parseAllDocuments(text, { lineCounter: lines, prettyErrors: false, uniqueKeys: true, logLevel: "silent" });
  } catch (error) {
    return { places, problems: [{ line: 1, message: broken(error) }] };
  }
  for (const document of documents) {
    problems.push(...syntaxProblems(document, lines));
    const node = document.contents ?? undefined;
    if (document.errors.length > 0 || node === undefined) continue;
    const line = lines.linePos(node.range?.[0] ?? 0).line;
    try {
      const value: unknown = document.toJS({ maxAliasCount: MAX_ALIASES });
      if (isTooDeep(value)) problems.push({ line, message: TOO_DEEP });
      else if (value !== null && value !== undefined)
        places.push(new DocumentNode(value, [], (path) => lines.linePos(yamlOffset(document, path)).line));
    } catch (error) {
      problems.push({ line, message: broken(error) });
    }
  }
  return { places, problems: problems.slice(0, MAX_PROBLEMS) };
}

/** The parser's messages without duplicates, because for text that is nested too deeply, the parser reports one message per level. */
function syntaxProblems({ errors }: Document, lines: LineCounter): readonly LineProblem[] {
  const deep = errors.find(({ message }) => message.includes("call stack"));
  if (deep !== undefined) return [{ line: lines.linePos(deep.pos[0]).line, message: TOO_DEEP }];
  const found = errors.map(({ pos, message }) => ({ line: lines.linePos(pos[0]).line, message: oneLine(message) }));
  return found.filter(({ line, message }, index) => line !== found[index - 1]?.line || message !== found[index - 1]?.message);
}

function yamlOffset(document: Document, path: readonly PropertyKey[]): number {
  const resolved = (node: Node | undefined): Node | undefined => (isAlias(node) ? node.resolve(document) : node);
  let node = resolved(document.contents ?? undefined);
  let offset = node?.range?.[0] ?? 0;
  for (const step of path) {
    const child = yamlChild(node, step);
    if (child === undefined) break;
    node = resolved(child.node);
    offset = child.offset;
  }
  return offset;
}

function yamlChild(node: Node | undefined, step: PropertyKey): { readonly node: Node | undefined; readonly offset: number } | undefined {
  if (isSeq<Node>(node)) {
    const item = node.items[Number(step)];
    return item === undefined ? undefined : { node: item, offset: item.range?.[0] ?? 0 };
  }
  if (!isMap<Node, Node>(node)) return undefined;
  const pair = node.items.find(({ key }) => isScalar(key) && String(key.value) === String(step));
  return pair === undefined ? undefined : { node: pair.value ?? undefined, offset: pair.key.range?.[0] ?? 0 };
}

/**
 * Whether a value is nested too deeply. It processes one level at a time, so that no depth overflows the stack. An alias that contains itself exceeds
 * the limit.
 */
function isTooDeep(value: unknown): boolean {
  let level = new Set<object>();
  if (typeof value === "object" && value !== null) level.add(value);
  for (let depth = 0; level.size > 0; depth++) {
    if (depth > MAX_DEPTH) return true;
    const next = new Set<object>();
    for (const each of level) {
      const items: readonly unknown[] = Array.isArray(each) ? each : Object.values(each);
      for (const item of items) if (typeof item === "object" && item !== null) next.add(item);
    }
    level = next;
  }
  return false;
}

function broken(error: unknown): string {
  if (error instanceof RangeError) return TOO_DEEP;
  const message = error instanceof Error ? error.message : String(error);
  return message.includes("alias count") ? `uses more than ${MAX_ALIASES} aliases` : oneLine(message);
}

function oneLine(message: string): string {
  return (message.split("\n")[0] ?? "").replace(/:$/, "");
}
