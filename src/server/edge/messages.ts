/** The messages of a body, each once it is whole. They are views of the body's pieces where they can be. */
import { apart, PREFIX_BYTES, sizeIn } from "../../grpc/wire/message-reader.ts";

/** The flag before a message of a stream. */
const COMPRESSED = 1;

export class MessagesOfBody {
  /** What is not a whole message yet. */
  #pieces: Uint8Array[] = [];
  #heldBytes = 0;
  /** With so many there is more to know. A body that is one message ends only with the request. */
  #wantedBytes: number;
  /** Messages in envelopes that are whole so far. */
  endedCount = 0;

  /** `isEnveloped`: each stands behind a flag byte and its length. */
  constructor(isEnveloped: boolean) {
    this.#wantedBytes = isEnveloped ? PREFIX_BYTES : Number.POSITIVE_INFINITY;
  }

  /** The next piece. Returns the messages that end in it, without compressed ones. */
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

  /** The body ended: returns the message that it was, unless it was in envelopes. */
  atEnd(): Uint8Array | undefined {
    return this.#wantedBytes === Number.POSITIVE_INFINITY ? joined(this.#pieces.splice(0)) : undefined;
  }
}

/** Where the envelope ends that begins here, or as much of it as says that. */
function endOf(bytes: Uint8Array): number {
  return bytes.length < PREFIX_BYTES ? PREFIX_BYTES : PREFIX_BYTES + sizeIn(bytes);
}

export function joined(pieces: readonly Uint8Array[]): Uint8Array {
  const [first] = pieces;
  return pieces.length === 1 && first !== undefined ? first : Buffer.concat(pieces);
}
