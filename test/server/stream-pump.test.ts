/** The pump: one message in flight, woken when there is more, and the source closed exactly once. */
import { expect, test } from "vitest";
import { WaymarkError } from "../../src/lib/errors.ts";
import { StreamPump } from "../../src/server/stream-pump.ts";
import { DemoSource } from "../fakes/demo-service.ts";

function pumped(source: DemoSource) {
  const written: Uint8Array[] = [];
  const finished: unknown[] = [];
  const pump = new StreamPump(
    source,
    { write: (bytes) => void written.push(bytes), finish: (error) => void finished.push(error) },
    {
      now: () => ({
        monoMs: 0,
        wallMs: 0,
      }),
    },
  );
  return { pump, written, finished };
}

const message = (n: number) => Uint8Array.of(n);

test("the next message is pulled only when the one in flight was taken", () => {
  const source = new DemoSource();
  source.queue.push(message(1), message(2));
  const { pump, written } = pumped(source);
  pump.start();
  source.wake();
  expect(written).toEqual([message(1)]);
  pump.taken();
  expect(written).toEqual([message(1), message(2)]);
});

test("a reader that never takes costs one pull, however often the source wakes", () => {
  const source = new DemoSource();
  source.chunk = message(1);
  const { pump } = pumped(source);
  pump.start();
  for (let i = 0; i < 100; i++) source.wake();
  expect(source.pullCount).toBe(1);
});

test("a source with nothing is pulled again when it wakes", () => {
  const source = new DemoSource();
  const { pump, written } = pumped(source);
  pump.start();
  expect(written).toEqual([]);
  source.queue.push(message(7));
  source.wake();
  expect(written).toEqual([message(7)]);
});

test("a source that wakes from inside its own pull is pulled again, without recursion", () => {
  const source = new DemoSource();
  let left = 10_000;
  source.pull = () => {
    if (left === 0) return message(9);
    left -= 1;
    source.wake();
    return undefined;
  };
  const { pump, written } = pumped(source);
  pump.start();
  expect(written).toEqual([message(9)]);
});

test.each([{ error: undefined }, { error: new WaymarkError("draining", "go") }])(
  "an end waits for the message in flight ($error)",
  ({ error }) => {
    const source = new DemoSource();
    source.chunk = message(1);
    const { pump, written, finished } = pumped(source);
    pump.start();
    source.end(error);
    expect(finished).toEqual([]);
    pump.taken();
    expect(finished).toEqual([error]);
    expect(written.length).toBe(1);
    expect(source.closeCount).toBe(1);
  },
);

test("an end from inside a pull comes after what that pull gives", () => {
  const source = new DemoSource();
  source.pull = () => {
    source.end(undefined);
    return message(1);
  };
  const { pump, written, finished } = pumped(source);
  pump.start();
  expect([written, finished, source.closeCount]).toEqual([[message(1)], [], 0]);
  pump.taken();
  expect([written.length, finished, source.closeCount]).toEqual([1, [undefined], 1]);
});

test("an end while idle is at once, and whatever follows changes nothing", () => {
  const source = new DemoSource();
  const { pump, finished } = pumped(source);
  pump.start();
  source.end(undefined);
  source.end(new WaymarkError("draining", "go"));
  source.wake();
  pump.taken();
  pump.gone();
  expect(finished).toEqual([undefined]);
  expect(source.closeCount).toBe(1);
});

test("a stream that is gone closes its source once and writes nothing more", () => {
  const source = new DemoSource();
  source.chunk = message(1);
  const { pump, written, finished } = pumped(source);
  pump.start();
  pump.gone();
  pump.gone();
  pump.taken();
  source.wake();
  source.end(undefined);
  expect(written.length).toBe(1);
  expect(finished).toEqual([]);
  expect(source.closeCount).toBe(1);
});

test("a pull that throws ends the stream with what it threw", () => {
  const source = new DemoSource();
  const fault = new TypeError("bug");
  source.pull = () => {
    throw fault;
  };
  const { pump, finished } = pumped(source);
  pump.start();
  expect(finished).toEqual([fault]);
  expect(source.closeCount).toBe(1);
});
