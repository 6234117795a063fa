/**
 * Detects JSON requests that would take far too long to process. A parser blocks the event loop for seconds if there are four million brackets or
 * very many names, and the subsequent decoder does so if there are very long lists.
 */
import { WireType } from "@bufbuild/protobuf/wire";
import { invalid, WaymarkError } from "../../lib/errors.ts";
import { type FieldShape, MAX_UNSEEN_BYTES, type MessageShapePlan, SurplusCounter } from "./plan.ts";

/** Maximum nesting depth of a message (`json-fault.ts`). */
const MAX_DEPTH = 100;
/**
 * Maximum number of names and items, counted by the delimiters between them. A registration of 1,000 entries with all their fields is below this
 * limit.
 */
const MAX_PARTS = 250_000;
/** Maximum length of a number in a string. The time that the decoder needs grows faster than the length. No name of an enum is this long. */
const MAX_DIGITS = 128;

const MAX_SHOWN_CHARS = 80;

const QUOTE = 0x22;
const COMMA = 0x2c;
const COLON = 0x3a;
const OPEN_LIST = 0x5b;
const BACKSLASH = 0x5c;
const CLOSE_LIST = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

/** Returns the reason why the request must not be decoded, if any. The cost is O(bytes). */
export function jsonFault(plan: MessageShapePlan, bytes: Uint8Array): WaymarkError | undefined {
  return signsFault(bytes) ?? (bytes.length <= MAX_UNSEEN_BYTES ? undefined : namesFault(plan, bytes));
}

/** Returns an error for too many delimiters or for nesting that is too deep. The parser decides whether the text is valid JSON. */
function signsFault(bytes: Uint8Array): WaymarkError | undefined {
  let depth = 0;
  let partCount = 0;
  for (let at = 0; at < bytes.length && depth <= MAX_DEPTH; at++) {
    switch (bytes[at] ?? 0) {
      case QUOTE:
        at = textEnd(bytes, at + 1);
        break;
      case COMMA:
      case COLON:
        partCount += 1;
        break;
      case OPEN_LIST:
      case OPEN_OBJECT:
        depth += 1;
        break;
      case CLOSE_LIST:
      case CLOSE_OBJECT:
        depth -= 1;
    }
  }
  if (partCount > MAX_PARTS) return invalid("request", `has more than ${MAX_PARTS} names and items`);
  return depth > MAX_DEPTH ? invalid("request", `is nested deeper than ${MAX_DEPTH}`) : undefined;
}

/** Returns the position of the quote that ends the string. */
function textEnd(bytes: Uint8Array, start: number): number {
  let at = start;
  while (at < bytes.length && bytes[at] !== QUOTE) at += bytes[at] === BACKSLASH ? 2 : 1;
  return at;
}

/** Finds unknown field names, or more items than the decoder can handle. A parser would need half a second for a hundred thousand unknown names. */
function namesFault(plan: MessageShapePlan, bytes: Uint8Array): WaymarkError | undefined {
  try {
    new NameScan(plan, bytes).run();
    return undefined;
  } catch (thrown) {
    if (thrown instanceof WaymarkError) return thrown;
    throw thrown;
  }
}

/** An object or a list that is not closed yet. */
interface OpenValue {
  readonly isObject: boolean;
  /** The fields, if the value is a message. */
  readonly fields: MessageShapePlan | undefined;
  /** For a list or a map, the field and the message type of its items. */
  readonly many: FieldShape | undefined;
  readonly inner: MessageShapePlan | undefined;
  /** For a list or a map, the number of items so far. */
  count: number;
  /** For a message, the field whose value comes next. Undefined before the field name and for a value that is not scanned. */
  field: FieldShape | undefined;
  isNameNext: boolean;
}

/** Scans the names and delimiters of a text. The text may be invalid JSON, which the parser will reject later. */
class NameScan {
  readonly #root: MessageShapePlan;
  readonly #bytes: Uint8Array;
  readonly #open: OpenValue[] = [];
  readonly #surplus = new SurplusCounter();

  constructor(root: MessageShapePlan, bytes: Uint8Array) {
    this.#root = root;
    this.#bytes = bytes;
  }

