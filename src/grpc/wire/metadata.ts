/**
 * The metadata of a call: the application's headers and trailers (gRPC over HTTP/2, "Custom-Metadata"). Values are printable ASCII. If the name ends
 * in `-bin`, the value consists of bytes, which are sent in base64.
 */
import { assert, invalid } from "../../lib/errors.ts";

/** A metadata value: text, or bytes if the name ends in `-bin`. */
export type MetadataValue = string | Uint8Array;

/** Header fields by lower-case name, in the form that node:http2 accepts. */
export type HeaderBlock = Readonly<Record<string, string | readonly string[] | undefined>>;

const NAME = /^[0-9a-z_.-]+$/;
const ASCII_VALUE = /^[\x20-\x7e]*$/;
const BASE64 = /^[A-Za-z0-9+/]*={0,2}$/;

/** Protocol fields, which applications can neither see nor set. */
const PROTOCOL_NAMES: ReadonlySet<string> = new Set([
  "content-type",
  "te",
  "grpc-accept-encoding",
  "grpc-encoding",
  "grpc-message",
  "grpc-message-type",
  "grpc-status",
  "grpc-status-details-bin",
  "grpc-timeout",
]);

/** Fields that HTTP/2 forbids or interprets (RFC 9113, section 8.2.2). */
const CONNECTION_NAMES: ReadonlySet<string> = new Set([
  "connection",
  "content-length",
  "host",
  "http2-settings",
  "keep-alive",
  "proxy-connection",
  "transfer-encoding",
  "upgrade",
]);

/** An ordered list of names and values. A name may occur several times. */
export class GrpcMetadata implements Iterable<readonly [string, MetadataValue]> {
  readonly #entries: (readonly [string, MetadataValue])[] = [];

  /** Returns the first value for a lower-case name. */
  get(name: string): MetadataValue | undefined {
    return this.#entries.find(([each]) => each === name)?.[1];
  }

  /** Returns all values for a lower-case name, in order. */
  getAll(name: string): readonly MetadataValue[] {
    return this.#entries.filter(([each]) => each === name).map(([, value]) => value);
  }

  get size(): number {
    return this.#entries.length;
  }

  /**
   * Adds a value. The name must consist of lower-case letters, digits, `_`, `.` and `-`, must not be a protocol field, and must not begin with
   * `grpc-`. The value must be printable ASCII. Surrounding spaces are removed. If the name ends in `-bin`, the value must be bytes. Anything else is
   * a bug in the caller and causes an assertion to fail. To read received metadata, use `metadataOf`.
   */
  add(name: string, value: MetadataValue): this {
    const isAllowed = NAME.test(name) && !name.startsWith("grpc-") && !PROTOCOL_NAMES.has(name) && !CONNECTION_NAMES.has(name);
    assert(isAllowed, "metadata name is malformed or reserved", { name });
    assert(
      isBinaryName(name) === (typeof value !== "string"),
      "metadata value has the wrong type: bytes require a name that ends in -bin, and text requires any other name",
      { name },
    );
    assert(typeof value !== "string" || ASCII_VALUE.test(value), "metadata value is not printable ASCII", { name });
    this.#entries.push([name, typeof value === "string" ? value.trim() : value]);
    return this;
  }

  /** Creates metadata from entries that have been received and checked. */
  static read(entries: readonly (readonly [string, MetadataValue])[]): GrpcMetadata {
    const metadata = new GrpcMetadata();
    metadata.#entries.push(...entries);
    return metadata;
  }

  [Symbol.iterator](): IterableIterator<readonly [string, MetadataValue]> {
    return this.#entries.values();
  }
}

/**
 * Returns the metadata among the fields of a header block, given as alternating names and values in the order of arrival. Skips HTTP/2 and gRPC
 * fields. Throws `invalid_argument` for a `-bin` value that is not base64.
 */
export function metadataOf(fields: readonly string[]): GrpcMetadata {
  const entries: (readonly [string, MetadataValue])[] = [];
  for (let at = 0; at + 1 < fields.length; at += 2) {
    const name = fields[at] ?? "";
    const text = fields[at + 1] ?? "";
    if (name.startsWith(":") || PROTOCOL_NAMES.has(name)) continue;
    if (!isBinaryName(name)) {
      entries.push([name, text]);
      continue;
    }
    // A proxy may have joined several values for one name with commas. Base64 does not contain commas.
    for (const part of text.split(",")) {
      const bytes = decodeBinary(part.trim());
      if (bytes === undefined) throw invalid(name, "must be base64, because the metadata name ends in -bin");
      entries.push([name, bytes]);
    }
  }
  return GrpcMetadata.read(entries);
}

/** Adds metadata to a header block. The values for each name keep their order. */
export function addFields(block: Record<string, string | readonly string[]>, metadata: GrpcMetadata): void {
  for (const [name, value] of metadata) {
    const text = typeof value === "string" ? value : encodeBinary(value);
    const before = block[name];
    if (before === undefined) block[name] = text;
    else block[name] = typeof before === "string" ? [before, text] : [...before, text];
  }
}

/** Whether the values for a name are bytes. */
export function isBinaryName(name: string): boolean {
  return name.endsWith("-bin");
}

/** Encodes bytes in base64 without padding, as gRPC requires of senders. */
export function encodeBinary(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64").replaceAll("=", "");
}

/** Decodes a base64 value with or without padding. Returns undefined if the value is not base64. */
export function decodeBinary(text: string): Uint8Array | undefined {
  const isWhole = BASE64.test(text) && text.replaceAll("=", "").length % 4 !== 1;
  return isWhole ? new Uint8Array(Buffer.from(text, "base64")) : undefined;
}
