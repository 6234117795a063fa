/**
 * How a JSON text is built, seen before it is parsed (`request-shape.ts`): a parser takes seconds of one turn for four million brackets, or for
 * names without an end.
 */

import { invalid, type WaymarkError } from "../lib/errors.ts";
import type { FieldPlan, MessagePlan } from "../services/request-plan.ts";
import { crowded, type Inside, type Shape, Surplus } from "./request-shape.ts";

/** As deep as a message may be (`json-fault.ts`). */
const MAX_DEPTH = 100;
/** Names and items, by the signs between them: a registration of 1,000 entries with all that they may have is below. */
const MAX_PARTS = 250_000;
/** A longer name is that of no field, however it is escaped. */
const MAX_NAME_BYTES = 512;

const QUOTE = 0x22;
const COMMA = 0x2c;
const COLON = 0x3a;
const OPEN_LIST = 0x5b;
const BACKSLASH = 0x5c;
const CLOSE_LIST = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

/** A list or an object that is being read. */
interface Level extends Inside {
  readonly isObject: boolean;
  /** Of an object that is a message. */
  readonly plan: MessagePlan | undefined;
  /** The field that it is the list or the map of. */
  readonly many: FieldPlan | undefined;
  /** In an object, whether the next text is a name. */
  isNameNext: boolean;
  /** The field that was named last. */
  named: FieldPlan | undefined;
  commas: number;
}

/** Of one text. Whether it is JSON at all is for the parser to say. */
export class JsonShape implements Shape {
  readonly #plan: MessagePlan;
  readonly #surplus = new Surplus();
  /** The outermost first; none that are too deep. */
  readonly #levels: Level[] = [];
  /** The bytes of the name that was read last. */
  readonly #name: number[] = [];
  #isInName = false;
  #depth = 0;
  #partCount = 0;
  #isInText = false;
  #isEscaped = false;
  #crowded: WaymarkError | undefined;

  constructor(plan: MessagePlan) {
    this.#plan = plan;
  }

  look(bytes: Uint8Array): WaymarkError | undefined {
    for (const byte of bytes) {
      if (this.#isInText) this.#textCame(byte);
      else this.#count(byte);
    }
    if (this.#crowded !== undefined) return this.#crowded;
    if (this.#partCount > MAX_PARTS) return invalid("request", `has more than ${MAX_PARTS} names and items`);
    return this.#depth > MAX_DEPTH ? invalid("request", `is nested deeper than ${MAX_DEPTH}`) : undefined;
  }

  #textCame(byte: number): void {
    if (this.#isInName && (byte !== QUOTE || this.#isEscaped) && this.#name.length < MAX_NAME_BYTES) this.#name.push(byte);
    if (this.#isEscaped) this.#isEscaped = false;
    else if (byte === QUOTE) this.#isInText = false;
    else if (byte === BACKSLASH) this.#isEscaped = true;
  }

  #count(byte: number): void {
    switch (byte) {
      case QUOTE:
        this.#isInText = true;
        this.#isInName = this.#levels.at(-1)?.isNameNext ?? false;
        if (this.#isInName) this.#name.length = 0;
        break;
      case COMMA:
        this.#partCount += 1;
        this.#commaCame();
        break;
      case COLON:
        this.#partCount += 1;
        this.#colonCame();
        break;
      case OPEN_LIST:
      case OPEN_OBJECT:
        this.#depth += 1;
        if (this.#depth <= MAX_DEPTH) this.#levels.push(this.#opened(byte === OPEN_OBJECT));
        break;
      case CLOSE_LIST:
      case CLOSE_OBJECT:
        // What was too deep stays so.
        if (this.#depth > MAX_DEPTH) break;
        this.#depth -= 1;
        this.#levels.pop();
    }
  }

  #commaCame(): void {
    const level = this.#levels.at(-1);
    if (level === undefined) return;
    level.commas += 1;
    level.isNameNext = level.isObject;
    const { many } = level;
    if (many !== undefined && level.commas >= many.most && this.#surplus.add()) this.#crowded ??= crowded(this.#levels.slice(0, -1), many);
  }

  #colonCame(): void {
    const level = this.#levels.at(-1);
    if (level?.isNameNext !== true) return;
    level.isNameNext = false;
    level.named = level.plan === undefined ? undefined : level.plan.byName.get(this.#nameRead());
  }

  /** The name that was read last; empty for one that is that of no field. */
  #nameRead(): string {
    if (this.#name.length === MAX_NAME_BYTES) return "";
    const text = String.fromCharCode(...this.#name); // The names of fields are ASCII.
    if (!text.includes("\\")) return text;
    try {
      return String(JSON.parse(`"${text}"`));
    } catch {
      return ""; // The parser says what is wrong with it.
    }
  }

  #opened(isObject: boolean): Level {
    const around = this.#levels.at(-1);
    const base = { isObject, isNameNext: isObject, named: undefined, commas: 0, index: around?.commas ?? 0 };
    if (around === undefined) return { ...base, plan: this.#plan, many: undefined, field: undefined };
    const { many, named } = around;
    // An item of a list, or what a field consists of.
    if (many !== undefined) return { ...base, plan: isObject ? itemPlan(many) : undefined, many: undefined, field: many };
    if (named === undefined || named.shape === "single")
      return { ...base, plan: isObject ? named?.message?.() : undefined, many: undefined, field: named };
    return { ...base, plan: undefined, many: isObject === (named.shape === "map") ? named : undefined, field: undefined };
  }
}

/** Of an item of a list, or of a value of a map. */
function itemPlan({ shape, message }: FieldPlan): MessagePlan | undefined {
  const plan = message?.();
  return shape === "map" ? plan?.byNumber[2]?.message?.() : plan;
}
