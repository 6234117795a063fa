/** The writer of messages: order, whatever is compressed and when; what it says about room is kept. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { MessageWriter } from "../../src/grpc/wire/message-writer.ts";
import { FakePort } from "../fakes/grpc-port.ts";
import { LateCompressor } from "../fakes/late-gzip.ts";

test("messages and the end go out in the order they were given, compressed where they are long, and each is taken once", () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat({ max: 12 }), fc.boolean()), { maxLength: 20 }), (sent) => {
      const port = new FakePort();
      const compressor = new LateCompressor(6);
      const writer = new MessageWriter(port, 100, compressor);
      let takenCount = 0;
      for (const [length, isSettled] of sent) {
        writer.write(new Uint8Array(length).fill(length), () => (takenCount += 1));
        if (isSettled) compressor.settle();
      }
      writer.end();
      while (compressor.waitingCount > 0) compressor.settle();
      expect(port.orders.at(-1)).toBe("end");
      expect(port.written.map((frame) => [frame[0], frame.length - 5])).toEqual(
        sent.map(([length]) => (length >= 6 ? [1, length + 1] : [0, length])),
      );
      for (const _ of sent) port.take();
      expect(takenCount).toBe(sent.length);
    }),
  );
});

test("without a compressor a message and the end are one write", () => {
  const port = new FakePort();
  const writer = new MessageWriter(port, 10, undefined);
  expect(writer.write(new Uint8Array(3))).toBe(true);
  writer.writeFrame(new Uint8Array(8));
  writer.end(new Uint8Array(1));
  expect(port.orders).toEqual(["write 8", "write 8", "end 6"]);
  expect(() => writer.write(new Uint8Array(11))).toThrow(/quota_exceeded: a message to send has 11 bytes, and at most 10 are sent/);
});

test("who is told to wait is called when what is compressed was written and the stream has room", () => {
  const port = new FakePort();
  const compressor = new LateCompressor(0);
  const writer = new MessageWriter(port, 10, compressor);
  let roomyCount = 0;
  expect(writer.write(new Uint8Array(1))).toBe(false);
  writer.onceWritable(() => (roomyCount += 1));
  port.isWritable = false;
  compressor.settle();
  expect(roomyCount).toBe(0);
  port.drained();
  expect(roomyCount).toBe(1);
});

test("what is given without waiting is bounded, and a stream that is gone takes nothing more", () => {
  const port = new FakePort();
  const compressor = new LateCompressor(0);
  const writer = new MessageWriter(port, 10, compressor);
  const fill = () => {
    for (let i = 0; i < 100; i++) writer.write(new Uint8Array(1));
  };
  expect(fill).toThrow(/quota_exceeded: 64 messages wait to be compressed already/);
  port.isGone = true;
  compressor.settle();
  expect(port.orders).toEqual([]);
});
