/** Messages on stdin and stdout as the conformance runner sends them: four bytes of length, big-endian, and the message. */

/** The messages of a stream of bytes, as they come. */
export async function* delimitedMessages(input: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let held = Buffer.alloc(0);
  for await (const chunk of input) {
    held = Buffer.concat([held, chunk]);
    while (held.length >= 4 && held.length >= 4 + held.readUInt32BE(0)) {
      const end = 4 + held.readUInt32BE(0);
      yield held.subarray(4, end);
      held = held.subarray(end);
    }
  }
}

/** A message as it is written. */
export function delimited(message: Uint8Array): Uint8Array {
  const size = Buffer.alloc(4);
  size.writeUInt32BE(message.length);
  return Buffer.concat([size, message]);
}
