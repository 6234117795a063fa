/** Encodes the messages that a program passes, and checks them first, because an untyped program can pass any value. */
import {
  create,
  type DescField,
  type DescMessage,
  type DescOneof,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { RequestError, type Violation } from "./request-error.ts";

/**
 * Encodes the request of a call to `server`. Throws a `RequestError` with INVALID_ARGUMENT if the request cannot be encoded. In this case, a retry
 * does not help.
 */
export function requestBytes<I extends DescMessage>(schema: I, message: MessageShape<I>, server: string): Buffer {
  try {
    return Buffer.from(toBinary(schema, message));
  } catch (error) {
    throw refusal(error instanceof Error ? error.message : String(error), server, error);
  }
}

/** Creates the message from the given value. Throws a `RequestError` with INVALID_ARGUMENT that names an unknown field. */
export function created<S extends DescMessage>(schema: S, given: MessageInitShape<S>, server: string): MessageShape<S> {
  const found = unknownField(schema, given);
  if (found !== undefined) throw wrongRequest(`${found.field}: ${found.description}`, [found], server);
  return create(schema, given);
}

/**
 * Creates the message as the server will decode it: a copy whose fields have the declared types, even if the program passed a string for a
 * number. Throws the same errors as `created` and `requestBytes`.
 */
export function sendable<S extends DescMessage>(schema: S, given: MessageInitShape<S>, server: string): MessageShape<S> {
  const message = created(schema, given, server);
  try {
    return fromBinary(schema, toBinary(schema, message));
  } catch (error) {
    throw refusal(error instanceof Error ? error.message : String(error), server, error);
  }
}

/** Returns the error for an invalid request, in the form that a server would return. `message` is the error message from protobuf-es. */
function refusal(message: string, server: string, cause: unknown): RequestError {
  const found = /^cannot encode field (?:\w+\.)*(\w+\.\w+) to binary: (.+)$/s.exec(message);
  if (found === null) return wrongRequest(`the request cannot be encoded: ${message}`, [], server, cause);
  const violation = { field: found[1] ?? "", description: found[2] ?? "" };
  return wrongRequest(`${violation.field}: ${violation.description}`, [violation], server, cause);
}

/** Returns the error for a request that every server would reject. The request was not sent. */
export function wrongRequest(message: string, violations: readonly Violation[], server: string, cause?: unknown): RequestError {
  const facts = { reason: undefined, retryMs: undefined, metadata: {}, isReachable: true, isSent: false };
  return new RequestError(message, { ...facts, code: "INVALID_ARGUMENT", violations, server }, cause);
}

/** The fields and oneofs of each message, by their TypeScript names. */
const MEMBERS = new WeakMap<DescMessage, ReadonlyMap<string, DescField | DescOneof>>();

/**
 * Returns the first name that is not a field of the message. protobuf-es ignores such names, so a request with a misspelled filter would match
 * everything. Messages from `create` are not checked.
 */
function unknownField(schema: DescMessage, given: unknown, path = ""): Violation | undefined {
  // Protobuf's own message types can have other forms.
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
  const how = oneof && `; set it as ${oneof.localName}: { case: ${JSON.stringify(name)}, value }`;
  return { field, description: `is not a field of ${schema.name}${how ?? `; the fields are ${[...membersOf(schema).keys()].join(", ")}`}` };
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
