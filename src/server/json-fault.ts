/** Finds the error in an invalid JSON request: the path of the first invalid field, and the reason. It runs only after decoding has failed. */
import {
  type DescEnum,
  type DescField,
  type DescMessage,
  type DescOneof,
  fromJson,
  type JsonObject,
  type JsonValue,
} from "@bufbuild/protobuf";
import type { FieldViolation } from "../lib/errors.ts";
import { findDuplicateKey } from "../lib/formats/json-lines.ts";

const MAX_SHOWN_CHARS = 80;
/** Maximum depth of a request. The parser already rejects deeper requests. */
const MAX_DEPTH = 100;

/** Returns the first error in the JSON text of a request. Returns undefined when the text itself is valid. The cost is a second parse. */
export function findJsonFault(desc: DescMessage, text: string): FieldViolation | undefined {
  let value: JsonValue;
  try {
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- JSON.parse returns a JsonValue.
    value = JSON.parse(text) as JsonValue;
  } catch (error) {
    return { field: "request", description: `invalid JSON: ${error instanceof Error ? shown(error.message) : "unreadable"}` };
  }
  return repeatedName(text) ?? faultOfMessage(desc, value, "", 0);
}

/** Returns the error for a field name that occurs twice in one object. A JSON parser would keep the last value. */
function repeatedName(text: string): FieldViolation | undefined {
  const found = findDuplicateKey(text);
  if (found === undefined) return undefined;
  const path = found.path.reduce<string>((to, part) => (typeof part === "number" ? `${to}[${part}]` : joined(to, shown(part))), "");
  return { field: joined(path, shown(found.key)), description: "duplicate field name" };
}

function faultOfMessage(desc: DescMessage, value: JsonValue, path: string, depth: number): FieldViolation | undefined {
  if (desc.typeName.startsWith("google.protobuf.") || depth > MAX_DEPTH) return faultOfWhole(desc, value, path);
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    return { field: path || "request", description: `expected an object, got ${shownValue(value)}` };
  }
  for (const [key, member] of Object.entries(value)) {
    const field = fieldOf(desc, key);
    const fault = field === undefined ? unknownField(desc, key, path) : faultOfField(desc, field, { key, member, path, depth });
    if (fault !== undefined) return fault;
  }
  const fault = faultOfWhole(desc, value, path);
  return fault?.description.includes("set multiple times") === true ? (conflictingFields(desc, value, path) ?? fault) : fault;
}

function fieldOf(desc: DescMessage, key: string): DescField | undefined {
  return desc.fields.find((known) => known.jsonName === key || known.name === key);
}

/**
 * Returns the error for a field that is set under both of its names, or for two fields of which only one can be set. The parser does not report the
 * location of these errors.
 */
function conflictingFields(desc: DescMessage, value: JsonObject, path: string): FieldViolation | undefined {
  const used = new Map<DescField | DescOneof, string>();
  for (const [key, member] of Object.entries(value)) {
    const field = fieldOf(desc, key);
    if (field === undefined) continue;
    const other = used.get(field);
    if (other !== undefined) return { field: joined(path, field.name), description: `duplicate field: given as ${other} and as ${key}` };
    used.set(field, key);
    if (field.oneof === undefined || member === null) continue;
    const rival = used.get(field.oneof);
    if (rival !== undefined) return { field: path || "request", description: `only one of ${rival} and ${key} can be set` };
    used.set(field.oneof, key);
  }
  return undefined;
}

interface JsonPosition {
  readonly key: string;
  readonly member: JsonValue;
  readonly path: string;
  readonly depth: number;
}

function faultOfField(desc: DescMessage, field: DescField, { key, member, path, depth }: JsonPosition): FieldViolation | undefined {
  const place = joined(path, field.name);
  if (member === null) return undefined;
  switch (field.fieldKind) {
    case "message":
      return faultOfMessage(field.message, member, place, depth + 1);
    case "list": {
      if (!Array.isArray(member)) return { field: place, description: `expected a list, got ${shownValue(member)}` };
      for (const [at, item] of member.entries()) {
        const itemPlace = `${place}[${at}]`;
        const { listKind } = field;
        const fault =
          listKind === "message"
            ? faultOfMessage(field.message, item, itemPlace, depth + 1)
            : faultOfWhole(desc, { [key]: [item] }, itemPlace, field.enum);
        if (fault !== undefined) return fault;
      }
      return undefined;
    }
    case "map": {
      if (typeof member !== "object" || Array.isArray(member))
        return { field: place, description: `expected an object, got ${shownValue(member)}` };
      for (const [name, item] of Object.entries(member)) {
        const fault = faultOfWhole(desc, { [key]: { [name]: item } }, `${place}[${JSON.stringify(shown(name))}]`, field.enum);
        if (fault !== undefined) return fault;
      }
      return undefined;
    }
    case "scalar":
    case "enum":
      return faultOfWhole(desc, { [key]: member }, place, field.enum);
  }
}

function unknownField(desc: DescMessage, key: string, path: string): FieldViolation {
  return { field: joined(path, shown(key)), description: `unknown field of ${desc.name}` };
}

/** Returns the error that occurs when the value is decoded. `choices` is the enum of the value, if any. */
function faultOfWhole(desc: DescMessage, value: JsonValue, path: string, choices?: DescEnum): FieldViolation | undefined {
  try {
    fromJson(desc, value, { ignoreUnknownFields: false });
    return undefined;
  } catch (error) {
    const form = WELL_KNOWN[desc.typeName];
    const description = form === undefined ? parserMessage(error, choices) : `expected ${form}, got ${shownValue(value)}`;
    return { field: path || "request", description };
  }
}

/** The expected JSON forms of well-known types. For these types the parser's message contains only the received value. */
const WELL_KNOWN: Readonly<Record<string, string>> = {
  "google.protobuf.Duration": 'a duration in seconds such as "1.5s"',
  "google.protobuf.Timestamp": 'a time such as "2026-01-31T12:00:00Z"',
};

/** Returns the parser's message without the type path, which is replaced by the field path. */
function parserMessage(error: unknown, choices: DescEnum | undefined): string {
  const text = error instanceof Error ? error.message : "unreadable";
  const words = /from JSON: (.*)$/s.exec(text)?.[1] ?? text;
  const name = /^cannot decode enum \S*?([^.\s]+) from JSON/.exec(text)?.[1];
  if (name === undefined) return shown(words.replace(/^(list item #\d+|map entry ".*?"): /, ""));
  const names = choices?.values.flatMap((value) => (value.number === 0 ? [] : [value.name])) ?? [];
  return `${shown(words)} is not a value of ${name}${names.length === 0 ? "" : `: allowed values are ${names.join(", ")}`}`;
}

function joined(path: string, name: string): string {
  return path === "" ? name : `${path}.${name}`;
}

function shownValue(value: JsonValue): string {
  return Array.isArray(value) ? "a list" : value !== null && typeof value === "object" ? "an object" : shown(JSON.stringify(value));
}

function shown(text: string): string {
  return text.length <= MAX_SHOWN_CHARS ? text : `${text.slice(0, MAX_SHOWN_CHARS)}…`;
}
