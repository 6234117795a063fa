/**
 * Whether a request in JSON is built in such a way that reading it takes far too long: a parser takes seconds of one turn for four million
 * brackets, or for names without an end, and the decoder behind it for lists without one.
 */
import { WireType } from "@bufbuild/protobuf/wire";
import { invalid, WaymarkError } from "../../lib/errors.ts";
import { MAX_UNSEEN_BYTES, type MessagePlan, Surplus } from "./plan.ts";

/** As deep as a message may be (`json-fault.ts`). */
const MAX_DEPTH = 100;
/** Names and items, by the signs between them: a registration of 1,000 entries with all that they may have is below. */
const MAX_PARTS = 250_000;
/** Most digits of a number that stands as a text; the decoder's time grows faster than their count. No name of an enum is as long. */
const MAX_DIGITS = 128;

const decoder = new TextDecoder();

const QUOTE = 0x22;
const COMMA = 0x2c;
const COLON = 0x3a;
const OPEN_LIST = 0x5b;
const BACKSLASH = 0x5c;
const CLOSE_LIST = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

/** Why the request is not decoded. Cost: O(bytes); a text of more than a few kilobytes is parsed. */
export function jsonFault(plan: MessagePlan, bytes: Uint8Array): WaymarkError | undefined {
  return signsFault(bytes) ?? (bytes.length <= MAX_UNSEEN_BYTES ? undefined : listsFault(plan, bytes));
}

/** Too many signs for a parser. Whether it is JSON at all is for the parser to say. */
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

/** Where the quote is that ends the text which begins here. */
function textEnd(bytes: Uint8Array, start: number): number {
  let at = start;
  while (at < bytes.length && bytes[at] !== QUOTE) at += bytes[at] === BACKSLASH ? 2 : 1;
  return at;
}

/** Too many items for the decoder, of which a parser makes as many more at once. */
function listsFault(plan: MessagePlan, bytes: Uint8Array): WaymarkError | undefined {
  try {
    countItems(JSON.parse(decoder.decode(bytes)), { plan, path: "", surplus: new Surplus() });
    return undefined;
  } catch (thrown) {
    return thrown instanceof WaymarkError ? thrown : undefined; // The parser says what is wrong with the text.
  }
}

interface Place {
  readonly plan: MessagePlan;
  /** Before the names of its fields. */
  readonly path: string;
  readonly surplus: Surplus;
}

function countItems(value: unknown, { plan, path, surplus }: Place): void {
  if (typeof value !== "object" || value === null) return;
  const fields: readonly (readonly [string, unknown])[] = Object.entries(value);
  for (const [name, member] of fields) {
    const field = plan.byName.get(name);
    if (field !== undefined && field.wire !== WireType.LengthDelimited && [member].flat().some(isLongText))
      throw invalid(path + field.name, `is a number, of at most ${MAX_DIGITS} characters where it stands as a text`);
    if (field?.bound === undefined) {
      if (field?.message !== undefined) countItems(member, { plan: field.message, path: `${path}${field.name}.`, surplus });
      continue;
    }
    const items: unknown[] = typeof member === "object" && member !== null ? Object.values(member) : [];
    if (items.length > field.bound.most) surplus.addItems(items.length - field.bound.most, field, path);
    if (field.bound.shared !== undefined) surplus.addShared(items.length, field.bound.shared, path + field.name);
    const inner = Array.isArray(member) ? field.message : field.message?.byNumber[2]?.message;
    if (inner === undefined) continue;
    for (const [at, item] of items.entries()) countItems(item, { plan: inner, path: `${path}${field.name}[${at}].`, surplus });
  }
}

function isLongText(value: unknown): boolean {
  return typeof value === "string" && value.length > MAX_DIGITS;
}
