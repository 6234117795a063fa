/** The messages that `gen-codec.ts` writes code for, as its parts see them: names and types in our code, tags, bounds. */
import { type DescField, type DescMessage, type JsonValue, ScalarType } from "@bufbuild/protobuf";

export const WIRE = { VARINT: 0, FIXED64: 1, BYTES: 2, FIXED32: 5 } as const;

export type Rules = Readonly<Record<string, JsonValue>>;

/** What the proto does not say of the messages of one file. Fields are named `Message.field`. */
export interface Layout {
  /** What a message is called in our code, if not as in the proto: two packages may have messages of one name. */
  readonly nameOf?: (message: DescMessage) => string;
  /** The option `(buf.validate.field)` of a field, as JSON. */
  readonly rulesOf: (field: DescField) => Rules;
  /**
   * Only our own readers and writers make these values. A required message is then never undefined, a uint64 that the rules keep below 2^53
   * is a number, and lists have their bounds while they are read. Else the values are also those of protobuf-es.
   */
  readonly isOwn: boolean;
  /** Fields that are undefined, not zero, where a message does not have them. */
  readonly absent: readonly string[];
  /** What fields are called in our code, by their name in the proto or by `Message.field`. */
  readonly names: Readonly<Record<string, string>>;
  /** Messages whose fields stand in the message around them in our code; of their fields only these count. */
  readonly flat: Readonly<Record<string, readonly string[]>>;
  /** Lists of messages that stay bytes. */
  readonly raw: readonly string[];
  /** Messages of which nothing is said: other code takes them apart. */
  readonly opaque: readonly string[];
}

/** How a value of one sort is handled; `V` stands for the value, `TAG` for the field's tag. */
export interface Sort {
  readonly type: string;
  /** What a field has that is not there. */
  readonly zero: string;
  readonly wire: (typeof WIRE)[keyof typeof WIRE];
  readonly read: string;
  readonly write: string;
  /** Bytes that it takes at most after its tag; undefined when that depends on the value. */
  readonly maxBytes: number | undefined;
}

export interface Field {
  /** As in the proto, for refusals. */
  readonly name: string;
  /** As in our code. */
  readonly local: string;
  readonly tag: number;
  readonly shape: "alone" | "list" | "packed" | "map";
  readonly sort: Sort;
  /** What it consists of, unless it is a time or stays bytes. */
  readonly message: Message | undefined;
  /** The message stands in the one around it. */
  readonly isFlat: boolean;
  /** The field is left out where a message does not have it. */
  readonly isAbsent: boolean;
  /** The proto says `optional`: a zero is not the same as nothing. */
  readonly hasPresence: boolean;
  /** It is left out, never said to be undefined. */
  readonly isExact: boolean;
  /** Of a list, while it is read. */
  readonly maxItems: number | undefined;
  readonly rules: Rules;
  readonly desc: DescField;
}

/** Exactly one of several messages. */
export interface Choice {
  readonly name: string;
  readonly local: string;
  readonly fields: readonly Field[];
}

