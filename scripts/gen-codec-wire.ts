/** The part of `gen-codec.ts` that writes how messages are read and written: types, tags, readers, writers, and the room they take. */
import { type Choice, constantName, type Field, type Message, typeOf, WIRE } from "./gen-codec-model.ts";

const upper = (name: string): string => name.slice(0, 1).toUpperCase() + name.slice(1);
const tagBytes = ({ tag }: Field): number => (tag < 128 ? 1 : tag < 16_384 ? 2 : 3);
const isChoice = (member: Field | Choice): member is Choice => "fields" in member;

/** An entry is kept as bytes, and its layout matters to those who read a part of it. */
export interface EntryLayout {
  readonly entry: Message;
  /** Names of the fields of an entry that follow its content: what a later load or a later time changes is not content. */
  readonly tail: readonly string[];
  /** Names of the fields that the server says in place of the client. */
  readonly stamped: readonly string[];
  /** Messages that are kept by themselves, and of which the most bytes are asked for. */
  readonly fixed: readonly string[];
}

/** What there is code for: an entry with all that it consists of, or messages that are sent by themselves. */
export interface Codec {
  readonly entry?: EntryLayout;
  /** Messages of which the whole bytes are read and written, and that are written in parts. */
  readonly roots: readonly Message[];
}

/** All messages of a codec, each after those that it consists of. */
export function messagesOf({ entry, roots }: Codec): readonly Message[] {
  return [...new Set([...(entry?.entry.all ?? []), ...roots.flatMap(({ all }) => all)])];
}

/** Text of the file with the codec. */
export function codecText(codec: Codec): string {
  const { entry, roots } = codec;
  const messages = messagesOf(codec);
  const fields = messages.flatMap((message) => message.fields);
  const flat = new Set(fields.filter(({ isFlat }) => isFlat).map(({ message }) => message));
  const nested = new Set(fields.filter(({ isFlat }) => !isFlat).map(({ message }) => message));
  const parts = messages.flatMap((message) => {
    const isEntry = message === entry?.entry;
    if (flat.has(message)) return [typeText(message), readFlatText(message), roomText(message, []), writeText(message, false)];
    const isRoot = roots.includes(message);
    return [
      typeText(message),
      newText(message),
      ...(fields.some(({ message: inner, sort }) => inner === message && sort.zero !== "undefined") ? [noText(message)] : []),
      ...maxTexts(message),
      isEntry ? readEntryText(entry) : nested.has(message) ? readText(message) : "",
      roomText(message, isEntry ? [...entry.tail, ...entry.stamped] : []),
      isEntry ? writeEntryText(entry) : nested.has(message) ? writeText(message, isRoot) : "",
      ...(isRoot ? [wholeText(message)] : []),
      ...(entry?.fixed.includes(message.name) === true ? [copyText(message), fixedText(message)] : []),
    ].filter((text) => text !== "");
  });
  const code = parts.join("\n\n");
  return `${importsText(code)}\n${OPEN}\n${code}\n`;
}

/** What generated code may call. */
const TOOLS = [
  "bytesRoom",
  "closeLength",
  "grown",
  "mayGrow",
  "misplaced",
  "NO_ITEMS",
  "NO_TIME",
  "once",
  "openLength",
  "pairsRoom",
  "readPacked",
  "readPair",
  "readTime",
  "textsRoom",
  "TimeFields",
  "WireReader",
  "writeBigField",
  "writeBytesField",
  "writeDoubleField",
  "writeFixed64Field",
  "writeNumberField",
  "writePackedField",
  "writePackedFixed32Field",
  "writePackedFixed64Field",
  "writePairs",
  "writeTextField",
  "writeTexts",
  "writeTimeField",
  "writeVarint",
];

function importsText(code: string): string {
  const used = TOOLS.filter((tool) => new RegExp(`\\b${tool}\\b`).test(code)).map((tool) =>
    tool === "TimeFields" ? "type TimeFields" : tool,
  );
  return `import {\n${used.map((tool) => `  ${tool},\n`).join("")}} from "../../../../src/lib/protowire.ts";\n`;
}

const OPEN = `/** A message while it is being read. */
type Open<T> = { -readonly [F in keyof T]: OpenValue<T[F]> };
type OpenValue<V> = V extends readonly (infer I)[] ? I[] : V extends Readonly<Record<string, string>> ? Record<string, string> : V;
`;

