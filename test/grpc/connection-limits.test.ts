/** When a connection is cut, and that what real clients do is not. */
import { expect, test } from "vitest";
import { CONNECTION_LIMITS, type ConnectionLimits, ConnectionMeter, type ExceededLimit } from "../../src/grpc/server/connection-limits.ts";

const LIMITS: ConnectionLimits = {
  pingsPerSecond: 10,
  settingsPerSecond: 5,
  uselessBytesPerSecond: 1_000,
  brokenUploadsPerSecond: 3,
  unreadBytes: 5_000,
  headerGainPerSecond: 100_000,
  untakenBytes: 1_000_000,
  refusalsPerSecond: 100,
  resetBurst: 10,
  resetsPerSecond: 10,
  silentTimeoutMs: 8_000,
  prefaceTimeoutMs: 3_000,
  trickleMs: 1_500,
  stuckBytes: 10_000,
  stuckMs: 1_500,
};

/** Plays seconds of a connection's life; each tells what happened in it. Returns the first verdict and its second. */
function play(
  seconds: readonly Second[],
  greeted = true,
): { readonly connectionLimits: ExceededLimit; readonly second: number } | undefined {
  const meter = new ConnectionMeter(LIMITS, { monoMs: 0, bytesRead: 0, bytesWritten: 0 });
  if (greeted) meter.settings();
  let bytesRead = 0;
  let bytesWritten = 0;
  for (const [index, second] of seconds.entries()) {
    meter.openStreams = second.open ?? 0;
    const pings = Array.from({ length: second.pings ?? 0 }, () => meter.ping());
    const atOnce = pings.find((verdict) => verdict !== undefined);
    if (atOnce !== undefined) return { connectionLimits: atOnce, second: index + 1 };
    for (let i = 0; i < (second.bombs ?? 0); i++) meter.headers(BOMB);
    for (let i = 0; i < (second.settings ?? 0); i++) meter.settings();
    bytesRead += second.read ?? 0;
    bytesWritten += second.written ?? 0;
    meter.usefulBytes += second.useful ?? 0;
    meter.streamCount += second.opened ?? 0;
    meter.refusalCount += second.refused ?? 0;
    meter.pendingBytes = second.pending ?? 0;
    const monoMs = (index + 1) * 1_000;
    if (meter.isIdle(monoMs, bytesRead)) continue;
    const connectionLimits = meter.check({ monoMs, bytesRead, bytesWritten, waitingCalls: second.waiting ?? 0 });
    if (connectionLimits !== undefined) return { connectionLimits, second: index + 1 };
  }
  return undefined;
}

/** Headers of 54 kB. */
const BOMB = Array.from({ length: 108 }, () => "a".repeat(500));

interface Second {
  readonly bombs?: number;
  readonly pings?: number;
  readonly settings?: number;
  readonly read?: number;
  readonly written?: number;
  readonly useful?: number;
  readonly opened?: number;
  readonly refused?: number;
  readonly open?: number;
  readonly pending?: number;
  readonly waiting?: number;
}

const times = (count: number, second: Second) => Array.from({ length: count }, () => second);

