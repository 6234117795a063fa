/** A link's stream over arrays: one frame in flight, an orderly end, and a bound on every wait, whatever comes in which order. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { LinkStream, WireTraffic } from "../../../src/fabric/transport/link-stream.ts";
import { decodeLinkFrame, encodeLinkFrame } from "../../../src/fabric/wire/codec.ts";
import type { LinkFrame } from "../../../src/fabric/wire/messages.ts";
import { PREFIX_BYTES } from "../../../src/grpc/wire/message-reader.ts";
import { CODES } from "../../../src/lib/errors.ts";

const LIMITS = { stuckMs: 30_000, drainMs: 5_000, goodbyeMs: 1_000 };

/** A stream with what it was ordered and what it told, in order; time passes when a test says so. */
function made() {
  const told: string[] = [];
  const queue: LinkFrame[] = [];
  const taken: (() => void)[] = [];
  const deferred: (() => void)[] = [];
  const time = { ms: 0, readMs: 0 };
  const link = new LinkStream({
    limits: LIMITS,
    traffic: new WireTraffic(),
    clock: { stallAwareMs: () => time.ms, monoMs: () => time.ms, defer: (act) => void deferred.push(act) },
    port: {
      send: (frame, done) => {
        const sent = decodeLinkFrame(frame.subarray(PREFIX_BYTES));
        told.push(sent.kind === "goodbye" ? `send goodbye ${sent.reason}` : `send ${sent.kind}`);
        taken.push(done);
      },
      end: () => void told.push("end"),
      cut: (afterMs) => void told.push(`cut ${afterMs}`),
      pause: () => void told.push("pause"),
      resume: () => void told.push("resume"),
    },
    events: {
      received: (frame) => {
        time.ms += time.readMs;
        told.push(`received ${frame.kind}`);
      },
      pull: () => queue.shift(),
      closed: (detail) => void told.push(`closed ${detail}`),
    },
  });
  const turn = () => deferred.splice(0).forEach((act) => act());
  return { link, told, queue, time, taken, turn };
}

const LINKED: LinkFrame = { kind: "linked", nodeIds: ["a"] };
const bytes = encodeLinkFrame(LINKED);

test("a frame goes when the one before was taken; a link that is closed sends what there still is, and waits for the peer", () => {
  const { link, told, queue, taken } = made();
  queue.push(LINKED, LINKED);
  link.wake();
  link.wake();
  expect(told).toEqual(["send linked"]);
  link.close();
  taken.shift()?.();
  expect(told).toEqual(["send linked", "send linked"]);
  taken.shift()?.();
  expect(told.at(-1)).toBe("end");
  link.message(bytes);
  link.halfClosed();
  expect(told.slice(2)).toEqual(["end", "received linked", "end", "cut 1000", "closed closed"]);
  expect(link.isEndedByPeer).toBe(false);
});

test.each<{ name: string; begin: (stream: ReturnType<typeof made>) => void; afterMs: number; detail: string }>([
  {
    name: "takes nothing of a frame",
    begin: ({ link, queue }) => (queue.push(LINKED), link.wake()),
    afterMs: 30_000,
    detail: "the peer stopped reading",
  },
  {
    name: "takes nothing of what a closed link still has",
    begin: ({ link, queue }) => (queue.push(LINKED), link.close()),
    afterMs: 5_000,
    detail: "the peer did not read the goodbye frame in time",
  },
  { name: "does not end a link that we ended", begin: ({ link }) => link.close(), afterMs: 1_000, detail: "closed" },
])("a peer that $name is cut after $afterMs ms", ({ begin, afterMs, detail }) => {
  const stream = made();
  begin(stream);
  stream.link.check(afterMs);
  expect(stream.told.some((line) => line.startsWith("closed"))).toBe(false);
  stream.link.check(afterMs + 1);
  expect(stream.told.slice(-3)).toEqual(["cut 1000", `closed ${detail}`, "cut 0"]);
});