function typeText({ name, members, choices, fields }: Message): string {
  const unions = choices.map(
    (choice) =>
      `export type ${upper(choice.local)}Fields =\n${choice.fields.map(({ local, sort }) => `  | { readonly case: "${local}"; readonly value: ${sort.type} }`).join("\n")};\n\n`,
  );
  const own = members.flatMap((member) => {
    if (isChoice(member))
      return [`  readonly ${member.local}: ${upper(member.local)}Fields | { readonly case: undefined; readonly value?: undefined };`];
    if (member.isFlat) return [];
    const { local, isAbsent, isExact } = member;
    return [`  readonly ${local}${isAbsent ? "?" : ""}: ${typeOf(member)}${isAbsent && !isExact ? " | undefined" : ""};`];
  });
  const flat = fields.filter(({ isFlat }) => isFlat).map(({ message }) => `${message?.name}Fields`);
  const body =
    members.length === 0
      ? `type ${name}Fields = object;`
      : `interface ${name}Fields ${flat.length > 0 ? `extends ${flat.join(", ")} ` : ""}{\n${own.join("\n")}\n}`;
  return `${unions.join("")}/** \`${name}\` as plain values; a decoded message is one too. */\nexport ${body}`;
}

/** The values of a message that says nothing, a line each. */
function zerosOf({ members }: Message): readonly string[] {
  return members.flatMap((member) => {
    if (isChoice(member)) return [`    ${member.local}: { case: undefined },`];
    const { local, shape, sort, message, isFlat, isAbsent, isExact } = member;
    if (isFlat && message !== undefined) return zerosOf(message);
    if (isAbsent) return isExact ? [] : [`    ${local}: undefined,`];
    return [`    ${local}: ${shape === "alone" ? sort.zero : shape === "map" ? "{}" : isShort(member) ? "NO_ITEMS" : "[]"},`];
  });
}

function newText(message: Message): string {
  const zeros = zerosOf(message);
  const body = zeros.length === 0 ? "{}" : `{\n${zeros.join("\n")}\n  }`;
  return `export function new${message.name}(): Open<${message.name}Fields> {\n  return ${body};\n}`;
}

/** For what has to be there: its own fields are then refused. */
function noText({ name }: Message): string {
  return `const NO_${constantName(name)}: ${name}Fields = new${name}();`;
}

const maxName = (of: string, name: string): string => `MAX_${constantName(of)}_${name.toUpperCase()}`;

/** Bounds of lists, which hold while these are read. */
function maxTexts({ name, fields }: Message): readonly string[] {
  return fields
    .filter(({ maxItems }) => maxItems !== undefined)
    .map((field) => `export const ${maxName(name, field.name)} = ${field.maxItems};`);
}

/** The cases of a switch over tags. */
function casesText({ name, fields, choices, skippedTags }: Message): string {
  const labels = skippedTags.map((tag) => `      case ${tag}:\n`).join("");
  const skipped = labels === "" ? "" : `${labels}        reader.skip(tag);\n        break;\n`;
  const choiceOf = (field: Field) => choices.find((choice) => choice.fields.includes(field));
  return fields.map((field) => caseText(field.tag, takeText(name, field, choiceOf(field))) + unpackedText(name, field)).join("") + skipped;
}

/** In a block of its own where it needs one. */
function caseText(tag: number, take: string): string {
  const [open, close] = take.includes("const ") ? [" {", "      }\n"] : ["", ""];
  return `      case ${tag}:${open}\n${take}        break;\n${close}`;
}

function takeText(of: string, field: Field, choice: Choice | undefined): string {
  const { name, local, shape, sort, message, isFlat, isAbsent, maxItems } = field;
  if (choice !== undefined)
    return `        once(value.${choice.local}.case, "${choice.name}");\n        value.${choice.local} = { case: "${local}", value: ${sort.read} };\n`;
  if (isFlat) return `        read${message?.name}(reader, value);\n`;
  if (shape === "map") return `        readPair(reader, value.${local});\n`;
  if (shape === "packed" && maxItems === undefined) return `        readPacked(reader, value.${local});\n`;
  if (shape === "packed")
    return `        const outer = reader.enter();\n        while (!reader.isDone()) {\n        ${pushText(of, field)}\n        }\n        reader.leave(outer);\n`;
  if (isShort(field)) return `        value.${local} = grown(value.${local}, ${sort.read});\n`;
  if (shape === "list") return `        ${pushText(of, field)}\n`;
  if (sort.zero === "undefined") return `        once(value.${local}, "${name}");\n        value.${local} = ${sort.read};\n`;
  // A message that has to be there stands for nothing until it is read.
  if (sort.zero.startsWith("NO_"))
    return `        if (value.${local} !== ${sort.zero}) throw misplaced("${name} is there twice");\n        value.${local} = ${sort.read};\n`;
  if (!isAbsent || sort.type === "Uint8Array") return `        value.${local} = ${sort.read};\n`;
  // A zero that is there says no more than one that is not.
  return `        const said = ${sort.read};\n        if (said !== ${sort.zero}) value.${local} = said;\n`;
}