test.each<{ name: string; seconds: Second[]; greeted?: boolean; want: ExceededLimit; within: number }>([
  { name: "pings beyond the rate", seconds: times(2, { pings: 11, read: 187 }), want: "ping_flood", within: 1 },
  { name: "settings beyond the rate", seconds: times(2, { settings: 6 }), want: "settings_flood", within: 1 },
  { name: "bytes that are nothing, with a stream open", seconds: times(9, { read: 2_000, open: 1 }), want: "useless_bytes", within: 6 },
  {
    name: "more of them than calls that wait can have sent",
    seconds: times(9, { read: 40_000, open: 2, waiting: 2 }),
    want: "useless_bytes",
    within: 4,
  },
  { name: "very many of them", seconds: times(2, { read: 7_000, open: 1 }), want: "useless_bytes", within: 1 },
  { name: "a few bytes that are long headers", seconds: times(2, { bombs: 3, read: 450, opened: 3 }), want: "header_bomb", within: 1 },
  { name: "no preface", seconds: times(9, {}), greeted: false, want: "slow_preface", within: 9 },
  { name: "half a preface, then nothing", seconds: [{ read: 9 }, ...times(9, {})], greeted: false, want: "slow_preface", within: 5 },
  { name: "half a preface, byte by byte", seconds: times(9, { read: 1 }), greeted: false, want: "slow_preface", within: 5 },
  { name: "headers byte by byte", seconds: times(9, { read: 1 }), want: "slow_headers", within: 4 },
  { name: "calls to nowhere", seconds: times(2, { opened: 200, refused: 200, read: 20_000 }), want: "refused_calls", within: 1 },
  { name: "pings after an idle minute", seconds: [...times(60, {}), { pings: 11, read: 187 }], want: "ping_flood", within: 61 },
  { name: "settings after an idle minute", seconds: [...times(60, {}), { settings: 6, read: 54 }], want: "settings_flood", within: 61 },
  { name: "useless bytes after an idle minute", seconds: [...times(60, {}), { read: 7_000 }], want: "useless_bytes", within: 61 },
  {
    name: "headers byte by byte after an idle minute",
    seconds: [...times(60, {}), ...times(9, { read: 1 })],
    want: "slow_headers",
    within: 64,
  },
  { name: "answers never taken, with no stream open", seconds: times(9, { pending: 20_000 }), want: "stuck_reader", within: 4 },
  { name: "answers never taken", seconds: times(9, { open: 9, pending: 20_000, written: 17 }), want: "stuck_reader", within: 3 },
])("$name: $want within $within s", ({ seconds, greeted, want, within }) => {
  const verdict = play(seconds, greeted);
  expect(verdict?.connectionLimits).toBe(want);
  expect(verdict?.second).toBeLessThanOrEqual(within);
});

test.each<{ name: string; seconds: Second[]; greeted?: boolean }>([
  { name: "an idle connection", seconds: times(100, {}) },
  { name: "a client that stands still for seconds before its preface", seconds: times(7, {}), greeted: false },
  {
    name: "messages that are read a second after they came, again and again",
    seconds: Array.from({ length: 20 }, (_, i) => (i % 2 === 0 ? { read: 5_900, open: 1 } : { read: 900, useful: 5_900, open: 1 })),
  },
  {
    name: "many calls with long bodies that wait for their turn, and are begun some a second",
    seconds: [
      { read: 6_000_000, open: 100, waiting: 100 },
      ...Array.from({ length: 10 }, (_, i) => ({ opened: 10, useful: 600_000, open: 90 - 10 * i, waiting: 90 - 10 * i })),
    ],
  },
  { name: "a client that pings now and then", seconds: times(100, { pings: 1, read: 17, written: 17 }) },
  {
    name: "a watcher that pings to measure bandwidth while it is sent to",
    seconds: times(9, { pings: 500, read: 8_500, written: 1e6, open: 1 }),
  },
  { name: "a reader's window updates", seconds: times(9, { read: 40_000, written: 100_000, open: 1 }) },
  { name: "a registrar sending large messages", seconds: times(9, { read: 5e6, useful: 4.99e6, opened: 3, open: 3 }) },
  { name: "long headers that came as such", seconds: times(9, { bombs: 10, read: 540_000, opened: 10, useful: 460_000 }) },
  { name: "many small calls with long tokens", seconds: times(9, { read: 4e6, opened: 1_000, open: 10 }) },
  {
    name: "a last window update after a stream, then quiet, again and again",
    seconds: Array.from({ length: 60 }, (_, i) => ({ read: i % 10 === 0 ? 13 : 0 })),
  },
  { name: "a slow reader that takes what it asked for, slowly", seconds: times(9, { open: 1, pending: 20_000, written: 5_000 }) },
  { name: "a stalled watcher with little pending", seconds: times(100, { open: 1, pending: 9_000 }) },
])("$name is left alone", ({ seconds, greeted }) => {
  expect(play(seconds, greeted)).toBeUndefined();
});

