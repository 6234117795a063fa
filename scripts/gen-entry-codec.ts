/** The part of `gen-entry.ts` that writes how entries are read and written: types, tags, readers, writers, and the room they take. */
import { type DescField, type DescMessage, type DescOneof, ScalarType } from "@bufbuild/protobuf";

const WIRE = { VARINT: 0, FIXED64: 1, BYTES: 2 } as const;

/** How a value of one sort is handled; `V` stands for the value, `TAG` for the field's tag. */
interface Sort {
  readonly type: string;
  /** What a field has that is not there. */
  readonly zero: string;
  readonly wire: (typeof WIRE)[keyof typeof WIRE];
  readonly read: string;
  readonly write: string;
  /** Bytes that it takes at most after its tag; undefined when that depends on the value. */
  readonly maxBytes: number | undefined;
}

const TEXT: Sort = {
  type: "string",
  zero: '""',
  wire: WIRE.BYTES,
  read: "reader.text()",
  write: "writeTextField(out, at, TAG, V)",
  maxBytes: undefined,
};
const NUMBER: Sort = {
  type: "number",
  zero: "0",
  wire: WIRE.VARINT,
  read: "reader.varint()",
  write: "writeNumberField(out, at, TAG, V)",
  maxBytes: 8,
};
const TIME: Sort = {
  type: "TimeFields",
  zero: "undefined",
  wire: WIRE.BYTES,
  read: "readTime(reader)",
  write: "writeTimeField(out, at, TAG, V)",
  maxBytes: 17,
};
const SCALARS: ReadonlyMap<ScalarType, Sort> = new Map([
  [ScalarType.STRING, TEXT],
  [ScalarType.UINT32, NUMBER],
  [
    ScalarType.BOOL,
    { ...NUMBER, type: "boolean", zero: "false", read: "reader.varint() !== 0", write: "writeNumberField(out, at, TAG, V ? 1 : 0)" },
  ],
  [
    ScalarType.UINT64,
    { ...NUMBER, type: "bigint", zero: "0n", read: "reader.varint64()", write: "writeBigField(out, at, TAG, V)", maxBytes: 10 },
  ],
  [ScalarType.DOUBLE, { ...NUMBER, wire: WIRE.FIXED64, read: "reader.double()", write: "writeDoubleField(out, at, TAG, V)", maxBytes: 8 }],
]);

export function isTime({ typeName }: DescMessage): boolean {
  return typeName === "google.protobuf.Timestamp" || typeName === "google.protobuf.Duration";
}

function sortOf(field: DescField): Sort {
  if (field.message !== undefined) return isTime(field.message) ? TIME : messageSort(field.message);
  if (field.enum !== undefined) return NUMBER;
  const sort = field.scalar === undefined ? undefined : SCALARS.get(field.scalar);
  const hasPresence = field.fieldKind === "scalar" && field.proto.proto3Optional;
  if (sort === undefined || hasPresence)
    throw new Error(`${field.toString()}: entries have no fields of this type yet; scripts/gen-entry-codec.ts knows those there are`);
  return sort;
}

function messageSort({ name }: DescMessage): Sort {
  return {
    type: `${name}Fields`,
    zero: "undefined",
    wire: WIRE.BYTES,
    read: `read${name}(reader)`,
    write: `write${name}(out, at, TAG, V)`,
    maxBytes: undefined,
  };
}

function tagOf(field: DescField): number {
  return field.number * 8 + (field.fieldKind === "list" || field.fieldKind === "map" ? WIRE.BYTES : sortOf(field).wire);
}

const tagBytes = (field: DescField): number => (tagOf(field) < 128 ? 1 : tagOf(field) < 16_384 ? 2 : 3);
const upper = (name: string): string => name.slice(0, 1).toUpperCase() + name.slice(1);
const isAlone = (field: DescField): boolean => field.fieldKind !== "list" && field.fieldKind !== "map";

/** Fields in the order of their numbers. */
export function fieldsOf({ fields }: DescMessage): readonly DescField[] {
  return fields.toSorted((a, b) => a.number - b.number);
}

/** Fields of a message, a oneof in the place of its first, in the order of their numbers. */
function membersOf(message: DescMessage): readonly (DescField | DescOneof)[] {
  return [...new Set(fieldsOf(message).map((field) => field.oneof ?? field))];
}

/** The messages of the contract that a message consists of, each after those that it consists of itself. */
export function messagesOf(message: DescMessage): readonly DescMessage[] {
  const own = fieldsOf(message).flatMap((field) => (field.message === undefined || isTime(field.message) ? [] : messagesOf(field.message)));
  return [...new Set([...own, message])];
}