/** Whether a field is a list of mostly few items: those without a bound in its reader are lists of entries. */
function isShort({ shape, isAbsent, maxItems }: Field): boolean {
  return shape === "list" && !isAbsent && maxItems === undefined;
}

/** Statements that add an item to a list. */
function pushText(of: string, { name, local, sort, isAbsent, maxItems }: Field): string {
  const push = `${isAbsent ? `(value.${local} ??= [])` : `value.${local}`}.push(${sort.read});`;
  const count = `value.${local}${isAbsent ? "?.length ?? 0" : ".length"}`;
  return maxItems === undefined ? push : `mayGrow(${count}, ${maxName(of, name)}, "${of}.${name}");\n        ${push}`;
}

/** A list of numbers may also come one by one. */
function unpackedText(of: string, field: Field): string {
  if (field.shape !== "packed") return "";
  return caseText(field.tag - WIRE.BYTES + field.sort.wire, `        ${pushText(of, field)}\n`);
}

/** Reads the fields of a message into \`value\`, up to the reader's end. */
function loopText(message: Message): string {
  const skip = `reader.skipUnknown(tag, ${message.lastField});`;
  const cases = casesText(message);
  const body =
    cases === ""
      ? `    const tag = reader.tag();\n    ${skip}\n`
      : `    const tag = reader.tag();\n    switch (tag) {\n${cases}      default:\n        ${skip}\n    }\n`;
  return `  while (!reader.isDone()) {\n${body}  }\n`;
}

/** Of a message that stands in another one: narrows the reader first. */
function innerLoopText(message: Message): string {
  return `  const end = reader.enter();\n${loopText(message)}  reader.leave(end);\n`;
}

function readText(message: Message): string {
  const { name } = message;
  return `/** Reads \`${name}\` after its tag. */
export function read${name}(reader: WireReader): ${name}Fields {
  const value = new${name}();
${innerLoopText(message)}  return value;
}`;
}

function readFlatText(message: Message): string {
  const { name } = message;
  return `/** Reads the fields of the message around it. */
function read${name}(reader: WireReader, value: Open<${name}Fields>): void {
${innerLoopText(message)}}`;
}

/** Reads and writes a message that is all there is. */
function wholeText(message: Message): string {
  const { name } = message;
  return `/** The whole bytes of \`${name}\`. Refuses what is malformed; \`check${name}\` has the rules. */
export function decode${name}(bytes: Uint8Array): ${name}Fields {
  const reader = new WireReader(bytes);
  const value = new${name}();
${loopText(message)}  return value;
}

/** Writes the fields of \`${name}\`; \`out\` has \`room${name}\` bytes after \`start\`. Returns the offset after them. */
export function put${name}(out: Uint8Array, start: number, value: ${name}Fields): number {
  let at = start;
${writesText(message)}  return at;
}

export function encode${name}(value: ${name}Fields): Uint8Array {
  const out = new Uint8Array(room${name}(value));
  return out.subarray(0, put${name}(out, 0, value));
}`;
}