  run(): void {
    const bytes = this.#bytes;
    for (let at = 0; at < bytes.length; at++) {
      switch (bytes[at] ?? 0) {
        case QUOTE: {
          const end = textEnd(bytes, at + 1);
          this.#text(at + 1, end);
          at = end;
          break;
        }
        case COMMA:
          this.#next();
          break;
        case OPEN_OBJECT:
        case OPEN_LIST:
          this.#open.push(this.#opened(bytes[at] === OPEN_OBJECT));
          break;
        case CLOSE_LIST:
        case CLOSE_OBJECT:
          this.#open.pop();
      }
    }
  }

  #text(start: number, end: number): void {
    const top = this.#open.at(-1);
    if (top === undefined) return;
    if (top.isNameNext) {
      top.isNameNext = false;
      this.#name(top, start, end);
      return;
    }
    this.#shareItem(top);
    const field = top.fields === undefined ? top.many : top.field;
    if (field !== undefined && field.wire !== WireType.LengthDelimited && end - start > MAX_DIGITS)
      throw invalid(this.#pathOf(field, top), `must be a number of at most ${MAX_DIGITS} characters`);
  }

  #name(top: OpenValue, start: number, end: number): void {
    if (top.fields === undefined) {
      if (top.many === undefined) this.#surplus.addField();
      else this.#item(top, top.many);
      return;
    }
    const name = nameOf(this.#bytes.subarray(start, end));
    const field = name === undefined ? undefined : top.fields.byName.get(name);
    if (field === undefined && name !== undefined)
      throw invalid(`${this.#above(1)}${shown(name)}`, `unknown field of ${top.fields.typeName}`);
    top.field = field;
  }

  #next(): void {
    const top = this.#open.at(-1);
    if (top === undefined) return;
    top.isNameNext = top.isObject;
    if (top.fields !== undefined) top.field = undefined;
    if (!top.isObject && top.many !== undefined) this.#item(top, top.many);
  }

  #item(top: OpenValue, many: FieldShape): void {
    top.count += 1;
    // An item of a list is counted at the comma after it, and a pair of a map at its name.
    if (many.bound !== undefined && top.count + (top.isObject ? 0 : 1) > many.bound.most) this.#surplus.addItems(1, many, this.#above(2));
  }

  /** Counts a string or an object that begins in a list, if the list's items share a bound with items of other lists. */
  #shareItem({ many, isObject }: OpenValue): void {
    if (many?.bound?.shared !== undefined && !isObject) this.#surplus.addShared(1, many.bound.shared, `${this.#above(2)}${many.name}`);
  }

  #opened(isObject: boolean): OpenValue {
    const above = this.#open.at(-1);
    if (above !== undefined) this.#shareItem(above);
    const field = above?.field;
    const isMany = field?.bound !== undefined && isObject === field.isMap;
    const alone =
      above === undefined ? this.#root : above.fields === undefined ? above.inner : field?.bound === undefined ? field?.message : undefined;
    return {
      isObject,
      fields: isObject && !isMany && alone?.isWellKnown === false ? alone : undefined,
      many: isMany ? field : undefined,
      inner: isMany ? (field.isMap ? field.message?.byNumber[2]?.message : field.message) : undefined,
      count: 0,
      field: undefined,
      isNameNext: isObject,
    };
  }

  /** Returns the path of a field in the innermost message, or the path of the innermost list. */
  #pathOf(field: FieldShape, top: OpenValue): string {
    return `${this.#above(top.fields === undefined ? 2 : 1)}${field.name}`;
  }

  /** Returns the path of the open values, without the innermost `count` values. */
  #above(count: number): string {
    return this.#open.slice(0, -count).map(partOf).join("");
  }
}

function partOf({ fields, many, field, isObject, count }: OpenValue): string {
  if (many !== undefined) return `[${isObject ? count - 1 : count}].`;
  return fields === undefined || field === undefined ? "" : field.bound === undefined ? `${field.name}.` : field.name;
}

/** Returns the name. Returns undefined for text that is not a name. The parser will reject such text later. */
function nameOf(bytes: Uint8Array): string | undefined {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString();
  if (!text.includes("\\")) return text;
  try {
    return String(JSON.parse(`"${text}"`));
  } catch {
    return undefined;
  }
}

function shown(text: string): string {
  return text.length <= MAX_SHOWN_CHARS ? text : `${text.slice(0, MAX_SHOWN_CHARS)}…`;
}
