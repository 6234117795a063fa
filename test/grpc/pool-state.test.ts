/** Which connections a pool has: never more than its bounds, never one with calls given up for another. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { PoolState } from "../../src/grpc/client/pool-state.ts";

const LIMITS = { maxConnections: 3, maxCalls: 5, idleMs: 1_000 };

test("calls to an address share its connection", () => {
  const pool = new PoolState(LIMITS);
  expect(pool.place("a", 0)).toEqual({ id: 1, isNew: true, evicted: undefined });
  expect(pool.place("a", 0)).toEqual({ id: 1, isNew: false, evicted: undefined });
  expect(pool.place("b", 0)).toEqual({ id: 2, isNew: true, evicted: undefined });
  expect([pool.connectionCount, pool.callCount]).toEqual([2, 3]);
});

test("the connection that is idle longest makes room; those with calls do not", () => {
  const pool = new PoolState(LIMITS);
  for (const [nowMs, address] of ["a", "b", "c"].entries()) pool.place(address, nowMs);
  expect([pool.place("d", 10), pool.refusedCount]).toEqual([undefined, 1]);
  pool.ended(2, 20, false);
  pool.ended(1, 30, false);
  expect(pool.place("d", 40)).toEqual({ id: 4, isNew: true, evicted: 2 });
  expect(pool.place("a", 50)).toEqual({ id: 1, isNew: false, evicted: undefined });
});

test("no more calls wait than may", () => {
  const pool = new PoolState(LIMITS);
  for (let i = 0; i < 5; i++) pool.place("a", 0);
  expect(pool.place("a", 0)).toBeUndefined();
  pool.ended(1, 1, false);
  expect(pool.place("a", 1)?.id).toBe(1);
});

test("a call that failed without a word of the server gives its connection up, and one that succeeded does not", () => {
  const pool = new PoolState(LIMITS);
  pool.place("a", 0);
  pool.place("a", 0);
  expect(pool.ended(1, 1, true)).toBe(true);
  expect(pool.place("a", 1)).toMatchObject({ id: 2, isNew: true });
  expect(pool.ended(1, 2, true)).toBe(false); // The other call of the connection that was given up.
  expect([pool.ended(2, 3, false), pool.callCount]).toEqual([false, 0]);
});

test("a connection that was left or idle for long, or all of them, are replaced by new ones", () => {
  const pool = new PoolState(LIMITS);
  pool.place("a", 0);
  pool.left(1);
  pool.place("a", 0);
  pool.place("b", 0);
  pool.ended(2, 0, false);
  expect([pool.sweep(1_000), pool.sweep(1_001), pool.sweep(5_000)]).toEqual([[], [2], []]);
  expect([pool.renew(), pool.connectionCount]).toEqual([[3], 0]);
});

test("whatever happens, the bounds hold, each address has one connection, and none with calls is given up for another", () => {
  const act = fc.oneof(
    fc.record({ kind: fc.constant("place" as const), address: fc.constantFrom("a", "b", "c", "d", "e") }),
    fc.record({ kind: fc.constant("end" as const), nth: fc.nat(), hasFailed: fc.boolean() }),
    fc.record({ kind: fc.constant("leave" as const), nth: fc.nat() }),
    fc.record({ kind: fc.constant("sweep" as const) }),
  );
  fc.assert(
    fc.property(fc.array(act, { maxLength: 60 }), (acts) => {
      const pool = new PoolState(LIMITS);
      /** The model: connections by id, and the ids of open calls. */
      const alive = new Map<number, string>();
      const calls: number[] = [];
      for (const [index, each] of acts.entries()) {
        const nowMs = index * 300;
        if (each.kind === "place") {
          const placed = pool.place(each.address, nowMs);
          const known = [...alive].find(([, address]) => address === each.address)?.[0];
          if (placed === undefined) {
            const isFull = alive.size >= 3 && known === undefined && [...alive.keys()].every((id) => calls.includes(id));
            expect(isFull || calls.length >= 5).toBe(true);
            continue;
          }
          expect([placed.isNew, placed.isNew ? undefined : placed.id]).toEqual([known === undefined, known]);
          if (placed.evicted !== undefined) {
            expect([alive.has(placed.evicted), calls.includes(placed.evicted)]).toEqual([true, false]);
            alive.delete(placed.evicted);
          }
          alive.set(placed.id, each.address);
          calls.push(placed.id);
        } else if (each.kind === "end" && calls.length > 0) {
          const [id = 0] = calls.splice(each.nth % calls.length, 1);
          expect(pool.ended(id, nowMs, each.hasFailed)).toBe(each.hasFailed && alive.has(id));
          if (each.hasFailed) alive.delete(id);
        } else if (each.kind === "leave") {
          const id = [...alive.keys()][each.nth % Math.max(1, alive.size)] ?? 0;
          pool.left(id);
          alive.delete(id);
        } else if (each.kind === "sweep") {
          for (const id of pool.sweep(nowMs)) {
            expect(calls.includes(id)).toBe(false);
            alive.delete(id);
          }
        }
        expect([pool.connectionCount, pool.callCount]).toEqual([alive.size, calls.length]);
        expect(alive.size).toBeLessThanOrEqual(3);
      }
    }),
  );
});
