/** Framing: however the bytes of a stream are cut, the same messages come out, and what is held is bounded. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { type AssemblyBounds, framed, MessageAssembler } from "../../src/lib/grpc-frames.ts";

const bounds = (maxMessageBytes = 1_000, maxBufferedBytes = 10_000): AssemblyBounds => ({
  maxMessageBytes,
  maxBufferedBytes,
  bufferedBytes: 0,
});

test("messages come out as they went in, wherever the stream is cut", () => {
  const messages = fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 8 });
  fc.assert(
    fc.property(messages, fc.array(fc.integer({ min: 1, max: 400 }), { minLength: 1, maxLength: 30 }), (sent, cuts) => {
      const bytes = Buffer.concat(sent.map(framed));
      const held = bounds();
      const assembler = new MessageAssembler(held);
      const got: Uint8Array[] = [];
      for (let at = 0, cut = 0; at < bytes.length; cut += 1) {
        const size = cuts[cut % cuts.length] ?? 1;
        assembler.push(bytes.subarray(at, at + size));
        at += size;
        for (let message = assembler.next(); message !== undefined; message = assembler.next()) got.push(message);
      }
      expect(got.map((message) => Buffer.from(message))).toEqual(sent.map((message) => Buffer.from(message)));
      expect(assembler.isInside()).toBe(false);
      expect(held.bufferedBytes).toBe(0);
    }),
  );
});

test("a message over its bound is refused as soon as it says so, not when it is here", () => {
  const assembler = new MessageAssembler(bounds(100));
  expect(() => assembler.push(Uint8Array.of(0, 0, 0, 0, 101))).toThrow(/quota_exceeded: a message is at most 100 bytes, this one says 101/);
});

test("so is one that begins in the chunk in which another ends", () => {
  const assembler = new MessageAssembler(bounds(100));
  assembler.push(Uint8Array.of(0, 0, 0, 0, 1, 7, 0, 0, 0, 0, 101));
  expect(assembler.next()).toEqual(Uint8Array.of(7));
  expect(() => assembler.next()).toThrow(/this one says 101/);
});

test("all streams together hold no more than their bound, and give back what they drop", () => {
  const shared = bounds(1_000, 1_500);
  const first = new MessageAssembler(shared);
  const second = new MessageAssembler(shared);
  first.push(framed(new Uint8Array(900)).subarray(0, 800));
  expect(() => second.push(framed(new Uint8Array(900)).subarray(0, 800))).toThrow(/too many unfinished messages are held here/);
  first.drop();
  second.drop();
  expect(shared.bufferedBytes).toBe(0);
});

test("half a message is seen at the end", () => {
  const assembler = new MessageAssembler(bounds());
  assembler.push(Uint8Array.of(0, 0, 0));
  expect(assembler.next()).toBeUndefined();
  expect(assembler.isInside()).toBe(true);
});

test("a message that says it is compressed is refused", () => {
  const assembler = new MessageAssembler(bounds());
  assembler.push(Uint8Array.of(1, 0, 0, 0, 0));
  expect(() => assembler.next()).toThrow(/compressed/);
});
