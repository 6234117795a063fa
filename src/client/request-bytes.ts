/** The bytes of what a program passed as a message. A program without types may pass anything, and grpc-js would call it a failure of the connection. */
import { create, type DescMessage, fromBinary, type MessageInitShape, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { RequestError, type Violation } from "./request-error.ts";
import { unknownField } from "./unknown-fields.ts";

/** Encodes the request of a call to `server`. Throws a `RequestError` with INVALID_ARGUMENT when it cannot be encoded, which no repetition mends. */
export function requestBytes<I extends DescMessage>(schema: I, message: MessageShape<I>, server: string): Buffer {
  try {
    return Buffer.from(toBinary(schema, message));
  } catch (error) {
    throw refusal(error instanceof Error ? error.message : String(error), server, error);
  }
}

/** The message of what a program passed. Throws a `RequestError` with INVALID_ARGUMENT that names what is no field. */
export function created<S extends DescMessage>(schema: S, given: MessageInitShape<S>, server: string): MessageShape<S> {
  const found = unknownField(schema, given);
  if (found !== undefined) throw wrongRequest(`${found.field}: ${found.description}`, [found], server);
  return create(schema, given);
}

/**
 * The message of what a program passed, as its reader will decode it: a copy whose fields have the types of the contract, which a text for a number has not.
 * Throws as `created` and `requestBytes` do.
 */
export function sendable<S extends DescMessage>(schema: S, given: MessageInitShape<S>, server: string): MessageShape<S> {
  const message = created(schema, given, server);
  try {
    return fromBinary(schema, toBinary(schema, message));
  } catch (error) {
    throw refusal(error instanceof Error ? error.message : String(error), server, error);
  }
}

/** The failure of a request that is wrong, as a server would tell it. `said` is the message of protobuf-es. */
function refusal(said: string, server: string, cause: unknown): RequestError {
  const found = /^cannot encode field (?:\w+\.)*(\w+\.\w+) to binary: (.+)$/s.exec(said);
  if (found === null) return wrongRequest(`the request is no message of the contract: ${said}`, [], server, cause);
  const violation = { field: found[1] ?? "", description: found[2] ?? "" };
  return wrongRequest(`${violation.field}: ${violation.description}`, [violation], server, cause);
}

/** The failure of a request that no server would take. It was not sent. */
export function wrongRequest(message: string, violations: readonly Violation[], server: string, cause?: unknown): RequestError {
  const facts = { reason: undefined, retryMs: undefined, metadata: {}, isReachable: true, isSent: false };
  return new RequestError(message, { ...facts, code: "INVALID_ARGUMENT", violations, server }, cause);
}