function readEntryText({ entry, tail }: EntryLayout): string {
  const tags = entry.fields.map(({ local, tag }) => `  ${local}: ${tag},\n`);
  const isTail = tail.map((name) => `tag === ${fieldNamed(entry, name).tag}`).join(" || ");
  return `/** Tags of an entry's fields. */
export const ENTRY_TAG = {\n${tags.join("")}} as const;

/** An entry read, and how many of its bytes are content: what comes before ${tail.join(", ")}. */
export interface ReadEntry {
  readonly entry: EntryFields;
  readonly contentBytes: number;
}

/**
 * Reads a sealed entry. Refuses singular messages that are there twice, and content after ${tail.join(", ")}, which are never written. Fields whose
 * bit is not set in \`fields\`, by their numbers, are skipped.
 */
export function readEntry(bytes: Uint8Array, fields = ~0): ReadEntry {
  const reader = new WireReader(bytes);
  const value = newEntry();
  let contentBytes = 0;
  let isTail = false;
  while (!reader.isDone()) {
    const from = reader.at;
    const tag = reader.tag();
    const isTailField = ${isTail};
    if (isTail && !isTailField) throw misplaced(\`content after load or times at byte \${from}\`);
    isTail = isTailField;
    if ((fields & (1 << (tag >> 3))) === 0) reader.skip(tag);
    else
      switch (tag) {
${casesText(entry).replaceAll(/^(?=.)/gm, "  ")}        default:
          reader.skipUnknown(tag, ${entry.lastField});
      }
    if (!isTail) contentBytes = reader.at;
  }
  return { entry: value, contentBytes };
}

/** Reads an entry of a request after its tag: its fields may come in any order. */
export function readEntryField(reader: WireReader): EntryFields {
  const value = newEntry();
${innerLoopText(entry)}  return value;
}`;
}

function fieldNamed({ fields, name }: Message, wanted: string): Field {
  const found = fields.find((field) => field.name === wanted);
  if (found === undefined) throw new Error(`${name} has no field ${wanted}, which scripts/gen-codec.ts names`);
  return found;
}

/** A function that says how many bytes a message surely fits into; what is at most so long counts as that. */
function roomText({ name, fields, choices }: Message, without: readonly string[]): string {
  const chosen = new Set(choices.flatMap((choice) => choice.fields));
  const counted = fields.filter((field) => !without.includes(field.name) && !chosen.has(field));
  let fixed = 0;
  const texts: string[] = [];
  const more: string[] = [];
  for (const field of counted) {
    const { local, shape, sort, isFlat, isAbsent } = field;
    if (shape !== "alone") more.push(manyRoomText(field));
    else fixed += sort.maxBytes === undefined ? 10 : 3 + sort.maxBytes;
    if (shape !== "alone" || sort.maxBytes !== undefined) continue;
    const length = isAbsent ? `(value.${local}?.length ?? 0)` : `value.${local}.length`;
    if (isFlat) more.push(`  room += room${field.message?.name}(value);`);
    else if (sort.type === "string") texts.push(length);
    else if (field.message === undefined) more.push(`  room += ${length};`);
    else
      more.push(
        `  ${sort.zero === "undefined" ? `if (value.${local} !== undefined) ` : ""}room += room${field.message.name}(value.${local});`,
      );
  }
  const cases = choices.flatMap((choice) => [
    `  switch (value.${choice.local}.case) {`,
    ...choice.fields.map(
      ({ local, message }) => `    case "${local}":\n      room += 10 + room${message?.name}(value.${choice.local}.value);\n      break;`,
    ),
    "    case undefined:\n  }",
  ]);
  const given = texts.length + more.length + cases.length === 0 ? "_value" : "value";
  const start = texts.length === 0 ? `${fixed}` : `${fixed} + 3 * (${texts.join(" + ")})`;
  const body =
    more.length + cases.length === 0 ? `  return ${start};` : [`  let room = ${start};`, ...more, ...cases, "  return room;"].join("\n");
  return `/** Bytes that surely hold \`${name}\`${without.length > 0 ? ", without tail and stamps" : ""}. Cost: one step a text. */
export function room${name}(${given}: ${name}Fields): number {\n${body}\n}`;
}

function manyRoomText({ local, shape, sort, message, isAbsent }: Field): string {
  const at = `value.${local}`;
  const given = isAbsent ? `  if (${at} !== undefined) ` : "  ";
  if (shape === "map") return `${given}room += pairsRoom(${at});`;
  if (shape === "packed") return `${given}room += 10 + 8 * ${at}.length;`;
  if (message === undefined) return `${given}room += ${sort.type === "string" ? "textsRoom" : "bytesRoom"}(${at});`;
  return `${given}for (let i = 0; i < ${at}.length; i++) room += 10 + room${message.name}(${at}[i] ?? new${message.name}());`;
}

/** The statements that write fields, in the order of their numbers. */
function writesText({ members }: Message, without: readonly string[] = [], stamped: readonly string[] = []): string {
  return members
    .map((member) => {
      if (isChoice(member)) return writeChoiceText(member);
      if (without.includes(member.name)) return "";
      return writeFieldText(member, `${stamped.includes(member.name) ? "stamped" : "value"}.${member.local}`);
    })
    .join("");
}