test("a connection is idle from its second check without an event, until a byte arrives", () => {
  const meter = new ConnectionMeter(LIMITS, { monoMs: 0, bytesRead: 0, bytesWritten: 0 });
  const look = (monoMs: number, bytesRead: number) => {
    const isIdle = meter.isIdle(monoMs, bytesRead);
    if (!isIdle) expect(meter.check({ monoMs, bytesRead, bytesWritten: 0 })).toBeUndefined();
    return isIdle;
  };
  expect(look(250, 0)).toBe(false);
  meter.settings();
  expect([look(500, 40), look(750, 40), look(1_000, 40)]).toEqual([false, false, true]);
  meter.openStreams = 1;
  meter.streamCount = 1;
  expect([look(1_250, 140), look(1_500, 140), look(1_750, 140)]).toEqual([false, false, false]);
  meter.openStreams = 0;
  expect([look(2_000, 140), look(2_250, 140), look(2_500, 141), look(2_750, 141), look(9_000, 141)]).toEqual([
    false,
    true,
    false,
    false,
    false,
  ]);
  expect(look(9_250, 141)).toBe(true);
});

test("a flood far beyond the rate is cut at once, not at the next check", () => {
  const meter = new ConnectionMeter(LIMITS, { monoMs: 0, bytesRead: 0, bytesWritten: 0 });
  const verdicts = Array.from({ length: 200 }, () => meter.ping());
  expect(verdicts.indexOf("ping_flood")).toBe(100);
  const settings = Array.from({ length: 200 }, () => meter.settings());
  expect(settings.indexOf("settings_flood")).toBe(50);
});

test.each<{ name: string; greeted: boolean; pending: number; read: number; want: ExceededLimit; withinMs: number }>([
  { name: "a silent client", greeted: false, pending: 0, read: 0, want: "slow_preface", withinMs: LIMITS.silentTimeoutMs },
  { name: "a preface", greeted: false, pending: 0, read: 1, want: "slow_preface", withinMs: LIMITS.prefaceTimeoutMs },
  { name: "the rest of a frame", greeted: true, pending: 0, read: 1, want: "slow_headers", withinMs: LIMITS.trickleMs },
  { name: "a reader", greeted: true, pending: 20_000, read: 0, want: "stuck_reader", withinMs: LIMITS.stuckMs },
])("after a standstill of this process $name has its time again", ({ greeted, pending, read, want, withinMs }) => {
  const meter = new ConnectionMeter(LIMITS, { monoMs: 0, patientMs: 0, bytesRead: 0, bytesWritten: 0 });
  if (greeted) meter.settings();
  meter.pendingBytes = pending;
  let bytesRead = 0;
  const check = (patientMs: number, patientDueMs: number) => {
    bytesRead += read;
    return meter.check({ monoMs: patientMs, patientMs, patientDueMs, bytesRead, bytesWritten: 0 });
  };
  // The first look sees the preface, and the second is the first of a quiet connection.
  expect([check(0, 0), check(10, 10)]).toEqual([undefined, undefined]);
  // Silence is known to last only until the time that is due, which stays behind for a while.
  expect(check(withinMs + 20, 20)).toBe(undefined);
  expect(check(2 * withinMs + 20, withinMs + 20)).toBe(want);
});

test("what comes of requests that were refused on their way is not useless, up to a window each and so many a second", () => {
  const cutAfter = (broken: number, windows: number, isLate = false) => {
    const meter = new ConnectionMeter(LIMITS, { monoMs: 0, bytesRead: 0, bytesWritten: 0 });
    meter.settings();
    meter.openStreams = 1;
    meter.brokenUploads += broken;
    if (isLate) expect(meter.check({ monoMs: 1_000, bytesRead: 0, bytesWritten: 0 })).toBeUndefined();
    return meter.check({ monoMs: 2_000, bytesRead: windows * 65_535 + 1_000, bytesWritten: 0 });
  };
  expect([cutAfter(3, 3), cutAfter(3, 3, true)]).toEqual([undefined, undefined]);
  expect([cutAfter(0, 3), cutAfter(2, 3), cutAfter(4, 4, true)]).toEqual(["useless_bytes", "useless_bytes", "useless_bytes"]);
});

