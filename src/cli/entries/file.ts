/**
 * Reads entry files for `apply`, and files with other messages. The files have the JSON form of the protos, and are checked field by field so that every problem is reported with
 * its line.
 */
import { type DescField, type DescMessage, fromJson, type JsonValue, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { type Path, pathToString } from "@bufbuild/protobuf/reflect";
import { createValidator } from "@bufbuild/protovalidate";
import { KIND_OF_DETAIL } from "../../../gen/waymark/catalog/v1/entry_kinds.ts";
import { type Entry, EntryKind, EntrySchema } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { RECORD_BOUNDS } from "../../lib/bounds.ts";
import { type DocumentNode, type LineProblem, readDocuments } from "../../lib/formats/documents.ts";
import { didYouMean } from "../../lib/nearest.ts";
import { CommandError } from "../exit.ts";

/** An entry and its position in the file. */
export interface FileEntry {
  readonly entry: Entry;
  readonly place: DocumentNode;
}

export interface EntryFile {
  readonly entries: readonly FileEntry[];
  readonly problems: readonly LineProblem[];
}

/**
 * Reads entries. Each document is an entry, a list of entries, or an object with such a list in `entries` or `items`. Field names are the names in
 * the protos, in snake_case or camelCase. Enums can be given by their last word (`scope: zone`).
 */
export function readEntryFile(text: string): EntryFile {
  const { places, problems: broken } = readDocuments(text);
  const problems = [...broken];
  const found: FileEntry[] = [];
  for (const place of places.flatMap(entryPlaces)) {
    const before = problems.length;
    const json = normalise(place, EntrySchema, problems);
    if (problems.length > before || json === undefined) continue;
    const entry = fromJson(EntrySchema, json);
    found.push({ entry, place });
  }
  const entries = checkEntries(found, problems);
  return { entries, problems: problems.toSorted((a, b) => a.line - b.line) };
}

/** Reads the only message of a file, with the same rules for its fields. Throws the problems, with the name of the file. */
export function readMessageFile<D extends DescMessage>(text: string, desc: D, file: string): MessageShape<D> {
  const { places, problems: broken } = readDocuments(text);
  const problems = [...broken];
  const [place] = places;
  if (problems.length === 0 && (place === undefined || places.length > 1))
    problems.push({ line: places[1]?.line() ?? 1, message: `must contain one document, got ${places.length}` });
  const json = place === undefined ? undefined : normalise(place, desc, problems);
  if (json !== undefined && problems.length === 0) return fromJson(desc, json);
  throw new CommandError([...problems.map(({ line, message }) => `${file}:${line}: ${message}`), "nothing was applied"].join("\n"));
}

function entryPlaces(place: DocumentNode): readonly DocumentNode[] {
  const { value } = place;
  if (Array.isArray(value)) return value.map((_, index) => place.at(index));
  if (typeof value !== "object" || value === null) return [place];
  // In the output of a query, the entries are in `items`.
  for (const [name, list] of Object.entries(value))
    if ((name === "entries" || name === "items") && Array.isArray(list)) return list.map((_, index) => place.at(name).at(index));
  return [place];
}

/** Maximum number of characters of a value that an error shows. */
const MAX_SHOWN_LENGTH = 100;

/** Returns the invalid text or number at a path, for an error message. Empty for other values, and for values that are too long to show. */
function valueText(entry: Entry, path: Path): string {
  let at: unknown = entry;
  const enter = (name: PropertyKey): void => {
    at = typeof at === "object" && at !== null ? (Reflect.get(at, name) as unknown) : undefined;
  };
  for (const step of path) {
    if (step.kind === "list_sub") enter(step.index);
    else if (step.kind === "map_sub") enter(String(step.key));
    else if (step.kind === "oneof") enter(step.localName);
    else if (step.kind === "field" && step.oneof !== undefined) {
      enter(step.oneof.localName);
      enter("value");
    } else if (step.kind === "field") enter(step.localName);
  }
  const text = typeof at === "string" || typeof at === "number" ? JSON.stringify(at) : "";
  return text === "" || text.length > MAX_SHOWN_LENGTH ? "" : `${text} is invalid: `;
}

/** Returns the entries that obey the rules of the protos and have unique keys. Reports a problem for each of the other entries. */
export function checkEntries(found: readonly FileEntry[], problems: LineProblem[]): readonly FileEntry[] {
  const validator = createValidator();
  const firstOfKey = new Map<string, DocumentNode>();
  return found.filter(({ entry, place }) => {
    const before = problems.length;
    const refuse = (message: string): void => void problems.push({ line: place.line(), message });
    const result = validator.validate(EntrySchema, entry);
    if (result.kind === "invalid") {
      for (const { field, message, ruleId } of result.violations)
        if (!SIZE_RULES.has(ruleId)) refuse(`${pathToString(field)}: ${valueText(entry, field)}${message}`);
    }
    if (result.kind === "error") refuse(result.error.message);
    const sizeBytes = toBinary(EntrySchema, entry).length;
    if (sizeBytes > RECORD_BOUNDS.maxEntryBytes)
      refuse(`is ${sizeBytes} bytes when encoded, more than the maximum of ${RECORD_BOUNDS.maxEntryBytes}`);
    const key = keyOf(entry);
    const first = firstOfKey.get(key);
    if (first === undefined) firstOfKey.set(key, place);
    else refuse(`has the same key as the entry on line ${first.line()}`);
    return problems.length === before;
  });
}

/** Rules for lengths and counts. Only the server checks these rules, because its settings may differ from the defaults in the protos. */
const SIZE_RULES: ReadonlySet<string> = new Set(["string.max_len", "string.max_bytes", "repeated.max_items", "map.max_pairs"]);

/** The key of an entry as text, without the cluster. */
export function keyOf({ key, detail }: Entry): string {
  const kind = key?.kind === undefined || key.kind === EntryKind.UNSPECIFIED ? KIND_OF_DETAIL[detail.case ?? "service"] : key.kind;
  return [key?.namespace, key?.name, kind, key?.instanceId].join("\0");
}

/** Returns the value as JSON that `fromJson` accepts completely, or undefined after reporting the problems. */
function normalise(place: DocumentNode, desc: DescMessage, problems: LineProblem[]): JsonValue | undefined {
  const { value } = place;
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    const rule = desc === EntrySchema ? "an entry: expected an object with key, targets, and other fields" : `a ${desc.name}`;
    problems.push({ line: place.line(), message: `${shown(value)} is not ${rule}` });
    return undefined;
  }
  const json: Record<string, JsonValue> = {};
  for (const [name, item] of Object.entries(value)) {
    if (item === null || item === undefined) continue;
    const field = desc.fields.find((candidate) => candidate.name === name || candidate.jsonName === name);
    if (field === undefined) {
      const names = desc.fields.map((candidate) => candidate.name);
      problems.push({ line: place.line([name]), message: `${name}: unknown field${didYouMean(name, names)}` });
      continue;
    }
    const normal = normaliseField({ place: place.at(name), line: place.line([name]) }, field, problems);
    if (normal !== undefined) json[field.jsonName] = normal;
  }
  return json;
}

