/** Streams whose source is at the main thread, and whose reader is at a read worker. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { WaymarkError } from "../../../src/lib/errors.ts";
import type { StreamSource } from "../../../src/services/service.ts";
import { runs } from "../../fakes/effort.ts";
import { Forwarding, peers } from "../../fakes/forwarding.ts";

/** A source that a test fills. */
class Source implements StreamSource {
  readonly waiting: string[] = [];
  pulls = 0;
  closes = 0;
  isDrained = false;
  isAttached = false;
  wake: () => void = () => {};
  end: (error: WaymarkError | undefined) => void = () => {};
  /** What happens within a pull. */
  onPull: () => void = () => {};

  attach(wake: () => void, end: (error: WaymarkError | undefined) => void): void {
    this.isAttached = true;
    this.wake = wake;
    this.end = end;
  }

  put(...texts: string[]): void {
    this.waiting.push(...texts);
    this.wake();
  }

  pull(): Uint8Array | undefined {
    this.pulls += 1;
    this.onPull();
    const text = this.waiting.shift();
    return text === undefined ? undefined : Buffer.from(text);
  }

  close(): void {
    this.closes += 1;
  }
}

/** A client of the worker. It takes a message when it is told to, or at once. */
class Reader {
  readonly told: string[] = [];
  ended: unknown = "open";
  readonly #stream: StreamSource;
  #isTaking: boolean;

  constructor(stream: StreamSource, { isTaking = true } = {}) {
    this.#stream = stream;
    this.#isTaking = isTaking;
    stream.attach(
      () => this.#pull(),
      (error) => {
        this.ended = error?.reason ?? "ok";
        this.#stream.close();
      },
    );
    this.#pull();
  }

  /** From now on each message is taken at once. */
  take(): void {
    this.#isTaking = true;
    this.#pull();
  }

  close(): void {
    this.#stream.close();
    this.#isTaking = false;
  }

  #pull(): void {
    if (!this.#isTaking) return;
    for (let bytes = this.#stream.pull({ monoMs: 0, wallMs: 0 }); bytes !== undefined; ) {
      this.told.push(Buffer.from(bytes).toString());
      bytes = this.#stream.pull({ monoMs: 0, wallMs: 0 });
    }
  }
}

function opened(options?: { readonly isTaking: boolean }) {
  const source = new Source();
  const forwarding = new Forwarding(peers(() => source));
  return { source, forwarding, reader: new Reader(forwarding.open(), options) };
}

test("messages come in order, each pulled when the one before was taken, and those that come later by a wake", async () => {
  const { source, forwarding, reader } = opened();
  source.waiting.push("a", "b", "c");
  forwarding.send();
  forwarding.answer();
  expect(source.pulls).toBe(1);
  source.wake();
  source.wake();
  expect(source.pulls).toBe(1);
  await forwarding.settle();
  expect(reader.told).toEqual(["a", "b", "c"]);
  expect(source.pulls).toBe(4);
  source.put("d");
  await forwarding.settle();
  expect(reader.told).toEqual(["a", "b", "c", "d"]);
  expect([source.closes, reader.ended]).toEqual([0, "open"]);
});

test("nothing more is pulled while the client reads nothing", async () => {
  const { source, forwarding, reader } = opened({ isTaking: false });
  source.put("a", "b", "c");
  for (let turn = 0; turn < 3; turn++) {
    await forwarding.settle();
    source.put("more");
  }
  expect([source.pulls, source.waiting.length]).toEqual([1, 5]);
  reader.take();
  await forwarding.settle();
  expect(reader.told).toEqual(["a", "b", "c", "more", "more", "more"]);
});

test("a source that is drained is not pulled again before it wakes", async () => {
  const { source, forwarding, reader } = opened();
  source.isDrained = true;
  source.waiting.push("a", "b");
  await forwarding.settle();
  expect([reader.told, source.pulls]).toEqual([["a"], 1]);
  source.wake();
  await forwarding.settle();
  expect([reader.told, source.pulls]).toEqual([["a", "b"], 2]);
});

test("a source may wake within its own pull", async () => {
  const { source, forwarding, reader } = opened();
  source.onPull = () => {
    if (source.pulls === 1) source.wake();
    if (source.pulls === 2) source.waiting.push("late");
  };
  await forwarding.settle();
  expect([reader.told, source.pulls]).toEqual([["late"], 3]);
});

const STOPPING = new WaymarkError("draining", "this node is stopping", { retryMs: 7 });

