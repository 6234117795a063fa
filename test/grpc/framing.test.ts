/** Framing: however the bytes of a stream are cut, the same messages come out, and what is held is bounded. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { type AssemblyBounds, framed, MessageAssembler, PREFIX_BYTES } from "../../src/grpc/wire/message-reader.ts";

const bounds = (maxMessageBytes = 20_000, maxBufferedBytes = 100_000): AssemblyBounds => ({
  maxMessageBytes,
  maxBufferedBytes,
  bufferedBytes: 0,
});

function cutInto(bytes: Uint8Array, sizes: readonly number[]): Uint8Array[] {
  const chunks: Uint8Array[] = [];
  for (let at = 0, cut = 0; at < bytes.length; cut += 1) {
    const size = sizes[cut % sizes.length] ?? 1;
    chunks.push(bytes.subarray(at, at + size));
    at += size;
  }
  return chunks;
}

test("messages come out as they went in, wherever the stream is cut, and what waits is held in at most twice its bytes", () => {
  const message = fc.record({ length: fc.nat({ max: 9_000 }), fill: fc.nat({ max: 255 }), isCompressed: fc.boolean() });
  const sizes = fc.array(fc.oneof(fc.integer({ min: 1, max: 8 }), fc.integer({ min: 1, max: 12_000 })), { minLength: 1, maxLength: 12 });
  fc.assert(
    fc.property(fc.array(message, { maxLength: 8 }), sizes, fc.boolean(), (sent, cuts, isAskedEachTime) => {
      const frames = sent.map(({ length, fill, isCompressed }) => framed(new Uint8Array(length).fill(fill), isCompressed));
      const held = bounds();
      const assembler = new MessageAssembler(held, true);
      const got: string[] = [];
      let waitingBytes = 0;
      const take = () => {
        for (let next = assembler.next(); next !== undefined; next = assembler.next()) {
          waitingBytes -= PREFIX_BYTES + next.length;
          got.push(`${assembler.isCompressed} ${next.length} ${new Set(next).size <= 1 ? (next[0] ?? 0) : "mixed"}`);
        }
      };
      for (const chunk of cutInto(Buffer.concat(frames), cuts)) {
        assembler.push(chunk);
        waitingBytes += chunk.length;
        if (isAskedEachTime) take();
        expect(held.bufferedBytes).toBeLessThanOrEqual(2 * waitingBytes);
      }
      take();
      expect(got).toEqual(sent.map(({ length, fill, isCompressed }) => `${isCompressed} ${length} ${length === 0 ? 0 : fill}`));
      expect([assembler.isInside(), held.bufferedBytes]).toEqual([false, 0]);
    }),
  );
});

test("what waits for more does not keep the reads of the socket that it came with", () => {
  const assembler = new MessageAssembler(bounds(4_000_000, 10_000_000));
  const before = process.memoryUsage().arrayBuffers;
  const whole = framed(new Uint8Array(1_000).fill(1));
  for (const byte of whole.subarray(0, 900)) {
    const read = new Uint8Array(65_536);
    read[0] = byte;
    assembler.push(read.subarray(0, 1));
    expect(assembler.next()).toBeUndefined();
  }
  globalThis.gc?.();
  assembler.push(whole.subarray(900));
  expect(assembler.next()).toEqual(new Uint8Array(1_000).fill(1));
  // 900 reads of 64 KiB would be 58 MB; without a collector to ask, only the result is compared.
  if (globalThis.gc !== undefined) expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(5e6);
});

test("a message over its bound is refused as soon as it says so, not when it is here", () => {
  const assembler = new MessageAssembler(bounds(100));
  expect(() => assembler.push(Uint8Array.of(0, 0, 0, 0, 101))).toThrow(
    /quota_exceeded: message too large: it has 101 bytes, and the limit is 100/,
  );
});

test("so is one that begins in the chunk in which another ends", () => {
  const assembler = new MessageAssembler(bounds(100));
  assembler.push(Uint8Array.of(0, 0, 0, 0, 1, 7, 0, 0, 0, 0, 101));
  expect(assembler.next()).toEqual(Uint8Array.of(7));
  expect(() => assembler.next()).toThrow(/it has 101 bytes/);
});

test("all streams together hold no more than their bound, and give back what they drop", () => {
  const shared = bounds(1_000, 1_500);
  const first = new MessageAssembler(shared);
  const second = new MessageAssembler(shared);
  first.push(framed(new Uint8Array(900)).subarray(0, 800));
  expect(() => second.push(framed(new Uint8Array(900)).subarray(0, 800))).toThrow(/too many incomplete messages are buffered/);
  first.drop();
  second.drop();
  expect(shared.bufferedBytes).toBe(0);
});

test.each([
  { flag: 1, error: /internal: the message is marked as compressed, but the headers have no grpc-encoding/ },
  { flag: 2, error: /invalid_argument: invalid message flag 2: must be 0, or 1/ },
  { flag: 128, error: /invalid_argument/ },
])("a first byte of $flag is refused without an encoding", ({ flag, error }) => {
  expect(() => new MessageAssembler(bounds()).push(Uint8Array.of(flag, 0, 0, 0, 0))).toThrow(error);
});

test("an encoding that is known later allows compressed messages from then on", () => {
  const assembler = new MessageAssembler(bounds());
  assembler.allowCompressed();
  assembler.push(Uint8Array.of(1, 0, 0, 0, 1, 9));
  expect([assembler.next(), assembler.isCompressed]).toEqual([Uint8Array.of(9), true]);
});