interface EntrySpot {
  readonly place: DocumentNode;
  readonly line: number;
}

function isOwn(message: DescMessage | undefined): message is DescMessage {
  return message !== undefined && message.typeName.startsWith("waymark.");
}

function normaliseField({ place, line }: EntrySpot, field: DescField, problems: LineProblem[]): JsonValue | undefined {
  const { value } = place;
  if (isOwn(field.message) && field.fieldKind === "message") return normalise(place, field.message, problems);
  if (isOwn(field.message) && field.fieldKind === "list" && Array.isArray(value)) {
    const { message } = field;
    return value.flatMap((_, index) => normalise(place.at(index), message, problems) ?? []);
  }
  const json = enumWords(value, field);
  try {
    // Each field is read separately, so that one invalid value does not hide the next.
    fromJson(field.parent, { [field.jsonName]: json });
    return json;
  } catch {
    problems.push({ line, message: `${field.name}: ${shown(value)} is not ${expected(field)}` });
    return undefined;
  }
}

/** Converts `zone` to `SCOPE_ZONE`. Returns other values unchanged, so that `fromJson` rejects them. */
function enumWords(value: unknown, field: DescField): JsonValue {
  const { enum: desc } = field;
  const one = (item: unknown): JsonValue => {
    if (desc === undefined || typeof item !== "string") return jsonOf(item);
    const upper = item.toUpperCase();
    return desc.values.find(({ name }) => name === item || name.endsWith(`_${upper}`))?.name ?? item;
  };
  return Array.isArray(value) ? value.map(one) : one(value);
}

/** Converts a YAML 1.2 value to JSON. */
function jsonOf(value: unknown): JsonValue {
  if (value === null || typeof value === "string" || typeof value === "number" || typeof value === "boolean") return value;
  if (Array.isArray(value)) return value.map(jsonOf);
  if (typeof value === "object") return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, jsonOf(item)]));
  return shown(value);
}

function expected(field: DescField): string {
  const one = field.enum ? `one of ${words(field)}` : field.message ? expectedMessage(field.message) : "text, a number or true/false";
  const scalar = field.scalar === undefined ? one : expectedScalar(field.scalar);
  if (field.fieldKind === "list") return `a list of ${scalar}`;
  return field.fieldKind === "map" ? "a map of text" : scalar;
}

function words(field: DescField): string {
  const names = field.enum?.values.slice(1).map(({ name }) => name.slice(field.enum?.sharedPrefix?.length ?? 0).toLowerCase()) ?? [];
  return names.join(", ");
}

function expectedMessage(message: DescMessage): string {
  if (message.typeName === "google.protobuf.Duration") return 'a duration in seconds, such as "30s"';
  return message.typeName === "google.protobuf.Timestamp" ? "a time such as 2026-01-31T12:00:00Z" : `a ${message.name}`;
}

function expectedScalar(scalar: number): string {
  const TEXT = 9;
  const BOOL = 8;
  if (scalar === TEXT) return "text (quote it)";
  return scalar === BOOL ? "true or false" : "a number in the range of the field";
}

function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 80 ? `${text.slice(0, 77)}...${text.startsWith('"') ? '"' : ""}` : text;
}