function writeFieldText(field: Field, at: string): string {
  const { shape, sort, tag, message, isFlat, isAbsent, hasPresence } = field;
  const said = (value: string): string => `at = ${writeOf(field, value)};`;
  if (isFlat) return `  at = write${message?.name}(out, at, ${tag}, value);\n`;
  if (shape !== "alone") return writeManyText(field, at, said("item"));
  if (sort.type === "Uint8Array" && !hasPresence)
    return `  if (${isAbsent ? `${at} !== undefined && ` : ""}${at}.length > 0) ${said(at)}\n`;
  if (sort.zero === "undefined" || hasPresence) return `  if (${at} !== undefined) ${said(at)}\n`;
  return `  ${said(isAbsent ? `(${at} ?? ${sort.zero})` : at)}\n`;
}

function writeOf({ sort, tag }: Field, value: string): string {
  return sort.write.replace(/\bTAG\b/, String(tag)).replace(/\bV\b/, () => value);
}

const PACKERS: ReadonlyMap<number, string> = new Map([
  [WIRE.FIXED32, "writePackedFixed32Field"],
  [WIRE.FIXED64, "writePackedFixed64Field"],
]);

function writeManyText({ shape, sort, tag, message, isAbsent }: Field, at: string, item: string): string {
  const given = isAbsent ? `  if (${at} !== undefined) ` : "  ";
  if (shape === "map") return `${given}at = writePairs(out, at, ${tag}, ${at});\n`;
  if (shape === "packed") return `${given}at = ${PACKERS.get(sort.wire) ?? "writePackedField"}(out, at, ${tag}, ${at});\n`;
  if (message === undefined && sort.type === "string") return `${given}at = writeTexts(out, at, ${tag}, ${at});\n`;
  return `${given}for (let i = 0; i < ${at}.length; i++) {\n    const item = ${at}[i];\n    if (item !== undefined) ${item}\n  }\n`;
}

function writeChoiceText({ local, fields }: Choice): string {
  const cases = fields.map((field) => `    case "${field.local}":\n      at = ${writeOf(field, `value.${local}.value`)};\n      break;\n`);
  return `  switch (value.${local}.case) {\n${cases.join("")}    case undefined:\n  }\n`;
}

function writeText(message: Message, isRoot: boolean): string {
  const { name } = message;
  const writes = isRoot ? `  at = put${name}(out, at, value);\n` : writesText(message);
  const body =
    writes === ""
      ? `  const body = openLength(writeVarint(out, start, tag));\n  return closeLength(out, body, body);`
      : `  const body = openLength(writeVarint(out, start, tag));\n  let at = body;\n${writes}  return closeLength(out, body, at);`;
  return `/** Writes \`${name}\` as a field; returns the offset after it. */
export function write${name}(out: Uint8Array, start: number, tag: number, ${writes === "" ? "_value" : "value"}: ${name}Fields): number {\n${body}\n}`;
}

function writeEntryText({ entry, tail, stamped }: EntryLayout): string {
  const names = stamped.map((name) => `"${fieldNamed(entry, name).local}"`).join(" | ");
  return `/** What the server says of an entry, whatever the client said. */
export type StampedFields = Required<Pick<EntryFields, ${names}>>;

/** Writes an entry without ${tail.join(", ")}; \`out\` has \`roomEntry\` bytes after \`start\`, and room for the stamps. Returns the offset after it. */
export function writeContent(out: Uint8Array, start: number, value: EntryFields, stamped: StampedFields): number {
  let at = start;
${writesText(entry, tail, stamped)}  return at;
}`;
}

/** A copy of the fields alone: a decoded message has more. */
function copyText({ name, members }: Message): string {
  const copies = members.map(({ local }) => `    ${local}: value.${local},\n`);
  return `/** The fields alone, in the order of \`new${name}\`: a decoded message has more. */
export function copy${name}(value: ${name}Fields): ${name}Fields {
  return {\n${copies.join("")}  };
}`;
}

function fixedText({ name, fields }: Message): string {
  const bytes = fields.map((field) => {
    const { maxBytes } = field.sort;
    if (maxBytes === undefined || field.shape !== "alone")
      throw new Error(`${field.desc.toString()}: a ${name} has a greatest size, so it has no texts and no lists`);
    return tagBytes(field) + maxBytes;
  });
  return `/** Most bytes that \`${name}\` takes as a field, tag and length included. */\nexport const ${constantName(name)}_MAX_BYTES = ${bytes.reduce((sum, size) => sum + size, 5)};`;
}
