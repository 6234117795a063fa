/** How long a connection lives, on a clock that jumps: pings, idleness, age, and going away. */
import { expect, test } from "vitest";
import { ConnectionLifetime, type LifetimeLimits } from "../../src/grpc/server/connection-lifetime.ts";
import { Keepalive } from "../../src/grpc/wire/keepalive.ts";

const LIMITS: LifetimeLimits = {
  keepaliveTimeMs: 1_000,
  keepaliveTimeoutMs: 500,
  idleTimeoutMs: 10_000,
  maxConnectionAgeMs: 0,
  maxConnectionAgeGraceMs: 3_000,
};

function life(limits: Partial<LifetimeLimits> = {}, chance = 0.5) {
  const lifetime = new ConnectionLifetime({ ...LIMITS, ...limits }, { nowMs: 0, chance });
  const at = { bytesRead: 0, openStreams: 0, streamCount: 0 };
  const check = (nowMs: number, change: Partial<typeof at> = {}) => {
    Object.assign(at, change);
    return lifetime.check({ nowMs, dueMs: nowMs, ...at });
  };
  return { lifetime, check };
}

test("a quiet connection is pinged once, and cut when nothing comes; whatever comes is an answer", () => {
  const { check } = life();
  expect([check(999), check(1_000), check(1_250), check(1_500)]).toEqual([undefined, "ping", undefined, undefined]);
  expect([check(1_501, { bytesRead: 17 }), check(2_400), check(2_501)]).toEqual([undefined, undefined, "ping"]);
  expect([check(3_001), check(3_002)]).toEqual([undefined, "cut"]);
});

test("a connection without calls is sent away, and one with an open call is not", () => {
  const busy = life({ keepaliveTimeMs: 1e9 });
  expect([busy.check(9_000, { openStreams: 1, streamCount: 1 }), busy.check(25_000)]).toEqual([undefined, undefined]);
  expect([busy.check(34_000, { openStreams: 0 }), busy.check(35_001)]).toEqual([undefined, "close"]);
  const calling = life({ keepaliveTimeMs: 1e9 });
  // Calls that began and ended between two looks count as well.
  expect([calling.check(9_999, { streamCount: 1 }), calling.check(19_999), calling.check(20_000)]).toEqual([undefined, undefined, "close"]);
});

test("a connection that is to go away is told so once, and cut when its grace is over", () => {
  const { lifetime, check } = life();
  expect([lifetime.leave(0, 5_000), lifetime.leave(10, 1)]).toEqual(["close", undefined]);
  expect([check(1_001), check(5_000, { openStreams: 1 }), check(5_001)]).toEqual([undefined, undefined, "cut"]);
});

test("an old connection goes away at its age, ± 10 % by chance", () => {
  const limits = { maxConnectionAgeMs: 1_000, keepaliveTimeMs: 1e9 };
  const ages = [0, 0.5, 1].map((chance) => {
    const { check } = life(limits, chance);
    for (let nowMs = 1; ; nowMs += 1) if (check(nowMs, { openStreams: 1, streamCount: 1 }) === "close") return nowMs;
  });
  expect(ages).toEqual([901, 1_001, 1_101]);
});

test("what a standstill of our own made late is not the peer's fault", () => {
  const keepalive = new Keepalive(LIMITS, 0);
  expect(keepalive.check({ nowMs: 1_000, dueMs: 1_000, bytesRead: 0 })).toBe("ping");
  expect(keepalive.check({ nowMs: 1_700, dueMs: 1_450, bytesRead: 0 })).toBeUndefined();
  expect(keepalive.check({ nowMs: 1_700, dueMs: 1_700, bytesRead: 0 })).toBe("dead");
});