test("bytes that are no frame are answered by why, unless a frame is in flight", () => {
  const free = made();
  free.link.message(Uint8Array.of(1, 2, 3));
  expect(free.told.slice(0, 3)).toEqual(["send goodbye bad_frame", "end", "cut 1000"]);
  expect(free.told[3]).toMatch(/^closed invalid frame: /);
  const busy = made();
  busy.queue.push(LINKED);
  busy.link.wake();
  busy.link.failed({ message: "too large" });
  expect(busy.told).toEqual(["send linked", "cut 1000", "closed invalid frame: too large"]);
});

test.each([
  { code: CODES.OK, isFromServer: true, isMalformed: false, closed: "the peer ended the link" },
  { code: CODES.OK, isFromServer: false, isMalformed: false, closed: "why" },
  { code: CODES.UNAVAILABLE, isFromServer: true, isMalformed: false, closed: "why" },
  { code: CODES.INTERNAL, isFromServer: false, isMalformed: true, closed: "invalid frame: why" },
])("a link of ours whose call ends with $code, from the server $isFromServer, malformed $isMalformed, is closed: $closed", (row) => {
  const { link, told } = made();
  link.ended({ status: { code: row.code, message: "why" }, isFromServer: row.isFromServer, isMalformed: row.isMalformed });
  expect(told).toContain(`closed ${row.closed}`);
  expect(link.isEndedByPeer).toBe(true);
});

test("a burst of frames is read five milliseconds a turn", () => {
  const { link, told, time, turn } = made();
  time.readMs = 2;
  for (let i = 0; i < 4; i++) link.message(bytes);
  expect(told).toEqual(["received linked", "received linked", "received linked", "received linked", "pause"]);
  turn();
  expect(told.at(-1)).toBe("resume");
  turn();
  expect(told.at(-1)).toBe("resume");
});

test("a link that rests is not read before its time, whatever turns end meanwhile, and the longest rest counts", () => {
  const { link, told, time, turn } = made();
  link.message(bytes);
  link.rest(700);
  link.rest(300);
  turn();
  for (const [ms, last] of [
    [300, "pause"],
    [699, "pause"],
    [700, "resume"],
  ] as const) {
    link.check((time.ms = ms));
    expect(told.at(-1)).toBe(last);
  }
  expect(told).toEqual(["received linked", "pause", "resume"]);
});

test("whatever comes in which order: one frame in flight, closed is told once and last, and nothing is sent after it", () => {
  const acts = [
    "wake",
    "say",
    "taken",
    "close",
    "message",
    "garbage",
    "halfClosed",
    "failed",
    "lost",
    "destroy",
    "pass",
    "rest",
    "turn",
  ] as const;
  fc.assert(
    fc.property(fc.array(fc.constantFrom(...acts), { maxLength: 40 }), (list) => {
      const { link, told, queue, taken, time, turn } = made();
      const doing: Record<(typeof acts)[number], () => void> = {
        wake: () => link.wake(),
        say: () => (queue.push(LINKED), link.wake()),
        taken: () => taken.shift()?.(),
        close: () => link.close(),
        message: () => link.message(bytes),
        garbage: () => link.message(Uint8Array.of(9)),
        halfClosed: () => link.halfClosed(),
        failed: () => link.failed({ message: "no" }),
        lost: () => link.lost("gone"),
        destroy: () => link.destroy("by us"),
        pass: () => link.check((time.ms += 700)),
        rest: () => link.rest(1000),
        turn,
      };
      for (const act of list) {
        doing[act]();
        expect(taken.length).toBeLessThanOrEqual(told.includes("send goodbye bad_frame") ? 2 : 1);
      }
      link.close();
      for (let i = 0; i < 100; i++) link.check((time.ms += 700));
      const closedAt = told.findIndex((line) => line.startsWith("closed"));
      expect(told.filter((line) => line.startsWith("closed")).length).toBe(1);
      expect(told.slice(closedAt + 1).filter((line) => /^(send|received|end)/.test(line))).toEqual([]);
    }),
  );
});
