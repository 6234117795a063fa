/** Names in what a program passed as a message that are no fields of it. protobuf-es leaves them out without a word, and a misspelt filter would match everything. */
import type { DescField, DescMessage, DescOneof } from "@bufbuild/protobuf";
import type { Violation } from "./request-error.ts";

/** By message, its fields and oneofs by their names in TypeScript. */
const MEMBERS = new WeakMap<DescMessage, ReadonlyMap<string, DescField | DescOneof>>();

/** The first name that is no field. Messages that `create` made are taken as they are. */
export function unknownField(schema: DescMessage, given: unknown, path = ""): Violation | undefined {
  // Messages of protobuf itself may be given in other forms.
  if (!isRecord(given) || given["$typeName"] !== undefined || schema.typeName.startsWith("google.protobuf.")) return undefined;
  const members = membersOf(schema);
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined) continue;
    const member = members.get(name);
    if (member === undefined) return unknown(schema, `${path}${name}`, name);
    const found = member.kind === "oneof" ? inOneof(member, value, path) : inField(member, value, path);
    if (found !== undefined) return found;
  }
  return undefined;
}

function unknown(schema: DescMessage, field: string, name: string): Violation {
  const oneof = schema.fields.find(({ localName }) => localName === name)?.oneof;
  const how = oneof && `; it is given as ${oneof.localName}: { case: ${JSON.stringify(name)}, value }`;
  return { field, description: `is no field of ${schema.name}${how ?? `, which has ${[...membersOf(schema).keys()].join(", ")}`}` };
}

function inOneof({ fields }: DescOneof, value: unknown, path: string): Violation | undefined {
  if (!isRecord(value)) return undefined;
  const field = fields.find(({ localName }) => localName === value["case"]);
  return field && inField(field, value["value"], path);
}

function inField(field: DescField, value: unknown, path: string): Violation | undefined {
  const name = `${path}${field.name}`;
  if (field.fieldKind === "message") return unknownField(field.message, value, `${name}.`);
  if (field.fieldKind === "list" && field.listKind === "message" && Array.isArray(value))
    return first(value.map((one, i) => () => unknownField(field.message, one, `${name}[${i}].`)));
  if (field.fieldKind === "map" && field.mapKind === "message" && isRecord(value))
    return first(
      Object.entries(value).map(
        ([key, one]) =>
          () =>
            unknownField(field.message, one, `${name}[${JSON.stringify(key)}].`),
      ),
    );
  return undefined;
}

function first(looks: readonly (() => Violation | undefined)[]): Violation | undefined {
  for (const look of looks) {
    const found = look();
    if (found !== undefined) return found;
  }
  return undefined;
}

function membersOf(schema: DescMessage): ReadonlyMap<string, DescField | DescOneof> {
  let members = MEMBERS.get(schema);
  if (members === undefined) {
    members = new Map(schema.members.map((member) => [member.localName, member]));
    MEMBERS.set(schema, members);
  }
  return members;
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null;
}
