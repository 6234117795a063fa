/**
 * Compression of single messages: its names in headers, and what the room asks of an inflater (gRPC's compression.md). Messages are read
 * compressed, and sent plain.
 */
import type { WaymarkError } from "../../lib/errors.ts";

/** Encodings that messages are read in, as `grpc-encoding` names them. */
export type Encoding = "gzip" | "deflate";

/** What `grpc-accept-encoding` says where messages can be inflated. */
export const ACCEPTED_ENCODINGS = "identity,deflate,gzip";

/** A message as it came, to be inflated. */
export interface Compressed {
  readonly encoding: Encoding;
  readonly bytes: Uint8Array;
  /** The connection that the message came on. What inflating costs is charged to it. */
  readonly owner: object;
  /** Largest message, inflated, in bytes. */
  readonly maxMessageBytes: number;
}

/** The inflated bytes, or why the message is refused. */
export type Inflated = Uint8Array | WaymarkError;

/** A message that is being inflated, or that waits for its turn. */
export interface Inflation {
  /** Present at once for small messages and for refusals; otherwise `onResult` is called. */
  readonly result: Inflated | undefined;
  /** Called once when there was no result at once; never after `release`. */
  onResult: ((result: Inflated) => void) | undefined;
  /** Call this when the message is handled, or no longer wanted. Calling it again does nothing. */
  release(): void;
}

/** Inflates messages within a budget that the caller of the room owns, so that a few kilobytes cannot become gigabytes. */
export interface Inflater {
  inflate(message: Compressed): Inflation;
}

/** The encoding that a `grpc-encoding` header names: undefined for none, "unknown" for one that is not read here. */
export function encodingOf(header: string | undefined): Encoding | "unknown" | undefined {
  if (header === undefined || header === "identity") return undefined;
  return header === "gzip" || header === "deflate" ? header : "unknown";
}
