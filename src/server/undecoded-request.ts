/** A request whose bytes are here and are not decoded yet. It is read for callers who may make the call, and for no others. */
import type { Message } from "@bufbuild/protobuf";
import { apart } from "../grpc/wire/framing.ts";
import type { WaymarkError } from "../lib/errors.ts";

export class UndecodedRequest {
  #bytes: Uint8Array;
  readonly #decode: (bytes: Uint8Array) => Message | WaymarkError;

  constructor(bytes: Uint8Array, decode: (bytes: Uint8Array) => Message | WaymarkError) {
    this.#bytes = bytes;
    this.#decode = decode;
  }

  /** The message, or why its bytes cannot be decoded. */
  read(): Message | WaymarkError {
    return this.#decode(this.#bytes);
  }

  /** It is read in a later turn: until then its bytes do not keep the rest of the chunk that they came in. */
  hold(): void {
    this.#bytes = apart(this.#bytes);
  }
}

/** A request, or why it cannot be read. */
export type SentRequest = Message | UndecodedRequest | WaymarkError;