test.each([
  { what: "an error", act: (source: Source) => source.end(STOPPING), want: "draining", told: ["a"], bugs: 0 },
  { what: "nothing wrong", act: (source: Source) => source.end(undefined), want: "ok", told: ["a"], bugs: 0 },
  {
    what: "an error in the pull of its last message",
    act: (source: Source) => {
      source.onPull = () => source.end(STOPPING);
      source.put("last");
    },
    want: "draining",
    told: ["a", "last"],
    bugs: 0,
  },
  {
    what: "a bug",
    act: (source: Source) => {
      source.onPull = () => {
        throw new Error("of the source");
      };
      source.put("never");
    },
    want: "internal",
    told: ["a"],
    bugs: 1,
  },
])("a stream that ends with $what is closed at both ends, after what was pulled", async ({ act, want, told, bugs }) => {
  for (const isTaking of [true, false]) {
    const { source, forwarding, reader } = opened({ isTaking });
    source.put("a");
    await forwarding.settle();
    if (!isTaking) reader.take();
    forwarding.send();
    forwarding.answer();
    act(source);
    await forwarding.settle();
    expect([reader.told, reader.ended, source.closes, forwarding.bugs.length]).toEqual([told, want, 1, bugs]);
    source.wake();
    source.end(STOPPING);
    await forwarding.settle();
    expect([reader.ended, source.closes]).toEqual([want, 1]);
    expect([forwarding.worker.take(), forwarding.main.take()]).toEqual([undefined, undefined]);
  }
});

test("a message that waits for the client goes before the end", async () => {
  const { source, forwarding, reader } = opened({ isTaking: false });
  source.put("a");
  await forwarding.settle();
  source.end(STOPPING);
  await forwarding.settle();
  expect([reader.told, reader.ended, source.closes]).toEqual([[], "open", 1]);
  reader.take();
  expect([reader.told, reader.ended]).toEqual([["a"], "draining"]);
});

test("a stream that is refused ends with its refusal", async () => {
  const refusing = () => {
    throw new WaymarkError("quota_exceeded", "too many watches");
  };
  const forwarding = new Forwarding(peers(refusing));
  const reader = new Reader(forwarding.open());
  await forwarding.settle();
  expect([reader.told, reader.ended]).toEqual([[], "quota_exceeded"]);
});

test.each([
  { when: "before it is opened", turns: 0 },
  { when: "while a message is on its way", turns: 1 },
  { when: "while it waits", turns: 2 },
])("a stream that its client closes $when closes at the main thread too, once", async ({ turns }) => {
  const { source, forwarding, reader } = opened();
  source.put("a");
  if (turns > 0) forwarding.send();
  if (turns > 0) forwarding.answer();
  if (turns > 1) await forwarding.settle();
  reader.close();
  const { told } = reader;
  const before = [...told];
  await forwarding.settle();
  expect([told, source.closes]).toEqual([before, 1]);
  source.put("never");
  await forwarding.settle();
  expect([told, source.closes, forwarding.bugs]).toEqual([before, 1, []]);
});

test("a client that opens and closes streams fills no more than calls may while the main thread stands still", async () => {
  let sources = 0;
  const forwarding = new Forwarding(
    peers(() => {
      sources += 1;
      return new Source();
    }),
    { maxCalls: 5, maxBytes: 1e6 },
  );
  let refused = 0;
  for (let at = 0; at < 20; at++) {
    try {
      forwarding.open().close();
    } catch (thrown) {
      expect(thrown).toMatchObject({ reason: "discovery_rate_limited" });
      refused += 1;
    }
    forwarding.send();
  }
  expect(refused).toBe(15);
  await forwarding.settle();
  expect(sources).toBe(5);
  forwarding.open().close();
  await forwarding.settle();
  expect(sources).toBe(6);
});

test("when one side is gone, the streams of the other end", async () => {
  const { source, forwarding, reader } = opened();
  await forwarding.settle();
  forwarding.main.close();
  expect(source.closes).toBe(1);
  source.put("late");
  expect(forwarding.main.take()).toBeUndefined();
  forwarding.worker.close();
  expect(reader.ended).toBe("draining");
  expect(forwarding.worker.take()).toBeUndefined();
});

const STEP = fc.constantFrom("put", "put", "put", "send", "answer", "hear", "take", "end");

test("a reader is told what was put before the end, in order, and at most one message waits, however the turns of the threads fall", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(STEP, { maxLength: 60 }), fc.boolean(), async (steps, isDrained) => {
      const { source, forwarding, reader } = opened({ isTaking: false });
      source.isDrained = isDrained;
      let count = 0;
      let isEnded = false;
      let isTaking = false;
      for (const step of steps) {
        if (step === "put" && !isEnded) source.put(`${count++}`);
        if (step === "send") forwarding.send();
        if (step === "answer") forwarding.answer();
        if (step === "hear") forwarding.hear();
        if (step === "take") reader.take();
        isTaking ||= step === "take";
        if (step === "end" && source.isAttached && source.waiting.length === 0) {
          source.end(undefined);
          isEnded = true;
        }
        if (!isTaking) expect(count - source.waiting.length).toBeLessThanOrEqual(1);
      }
      reader.take();
      for (let left = isEnded ? 0 : source.waiting.length; left >= 0; left--) {
        await forwarding.settle();
        source.wake();
      }
      await forwarding.settle();
      expect(reader.told).toEqual(Array.from({ length: count }, (_, at) => `${at}`));
      expect([reader.ended, source.closes]).toEqual(isEnded ? ["ok", 1] : ["open", 0]);
    }),
    { numRuns: runs(300) },
  );
});