test("what came for calls that wait until answers are taken is not useless", () => {
  const meter = new ConnectionMeter(LIMITS, { monoMs: 0, bytesRead: 0, bytesWritten: 0 });
  meter.settings();
  for (let call = 0; call < 10; call++) meter.park(() => {});
  expect(meter.check({ monoMs: 1_000, bytesRead: 600_000, bytesWritten: 0 })).toBeUndefined();
  expect(meter.check({ monoMs: 2_000, bytesRead: 700_000, bytesWritten: 0 })).toBe("useless_bytes");
});

test("calls wait while more is untaken than may be, and run in order once it is taken", () => {
  const meter = new ConnectionMeter(LIMITS, { monoMs: 0, bytesRead: 0, bytesWritten: 0 });
  const done: string[] = [];
  const call = (name: string, bytes: number): void => {
    if (!meter.isTaking) {
      meter.park(() => call(name, bytes));
      return;
    }
    done.push(name);
    meter.pendingBytes += bytes;
  };
  for (const name of ["a", "b", "c", "d"]) call(name, 600_000);
  expect(done).toEqual(["a", "b"]);
  meter.pendingBytes -= 600_000;
  expect(done).toEqual(["a", "b", "c"]);
  meter.pendingBytes = 0;
  expect(done).toEqual(["a", "b", "c", "d"]);
});

test("all calls that wait run once what was untaken is, also those that answer nothing for now, such as a watch", () => {
  const meter = new ConnectionMeter(LIMITS, { monoMs: 0, bytesRead: 0, bytesWritten: 0 });
  const done: string[] = [];
  meter.pendingBytes = 10 * LIMITS.untakenBytes;
  for (const name of ["a", "b", "c"]) meter.park(() => done.push(name));
  meter.pendingBytes = 0;
  expect(done).toEqual(["a", "b", "c"]);
});

test("a client has 10 s for its first byte unless other limits are given, and 2 s from then on", () => {
  const cutAt = (firstByteMs: number) => {
    const meter = new ConnectionMeter(CONNECTION_LIMITS, { monoMs: 0, bytesRead: 0, bytesWritten: 0 });
    for (let monoMs = 0; monoMs < 20_000; monoMs += 100)
      if (meter.check({ monoMs, bytesRead: monoMs >= firstByteMs ? 1 : 0, bytesWritten: 0 }) !== undefined) return monoMs;
    return undefined;
  };
  expect([Number.POSITIVE_INFINITY, 0, 9000].map(cutAt)).toEqual([10_100, 2100, 11_100]);
});

test.each<{ name: string; act: (meter: ConnectionMeter) => void; read?: number; want: ExceededLimit }>([
  { name: "pings", act: (meter) => void Array.from({ length: 25 }, () => meter.ping()), want: "ping_flood" },
  { name: "settings", act: (meter) => void Array.from({ length: 14 }, () => meter.settings()), want: "settings_flood" },
  { name: "refused calls", act: (meter) => void (meter.refusalCount += 250), want: "refused_calls" },
  { name: "header fields", act: (meter) => void Array.from({ length: 5 }, () => meter.headers(BOMB)), want: "header_bomb" },
  { name: "bytes that opened no stream", act: () => {}, read: 7_500, want: "useless_bytes" },
])("a pause of this process adds its length to the time over which $name are measured", ({ act, read = 0, want }) => {
  const verdict = (pauseMs: number) => {
    const meter = new ConnectionMeter(LIMITS, { monoMs: 0, bytesRead: 0, bytesWritten: 0 });
    meter.settings();
    meter.openStreams = 1;
    meter.check({ monoMs: 1_000, bytesRead: 0, bytesWritten: 0 });
    act(meter);
    return meter.check({ monoMs: 1_200, bytesRead: read, bytesWritten: 0, pauseMs });
  };
  expect([verdict(2_000), verdict(0)]).toEqual([undefined, want]);
});