export interface Message {
  readonly name: string;
  readonly desc: DescMessage;
  /** In the order of their numbers, those of choices among them; without deprecated ones. */
  readonly fields: readonly Field[];
  /** As `fields`, with a choice in the place of its first field. */
  readonly members: readonly (Field | Choice)[];
  readonly choices: readonly Choice[];
  /** Fields that are read by nobody: deprecated ones, and numbers below the last that no field has, which another version may have. */
  readonly skippedTags: readonly number[];
  readonly lastField: number;
  /** The messages that it consists of, each after those that it consists of itself; this one is the last. */
  readonly all: readonly Message[];
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
/** Read whole, for the rules to refuse it by its name. */
const BOUNDED_NUMBER: Sort = { ...NUMBER, read: "reader.number()" };
const TIME: Sort = {
  type: "TimeFields",
  zero: "undefined",
  wire: WIRE.BYTES,
  read: "readTime(reader)",
  write: "writeTimeField(out, at, TAG, V)",
  maxBytes: 17,
};
const BYTES: Sort = {
  type: "Uint8Array",
  zero: "new Uint8Array()",
  wire: WIRE.BYTES,
  read: "reader.view()",
  write: "writeBytesField(out, at, TAG, V)",
  maxBytes: undefined,
};
const FIXED32: Sort = {
  ...NUMBER,
  wire: WIRE.FIXED32,
  read: "reader.fixed32()",
  maxBytes: 4,
};
const BIG: Sort = {
  ...NUMBER,
  type: "bigint",
  zero: "0n",
  read: "reader.varint64()",
  write: "writeBigField(out, at, TAG, V)",
  maxBytes: 10,
};
const FIXED64: Sort = {
  ...BIG,
  wire: WIRE.FIXED64,
  read: "reader.fixed64()",
  write: "writeFixed64Field(out, at, TAG, V)",
  maxBytes: 8,
};
const SCALARS: ReadonlyMap<ScalarType, Sort> = new Map([
  [ScalarType.STRING, TEXT],
  [ScalarType.BYTES, BYTES],
  [ScalarType.UINT32, NUMBER],
  // Only of requests, which are checked and have no codec: there is no reader and no writer for it.
  [ScalarType.INT32, { ...NUMBER, read: "reader.int32()", write: "writeInt32Field(out, at, TAG, V)" }],
  [
    ScalarType.BOOL,
    { ...NUMBER, type: "boolean", zero: "false", read: "reader.varint() !== 0", write: "writeNumberField(out, at, TAG, V ? 1 : 0)" },
  ],
  [ScalarType.UINT64, BIG],
  [ScalarType.FIXED32, FIXED32],
  [ScalarType.FIXED64, FIXED64],
  [ScalarType.DOUBLE, { ...NUMBER, wire: WIRE.FIXED64, read: "reader.double()", write: "writeDoubleField(out, at, TAG, V)", maxBytes: 8 }],
]);
/** Of what lists consist that are written without a tag for each item. */
const PACKED: readonly Sort[] = [NUMBER, BOUNDED_NUMBER, FIXED32, FIXED64];

export const isTime = ({ typeName }: DescMessage): boolean =>
  typeName === "google.protobuf.Timestamp" || typeName === "google.protobuf.Duration";

export function asRules(value: JsonValue | undefined): Rules {
  if (value === undefined) return {};
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new Error(`${JSON.stringify(value)} is no set of rules`);
  return value;
}

/** The models of messages of one file of the contract; the same message is the same model. */
export function modelsOf(layout: Layout): (message: DescMessage) => Message {
  const models = new Map<DescMessage, Message>();
  const modelOf = (message: DescMessage): Message => {
    const known = models.get(message);
    if (known !== undefined) return known;
    const model = newModel(message, message.fields, layout.nameOf?.(message) ?? message.name, layout, modelOf);
    models.set(message, model);
    return model;
  };
  return modelOf;
}

type ModelOf = (message: DescMessage) => Message;

function newModel(message: DescMessage, of: readonly DescField[], name: string, layout: Layout, modelOf: ModelOf): Message {
  const descs = of.toSorted((a, b) => a.number - b.number);
  const isSkipped = (desc: DescField) => desc.deprecated;
  const fields = descs.filter((desc) => !isSkipped(desc)).map((desc) => fieldOf(desc, layout, modelOf));
  const choices = message.oneofs.flatMap((oneof) => {
    const chosen = fields.filter(({ desc }) => desc.oneof === oneof);
    return chosen.length === 0 ? [] : [{ name: oneof.name, local: oneof.localName, fields: chosen }];
  });
  const numbers = new Set(message.fields.map(({ number }) => number));
  const lastField = Math.max(0, ...numbers);
  const gaps = Array.from({ length: lastField }, (_, i) => i + 1).filter((number) => !numbers.has(number));
  const choiceOf = (field: Field) => choices.find((choice) => choice.fields.includes(field));
  const model = {
    name,
    desc: message,
    fields,
    members: [...new Set(fields.map((field) => choiceOf(field) ?? field))],
    choices,
    skippedTags: [
      ...descs.filter(isSkipped).map((desc) => tagOf(desc, layout)),
      ...gaps.flatMap((number) => Object.values(WIRE).map((wire) => number * 8 + wire)),
    ],
    lastField,
  };
  const whole: { all: Message[] } & typeof model = { ...model, all: [] };
  whole.all = [...new Set([...fields.flatMap(({ message: inner }) => inner?.all ?? []), whole])];
  return whole;
}

function fieldOf(desc: DescField, layout: Layout, modelOf: ModelOf): Field {
  const key = `${desc.parent.name}.${desc.name}`;
  const rules = layout.rulesOf(desc);
  const flat = layout.flat[key];
  const sort = sortOf(desc, layout);
  const hasPresence = desc.fieldKind === "scalar" && desc.proto.proto3Optional;
  if ((hasPresence && sort !== BYTES) || (sort === FIXED32 && desc.fieldKind !== "list")) throw unknownType(desc, "fields");
  const shape = shapeOf(desc, sort);
  const isLeft =
    desc.message === undefined || isTime(desc.message) || layout.raw.includes(key) || layout.opaque.includes(desc.message.name);
  const inner = isLeft ? undefined : desc.message;
  const { maxItems } = asRules(rules["repeated"]);
  const isAbsent =
    layout.absent.includes(key) || hasPresence || (shape === "alone" && sort.zero === "undefined" && desc.oneof === undefined);
  return {
    name: desc.name,
    local: layout.names[key] ?? layout.names[desc.name] ?? desc.localName,
    tag: tagOf(desc, layout),
    shape,
    sort,
    message:
      inner &&
      (flat === undefined
        ? modelOf(inner)
        : newModel(
            inner,
            inner.fields.filter(({ name }) => flat.includes(name)),
            `${desc.parent.name}${inner.name}`,
            layout,
            modelOf,
          )),
    isFlat: flat !== undefined,
    isAbsent,
    hasPresence,
    isExact: layout.isOwn,
    maxItems: layout.isOwn && maxItems !== undefined ? Number(maxItems) : undefined,
    rules,
    desc,
  };
}

/** A field's number and wire type, as on the wire. */
export function tagOf(desc: DescField, layout: Layout): number {
  const sort = sortOf(desc, layout);
  return desc.number * 8 + (shapeOf(desc, sort) === "alone" ? sort.wire : WIRE.BYTES);
}

function shapeOf(desc: DescField, sort: Sort): Field["shape"] {
  if (desc.fieldKind === "map") return "map";
  if (desc.fieldKind !== "list") return "alone";
  if (sort.wire === WIRE.BYTES) return "list";
  if (!PACKED.includes(sort)) throw unknownType(desc, "lists");
  return "packed";
}

function sortOf(desc: DescField, layout: Layout): Sort {
  if (layout.raw.includes(`${desc.parent.name}.${desc.name}`)) return BYTES;
  const { required = false, uint64, repeated } = layout.rulesOf(desc);
  const isThere = layout.isOwn && required === true;
  if (desc.message !== undefined && isTime(desc.message)) {
    const sort = layout.isOwn ? { ...TIME, read: "readTime(reader, true)" } : TIME;
    return isThere ? { ...sort, zero: "NO_TIME" } : sort;
  }
  if (desc.message !== undefined) {
    const { name } = desc.message;
    return {
      type: `${name}Fields`,
      zero: isThere ? `NO_${constantName(name)}` : "undefined",
      wire: WIRE.BYTES,
      read: `read${name}(reader)`,
      write: `write${name}(out, at, TAG, V)`,
      maxBytes: undefined,
    };
  }
  if (desc.enum !== undefined) return NUMBER;
  const sort = desc.scalar === undefined ? undefined : SCALARS.get(desc.scalar);
  if (sort === undefined) throw unknownType(desc, "fields");
  const { lte } = asRules(uint64 ?? asRules(asRules(repeated)["items"])["uint64"]);
  return layout.isOwn && sort === BIG && lte !== undefined && Number(lte) <= Number.MAX_SAFE_INTEGER ? BOUNDED_NUMBER : sort;
}

function unknownType(desc: DescField, what: string): Error {
  return new Error(`${desc.toString()}: there are no ${what} of this type yet; scripts/gen-codec-model.ts knows those there are`);
}

/** Type of a field's values in our code. */
export function typeOf({ shape, sort }: Field): string {
  if (shape === "map") return "Readonly<Record<string, string>>";
  return shape === "alone" ? sort.type : `readonly ${sort.type}[]`;
}

/** `LoadReport` as `LOAD_REPORT`. */
export function constantName(name: string): string {
  return name.replaceAll(/(?<=[a-z])(?=[A-Z])/g, "_").toUpperCase();
}