/** What the written order depends on beside the numbers: fields that come last, since they do not count as content. */
export interface Layout {
  readonly entry: DescMessage;
  /** Names of the fields of an entry that follow its content. */
  readonly tail: readonly string[];
  /** Names of the fields that the server says in place of the client. */
  readonly stamped: readonly string[];
  /** Messages that are kept by themselves, and of which the most bytes are asked for. */
  readonly fixed: readonly string[];
}

/** Text of `entry_codec.ts`. */
export function codecText(layout: Layout): string {
  const messages = messagesOf(layout.entry);
  const parts = messages.flatMap((message) => {
    const isEntry = message === layout.entry;
    return [
      typeText(message),
      newText(message),
      isEntry ? readEntryText(layout) : readText(message),
      roomText(message, isEntry ? [...layout.tail, ...layout.stamped] : []),
      isEntry ? writeEntryText(layout) : writeText(message),
      ...(layout.fixed.includes(message.name) ? [copyText(message), fixedText(message)] : []),
    ];
  });
  const code = parts.join("\n\n");
  return `${importsText(code)}\n${OPEN}\n${code}\n`;
}

/** What generated code may call. */
const TOOLS = [
  "closeLength",
  "misplaced",
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
  "writeDoubleField",
  "writeNumberField",
  "writePackedField",
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
type Open<T> = {
  -readonly [F in keyof T]: T[F] extends readonly (infer I)[] ? I[] : T[F] extends Readonly<Record<string, string>> ? Record<string, string> : T[F];
};
`;

function typeText(message: DescMessage): string {
  const unions = message.oneofs.map(
    (oneof) =>
      `export type ${upper(oneof.localName)}Fields =\n${oneof.fields.map((field) => `  | { readonly case: "${field.localName}"; readonly value: ${sortOf(field).type} }`).join("\n")};\n\n`,
  );
  const members = membersOf(message).map((member) => {
    if (member.kind === "oneof")
      return `  readonly ${member.localName}: ${upper(member.localName)}Fields | { readonly case: undefined; readonly value?: undefined };`;
    const { type, zero } = sortOf(member);
    if (member.fieldKind === "list") return `  readonly ${member.localName}: readonly ${type}[];`;
    if (member.fieldKind === "map") return `  readonly ${member.localName}: Readonly<Record<string, string>>;`;
    return `  readonly ${member.localName}${zero === "undefined" ? "?" : ""}: ${type}${zero === "undefined" ? " | undefined" : ""};`;
  });
  const body =
    members.length === 0 ? `type ${message.name}Fields = object;` : `interface ${message.name}Fields {\n${members.join("\n")}\n}`;
  return `${unions.join("")}/** \`${message.name}\` as plain values; a decoded message is one too. */\nexport ${body}`;
}

function newText(message: DescMessage): string {
  const members = membersOf(message).map((member) => {
    if (member.kind === "oneof") return `    ${member.localName}: { case: undefined },`;
    if (member.fieldKind === "list") return `    ${member.localName}: [],`;
    if (member.fieldKind === "map") return `    ${member.localName}: {},`;
    return `    ${member.localName}: ${sortOf(member).zero},`;
  });
  const body = members.length === 0 ? "{}" : `{\n${members.join("\n")}\n  }`;
  return `export function new${message.name}(): Open<${message.name}Fields> {\n  return ${body};\n}`;
}

/** The cases of a switch over tags. */
function casesText(message: DescMessage): string {
  return fieldsOf(message)
    .map((field) => `      case ${tagOf(field)}:\n${takeText(field)}        break;\n${unpackedText(field)}`)
    .join("");
}

function takeText(field: DescField): string {
  const { localName: name, oneof } = field;
  const { read, zero } = sortOf(field);
  if (oneof !== undefined)
    return `        once(value.${oneof.localName}.case, "${oneof.name}");\n        value.${oneof.localName} = { case: "${name}", value: ${read} };\n`;
  if (field.fieldKind === "map") return `        readPair(reader, value.${name});\n`;
  if (field.fieldKind === "list")
    return isPacked(field) ? `        readPacked(reader, value.${name});\n` : `        value.${name}.push(${read});\n`;
  return `${zero === "undefined" ? `        once(value.${name}, "${field.name}");\n` : ""}        value.${name} = ${read};\n`;
}

function isPacked(field: DescField): boolean {
  if (field.fieldKind !== "list") return false;
  const sort = sortOf(field);
  if (sort.wire !== WIRE.BYTES && sort !== NUMBER)
    throw new Error(`${field.toString()}: entries have no lists of this type yet; scripts/gen-entry-codec.ts knows those there are`);
  return sort.wire !== WIRE.BYTES;
}

/** A list of numbers may also come one by one. */
function unpackedText(field: DescField): string {
  if (!isPacked(field)) return "";
  return `      case ${field.number * 8 + WIRE.VARINT}:\n        value.${field.localName}.push(reader.varint());\n        break;\n`;
}

const lastField = ({ fields }: DescMessage): number => Math.max(0, ...fields.map(({ number }) => number));

function readText(message: DescMessage): string {
  const { name } = message;
  const skip = `reader.skipUnknown(tag, ${lastField(message)});`;
  const cases = casesText(message);
  const body =
    cases === ""
      ? `    const tag = reader.tag();\n    ${skip}\n`
      : `    const tag = reader.tag();\n    switch (tag) {\n${cases}      default:\n        ${skip}\n    }\n`;
  return `/** Reads \`${name}\` after its tag. */
export function read${name}(reader: WireReader): ${name}Fields {
  const value = new${name}();
  const outer = reader.enter();
  while (!reader.isDone()) {
${body}  }
  reader.leave(outer);
  return value;
}`;
}

function readEntryText({ entry, tail }: Layout): string {
  const tags = fieldsOf(entry).map((field) => `  ${field.localName}: ${tagOf(field)},\n`);
  const isTail = tail.map((name) => `tag === ${tagOf(fieldNamed(entry, name))}`).join(" || ");
  return `/** Tags of an entry's fields. */
export const ENTRY_TAG = {\n${tags.join("")}} as const;

/** An entry read, and how many of its bytes are content: what comes before ${tail.join(", ")}. */
export interface ReadEntry {
  readonly entry: EntryFields;
  readonly contentBytes: number;
}

/** Reads a sealed entry. Refuses what is never written: singular messages twice, content after ${tail.join(", ")}. */
export function readEntry(bytes: Uint8Array): ReadEntry {
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
    switch (tag) {
${casesText(entry)}      default:
        reader.skipUnknown(tag, ${lastField(entry)});
    }
    if (!isTail) contentBytes = reader.at;
  }
  return { entry: value, contentBytes };
}`;
}

function fieldNamed({ fields, name }: DescMessage, wanted: string): DescField {
  const found = fields.find((field) => field.name === wanted);
  if (found === undefined) throw new Error(`${name} has no field ${wanted}, which scripts/gen-entry.ts names`);
  return found;
}

/** A function that says how many bytes a message surely fits into; what is at most so long counts as that. */
function roomText(message: DescMessage, without: readonly string[]): string {
  let fixed = 0;
  const texts: string[] = [];
  const more: string[] = [];
  for (const field of fieldsOf(message).filter(({ name }) => !without.includes(name))) {
    const at = `value.${field.localName}`;
    const { maxBytes } = sortOf(field);
    if (field.oneof !== undefined) continue;
    if (field.fieldKind === "map") more.push(`  room += pairsRoom(${at});`);
    else if (isPacked(field)) more.push(`  room += 10 + 8 * ${at}.length;`);
    else if (field.fieldKind === "list" && field.message === undefined) more.push(`  room += textsRoom(${at});`);
    else if (field.fieldKind === "list")
      more.push(
        `  for (let i = 0; i < ${at}.length; i++) room += 10 + room${field.message?.name}(${at}[i] ?? new${field.message?.name}());`,
      );
    else {
      fixed += maxBytes === undefined ? 10 : 3 + maxBytes;
      if (maxBytes !== undefined) continue;
      if (field.message === undefined) texts.push(`${at}.length`);
      else more.push(`  if (${at} !== undefined) room += room${field.message.name}(${at});`);
    }
  }
  const cases = message.oneofs.flatMap(({ localName, fields }) => [
    `  switch (value.${localName}.case) {`,
    ...fields.map(
      (field) => `    case "${field.localName}":\n      room += 10 + room${field.message?.name}(value.${localName}.value);\n      break;`,
    ),
    "    case undefined:\n  }",
  ]);
  const given = texts.length + more.length + cases.length === 0 ? "_value" : "value";
  const start = texts.length === 0 ? `${fixed}` : `${fixed} + 3 * (${texts.join(" + ")})`;
  const body =
    more.length + cases.length === 0 ? `  return ${start};` : [`  let room = ${start};`, ...more, ...cases, "  return room;"].join("\n");
  return `/** Bytes that surely hold \`${message.name}\`${without.length > 0 ? ", without tail and stamps" : ""}. Cost: one step a text. */
export function room${message.name}(${given}: ${message.name}Fields): number {\n${body}\n}`;
}

/** The statements that write fields, in the order of their numbers. */
function writesText(message: DescMessage, without: readonly string[] = [], stamped: readonly string[] = []): string {
  return membersOf(message)
    .map((member) => {
      if (member.kind === "oneof") return writeOneofText(member);
      if (without.includes(member.name)) return "";
      const at = `${stamped.includes(member.name) ? "stamped" : "value"}.${member.localName}`;
      const tag = String(tagOf(member));
      if (member.fieldKind === "map") return `  at = writePairs(out, at, ${tag}, ${at});\n`;
      if (isPacked(member)) return `  at = writePackedField(out, at, ${tag}, ${at});\n`;
      const { write, zero } = sortOf(member);
      const said = (value: string): string => `at = ${write.replace("TAG", tag).replace("V", value)};`;
      if (member.fieldKind === "list" && member.message === undefined) return `  at = writeTexts(out, at, ${tag}, ${at});\n`;
      if (member.fieldKind === "list")
        return `  for (let i = 0; i < ${at}.length; i++) {\n    const item = ${at}[i];\n    if (item !== undefined) ${said("item")}\n  }\n`;
      return zero === "undefined" ? `  if (${at} !== undefined) ${said(at)}\n` : `  ${said(at)}\n`;
    })
    .join("");
}

function writeOneofText({ localName, fields }: DescOneof): string {
  const cases = fields.map(
    (field) =>
      `    case "${field.localName}":\n      at = ${sortOf(field)
        .write.replace("TAG", String(tagOf(field)))
        .replace("V", `value.${localName}.value`)};\n      break;\n`,
  );
  return `  switch (value.${localName}.case) {\n${cases.join("")}    case undefined:\n  }\n`;
}

function writeText(message: DescMessage): string {
  const { name } = message;
  const writes = writesText(message);
  const body =
    writes === ""
      ? `  const body = openLength(writeVarint(out, start, tag));\n  return closeLength(out, body, body);`
      : `  const body = openLength(writeVarint(out, start, tag));\n  let at = body;\n${writes}  return closeLength(out, body, at);`;
  return `/** Writes \`${name}\` as a field; returns the offset after it. */
export function write${name}(out: Uint8Array, start: number, tag: number, ${writes === "" ? "_value" : "value"}: ${name}Fields): number {\n${body}\n}`;
}

function writeEntryText({ entry, tail, stamped }: Layout): string {
  const names = stamped.map((name) => `"${fieldNamed(entry, name).localName}"`).join(" | ");
  return `/** What the server says of an entry, whatever the client said. */
export type StampedFields = Required<Pick<EntryFields, ${names}>>;

/** Writes an entry without ${tail.join(", ")}; \`out\` has \`roomEntry\` bytes after \`start\`, and room for the stamps. Returns the offset after it. */
export function writeContent(out: Uint8Array, start: number, value: EntryFields, stamped: StampedFields): number {
  let at = start;
${writesText(entry, tail, stamped)}  return at;
}`;
}

/** A copy of the fields alone: a decoded message has more. */
function copyText(message: DescMessage): string {
  const copies = membersOf(message).map(({ localName }) => `    ${localName}: value.${localName},\n`);
  return `/** The fields alone, in the order of \`new${message.name}\`: a decoded message has more. */
export function copy${message.name}(value: ${message.name}Fields): ${message.name}Fields {
  return {\n${copies.join("")}  };
}`;
}

function fixedText(message: DescMessage): string {
  const bytes = fieldsOf(message).map((field) => {
    const { maxBytes } = sortOf(field);
    if (maxBytes === undefined || !isAlone(field))
      throw new Error(`${field.toString()}: a ${message.name} has a greatest size, so it has no texts and no lists`);
    return tagBytes(field) + maxBytes;
  });
  const name = message.name.replaceAll(/(?<=[a-z])(?=[A-Z])/g, "_").toUpperCase();
  return `/** Most bytes that \`${message.name}\` takes as a field, tag and length included. */\nexport const ${name}_MAX_BYTES = ${bytes.reduce((sum, size) => sum + size, 5)};`;
}
