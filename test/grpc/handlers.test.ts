/** Methods from plain functions: the pump keeps one message in flight, whenever its source wakes it, ends, or is left. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { type MessageSource, serverStreamMethod, unaryMethod } from "../../src/grpc/server/handlers.ts";
import type { Call, SingleRequestMethod } from "../../src/grpc/server/method.ts";
import type { Taken } from "../../src/grpc/wire/stream-port.ts";

/** What a call was told to do. */
function fakeCall() {
  const told: string[] = [];
  const taken: Taken[] = [];
  let onCancelled: (() => void) | undefined;
  const call = {
    isOver: false,
    onCancelled: (tell: () => void) => {
      onCancelled = tell;
    },
    sendMetadata: () => told.push("headers"),
    write: (message: Uint8Array, takes: Taken) => {
      told.push(Buffer.from(message).toString());
      taken.push(takes);
      return true;
    },
    respond: (message: Uint8Array) => told.push(`respond ${Buffer.from(message).toString()}`),
    end: () => told.push("end"),
    fail: (thrown: unknown) => told.push(`fail ${thrown instanceof Error ? thrown.message : ""}`),
  };
  const take = (error?: Error) => taken.shift()?.(error);
  return { call: call as unknown as Call, told, take, cancel: () => onCancelled?.(), taken };
}

function source(queue: string[]) {
  const made = {
    closeCount: 0,
    wake: () => {},
    end: (_error: unknown): void => {},
    attach(wake: () => void, end: (error: unknown) => void) {
      made.wake = wake;
      made.end = end;
    },
    pull: () => {
      const next = queue.shift();
      if (next === "bug") throw new Error("bug");
      return next === undefined ? undefined : Buffer.from(next);
    },
    close: () => {
      made.closeCount += 1;
    },
  };
  return made satisfies MessageSource;
}

function streaming(queue: string[]) {
  const made = source(queue);
  const fake = fakeCall();
  serverStreamMethod("/t/S", () => made).handle(new Uint8Array(), fake.call);
  return { ...fake, source: made, queue };
}

test("a unary method answers a value at once, a promise when it settles, and fails with what either throws", async () => {
  const run = (method: SingleRequestMethod) => {
    const fake = fakeCall();
    method.handle(Buffer.from("q"), fake.call);
    return fake.told;
  };
  expect(run(unaryMethod("/t/U", (request) => request))).toEqual(["respond q"]);
  const later = run(unaryMethod("/t/U", (request) => Promise.resolve(request)));
  const failed = run(unaryMethod("/t/U", () => Promise.reject(new Error("no"))));
  await Promise.resolve();
  await Promise.resolve();
  await Promise.resolve();
  expect([later, failed]).toEqual([["respond q"], ["fail no"]]);
});

test("one message is in flight, and the next is pulled when it was taken", () => {
  const { told, take, source: under, queue } = streaming(["a", "b"]);
  expect(told).toEqual(["headers", "a"]);
  under.wake();
  expect(told).toHaveLength(2);
  take();
  expect(told.at(-1)).toBe("b");
  take();
  queue.push("c");
  under.wake();
  expect(told.at(-1)).toBe("c");
});

test("the end waits for the message in flight, and closes the source once", () => {
  const { told, take, source: under } = streaming(["a"]);
  under.end(undefined);
  under.end(new Error("later"));
  expect(told).toEqual(["headers", "a"]);
  take();
  expect([told, under.closeCount]).toEqual([["headers", "a", "end"], 1]);
});

test("a source that throws, and one that ends with an error, fail the call", () => {
  const broken = streaming(["bug"]);
  expect([broken.told, broken.source.closeCount]).toEqual([["headers", "fail bug"], 1]);
  const ended = streaming([]);
  ended.source.end(new Error("gone"));
  expect([ended.told, ended.source.closeCount]).toEqual([["headers", "fail gone"], 1]);
});

test("a call that is cancelled closes its source, and nothing is written after", () => {
  const { told, take, cancel, source: under } = streaming(["a", "b"]);
  cancel();
  take(new Error("gone"));
  under.wake();
  under.end(undefined);
  expect([told, under.closeCount]).toEqual([["headers", "a"], 1]);
});

test("whatever the order of waking and taking, every message goes out once, in order", () => {
  fc.assert(
    fc.property(fc.array(fc.constantFrom("put", "wake", "take"), { maxLength: 60 }), (acts) => {
      const { told, take, source: under, queue, taken } = streaming([]);
      let put = 0;
      for (const act of acts) {
        if (act === "put") queue.push(String((put += 1)));
        else if (act === "wake") under.wake();
        else take();
        expect(taken.length).toBeLessThanOrEqual(1);
      }
      for (let i = 0; i <= put; i++) {
        under.wake();
        take();
      }
      expect(told.slice(1)).toEqual(Array.from({ length: put }, (_, i) => String(i + 1)));
    }),
  );
});
