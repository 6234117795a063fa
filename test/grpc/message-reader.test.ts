/** The reader of messages: order, back pressure, inflation and turns, however they fall together. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { framed, MessageReader, type MessageSink } from "../../src/grpc/wire/message-reader.ts";
import { WaymarkError } from "../../src/lib/errors.ts";
import { FakePort } from "../fakes/grpc-port.ts";
import { LateInflater } from "../fakes/late-gzip.ts";

function reader(sink: Partial<MessageSink> = {}, inflater: LateInflater | undefined = new LateInflater()) {
  const port = new FakePort();
  const got: string[] = [];
  const bounds = { maxMessageBytes: 1_000, maxBufferedBytes: 1e6, bufferedBytes: 0 };
  const made: MessageReader = new MessageReader(
    { bounds, encoding: "gzip", inflater, owner: {}, port },
    {
      message: (bytes) => got.push(Buffer.from(bytes).toString()),
      ended: () => got.push("end"),
      failed: (error) => got.push(error.reason),
      ...sink,
    },
  );
  return { reader: made, port, got, bounds, inflater };
}

const frame = (text: string) => framed(Buffer.from(text));
const compressed = (text: string) => framed(Buffer.from(`1${text}`), true);

test("messages come in order whatever is compressed, and whenever the listener pauses, chunks come and inflation ends", () => {
  const act = fc.constantFrom("chunk", "chunk", "settle", "pause", "resume", "turn");
  fc.assert(
    fc.property(
      fc.array(fc.boolean(), { maxLength: 20 }),
      fc.array(act, { maxLength: 80 }),
      fc.integer({ min: 1, max: 20 }),
      (kinds, acts, size) => {
        const { reader: under, port, got, inflater, bounds } = reader();
        const bytes = Buffer.concat(kinds.map((isCompressed, i) => (isCompressed ? compressed(`m${i}`) : frame(`m${i}`))));
        let at = 0;
        let isPaused = false;
        const chunk = () => {
          if (at < bytes.length) under.push(bytes.subarray(at, at + size));
          at += size;
        };
        const does = {
          chunk,
          settle: () => inflater?.settle(),
          pause: () => {
            isPaused = true;
            under.pause();
          },
          resume: () => {
            isPaused = false;
            under.resume();
          },
          turn: () => port.turn(),
        };
        for (const each of acts) {
          const before = got.length;
          does[each]();
          if (isPaused) expect(got.length - before).toBe(0);
        }
        while (at < bytes.length) chunk();
        under.end();
        under.resume();
        for (let i = 0; i <= kinds.length; i++) {
          inflater?.settle();
          port.turn();
        }
        expect(got).toEqual([...kinds.map((_, i) => `m${i}`), "end"]);
        under.handled();
        expect([inflater?.openCount, bounds.bufferedBytes]).toEqual([0, 0]);
      },
    ),
  );
});

test("a listener that pauses in the middle of a chunk is given the rest when it resumes, even from inside", () => {
  const got: string[] = [];
  const { reader: under } = reader({
    message: (bytes) => {
      got.push(Buffer.from(bytes).toString());
      under.pause();
      if (got.length !== 2) under.resume();
    },
  });
  under.push(Buffer.concat([frame("a"), frame("b"), frame("c")]));
  expect(got).toEqual(["a", "b"]);
  under.resume();
  expect(got).toEqual(["a", "b", "c"]);
});

test("thousands of messages in one chunk take several turns", () => {
  const { reader: under, port, got } = reader();
  under.push(Buffer.concat(Array.from({ length: 300 }, () => frame("x"))));
  under.end();
  expect([got.length, port.isPaused]).toEqual([128, true]);
  port.turn();
  expect(got.length).toBe(256);
  port.turn();
  expect([got.length, got.at(-1), port.isPaused]).toEqual([301, "end", true]);
});

test("what was inflated is let go when it is handled, not before, and not what is still being inflated", () => {
  const { reader: under, inflater } = reader();
  under.push(Buffer.concat([compressed("a"), compressed("b")]));
  under.handled();
  expect(inflater?.openCount).toBe(1);
  inflater?.settle();
  expect(inflater?.openCount).toBe(1); // "a" was let go for "b".
  inflater?.settle();
  expect(inflater?.openCount).toBe(1);
  under.handled();
  expect(inflater?.openCount).toBe(0);
});

test("a message that cannot be inflated, half a message, or one that may not come ends it once", () => {
  const refused = new LateInflater(() => new WaymarkError("quota_exceeded", "too large"));
  const bad = reader({}, refused);
  bad.reader.push(Buffer.concat([compressed("a"), frame("b")]));
  refused.settle();
  bad.reader.push(frame("c"));
  bad.reader.end();
  expect([bad.got, refused.openCount]).toEqual([["quota_exceeded"], 0]);
  const half = reader();
  half.reader.push(frame("abc").subarray(0, 6));
  half.reader.end();
  expect(half.got).toEqual(["invalid_argument"]);
  const none = reader({}, undefined);
  const port = new FakePort();
  const got: string[] = [];
  const bounds = { maxMessageBytes: 10, maxBufferedBytes: 100, bufferedBytes: 0 };
  const without = new MessageReader(
    { bounds, encoding: "gzip", inflater: undefined, owner: {}, port },
    { message: () => {}, ended: () => {}, failed: ({ reason }) => got.push(reason) },
  );
  without.push(compressed("a"));
  expect([got, none.got]).toEqual([["unimplemented"], []]);
});

test("a fault of the listener goes on to who pushed", () => {
  const { reader: under } = reader({
    message: () => {
      throw new TypeError("bug");
    },
  });
  expect(() => under.push(frame("a"))).toThrow("bug");
});
