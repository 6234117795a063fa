/** Splits a body into its messages and returns each message when it is complete. Where possible, messages are views of the body's pieces. */
import { apart, PREFIX_BYTES, sizeIn } from "../../grpc/wire/message-reader.ts";

/** The compression flag in the envelope of a message. */
const COMPRESSED = 1;

export class MessagesOfBody {
  /** Bytes that do not form a complete message yet. */
  #pieces: Uint8Array[] = [];
  #heldBytes = 0;
  /** Number of bytes needed to know the next message or its size. A body without envelopes is complete only when the request ends. */
  #wantedBytes: number;
  /** Number of complete enveloped messages so far. */
  endedCount = 0;

  /** `isEnveloped` means that a flag byte and a length precede each message. */
  constructor(isEnveloped: boolean) {
    this.#wantedBytes = isEnveloped ? PREFIX_BYTES : Number.POSITIVE_INFINITY;
  }

  /** Adds a piece. Returns the messages that end in this piece, except compressed messages. */
  add(piece: Uint8Array): readonly Uint8Array[] {
    this.#pieces.push(piece);
    this.#heldBytes += piece.length;
    if (this.#heldBytes < this.#wantedBytes) return [];
    const messages: Uint8Array[] = [];
    let rest = joined(this.#pieces);
    for (this.#wantedBytes = endOf(rest); rest.length >= this.#wantedBytes; this.#wantedBytes = endOf(rest)) {
      if (((rest[0] ?? 0) & COMPRESSED) === 0) messages.push(rest.subarray(PREFIX_BYTES, this.#wantedBytes));
      rest = rest.subarray(this.#wantedBytes);
      this.endedCount += 1;
    }
    this.#pieces = [apart(rest)];
    this.#heldBytes = rest.length;
    return messages;
  }

  /** Must be called at the end of the body. Returns the message if the body has no envelopes. */
  atEnd(): Uint8Array | undefined {
    return this.#wantedBytes === Number.POSITIVE_INFINITY ? joined(this.#pieces.splice(0)) : undefined;
  }
}

/** Returns the end of the envelope that begins here, or the end of its prefix if the prefix is incomplete. */
function endOf(bytes: Uint8Array): number {
  return bytes.length < PREFIX_BYTES ? PREFIX_BYTES : PREFIX_BYTES + sizeIn(bytes);
}

export function joined(pieces: readonly Uint8Array[]): Uint8Array {
  const [first] = pieces;
  return pieces.length === 1 && first !== undefined ? first : Buffer.concat(pieces);
}
