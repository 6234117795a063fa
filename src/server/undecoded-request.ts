/** A request whose bytes have arrived but are not decoded yet. It is decoded only if the caller may make the call. */
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

  /** The message, or the error if its bytes cannot be decoded. */
  read(): Message | WaymarkError {
    return this.#decode(this.#bytes);
  }

  /** Copies the bytes if the request will be read in a later turn, so that they do not keep the whole received chunk in memory. */
  hold(): void {
    this.#bytes = apart(this.#bytes);
  }
}

/** A request, or the error if it cannot be read. */
export type SentRequest = Message | UndecodedRequest | WaymarkError;
