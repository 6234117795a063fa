/** An empty answer is not always the truth: what too many lost at once is served on, for a while (semantics.md, Resolver 16). */
import { beforeEach, expect, test } from "vitest";
import { type KeyText, KIND, keyParts, keyText, viewHealth } from "../../../src/catalog/record/record.ts";
import { CAUSE, type ChangeCause } from "../../../src/catalog/watch/change-cause.ts";
import { GUARD_DEFAULTS } from "../../../src/consumer/mass-loss-guard.ts";
import { RetainedEntries } from "../../../src/resolver/cache/retained-entries.ts";
import { timeOf } from "../../fakes/history.ts";
import { FabricComponent } from "../../fakes/mesh.ts";

const MINUTE = 60_000;

/** What is followed, and what is held beside it. */
class World {
  readonly node = new FabricComponent("n");
  /** Instances that the policy hides. */
  hidden: readonly number[] = [];
  readonly held = new RetainedEntries({
    lookup: this.node.replica.lookup,
    slab: this.node.replica.slab,
    bounds: GUARD_DEFAULTS,
    admits: (record) => !this.hidden.some((n) => key(n) === record.key),
  });

  constructor(count: number) {
    for (let n = 1; n <= count; n++) this.put(n);
  }

  put(n: number): void {
    this.node.put(key(n), 0, timeOf(0, 0));
    this.node.commit(timeOf(0, 0));
    this.held.put(key(n));
  }

  lose(n: number, cause: ChangeCause = CAUSE.EXPIRED, monoMs = 0): void {
    const record = this.node.replica.view(key(n));
    if (record === undefined) this.held.ended(key(n), cause, at(monoMs));
    else {
      this.held.gone(record, cause, at(monoMs));
      for (const stored of this.node.replica.records(key(n))) this.node.replica.withdraw(stored, timeOf(0, 0));
    }
  }

  /** The instances that came to be held, or are held no longer, since the last look. */
  get touched(): readonly number[] {
    return [...this.held.takeTouched()].map((text) => Number(keyParts(text).instanceId)).toSorted((a, b) => a - b);
  }

  /** The instances that are held. */
  get list(): readonly number[] {
    return Array.from({ length: 10 }, (_, i) => i + 1).filter((n) => this.held.lookup.find(key(n)) !== undefined);
  }
}

function key(n: number): KeyText {
  return keyText({ kind: KIND.SERVICE, namespace: "svc", name: "db", instanceId: `${n}`, clusterId: "c1" });
}

function at(monoMs: number) {
  return { monoMs, wallMs: 0 };
}

let world: World;
beforeEach(() => {
  world = new World(4);
});

test("keys that are told to be gone and were never here are none that the name had", () => {
  for (let n = 5; n <= 10; n++) world.lose(n, CAUSE.UNREGISTERED);
  for (const n of [1, 2, 3]) world.lose(n);
  expect(world.list).toEqual([1, 2, 3]);
});

test("more than half of a name that expires within 30 s is held, as ORPHANED, with all its bytes", () => {
  const bytes = Buffer.from(world.node.replica.slab.view(...placeOf(world.node.replica.view(key(1))!)));
  world.lose(1, CAUSE.EXPIRED, 0);
  world.lose(2, CAUSE.EXPIRED, 10_000);
  expect(world.list).toEqual([]);
  world.lose(3, CAUSE.EXPIRED, 29_000);
  expect(world.list).toEqual([1, 2, 3]);
  const record = world.held.lookup.find(key(1))!;
  expect([viewHealth(record), record.traits.tags]).toEqual([5, ["blue"]]);
  expect(Buffer.from(world.node.replica.slab.view(...placeOf(record)))).toEqual(bytes);
});

function placeOf({ at: place, sizeBytes }: { readonly at: number; readonly sizeBytes: number }): readonly [number, number] {
  return [place, sizeBytes];
}

test.each<{ what: string; count: number; lose: (world: World) => void }>([
  { what: "half of them", count: 4, lose: (w) => [1, 2].forEach((n) => w.lose(n)) },
  { what: "two of two", count: 2, lose: (w) => [1, 2].forEach((n) => w.lose(n)) },
  { what: "what was unregistered", count: 4, lose: (w) => [1, 2, 3].forEach((n) => w.lose(n, CAUSE.UNREGISTERED)) },
  { what: "what policy hides", count: 4, lose: (w) => [1, 2, 3].forEach((n) => w.lose(n, CAUSE.NO_MATCH)) },
  { what: "what expires slowly", count: 4, lose: (w) => [1, 2, 3].forEach((n) => w.lose(n, CAUSE.EXPIRED, n * 31_000)) },
])("$what is not held", ({ count, lose }) => {
  world = new World(count);
  lose(world);
  expect(world.list).toEqual([]);
});

test("a new put or an unregister of a key ends its hold at once; that it expired once more does not", () => {
  for (const n of [1, 2, 3]) world.lose(n);
  world.lose(1, CAUSE.EXPIRED, 1000);
  expect(world.list).toEqual([1, 2, 3]);
  world.put(1);
  world.lose(2, CAUSE.UNREGISTERED, 1000);
  expect(world.list).toEqual([3]);
});

test("what a policy hides is held no longer, and not again when another one shows it", () => {
  for (const n of [1, 2, 3]) world.lose(n);
  world.hidden = [2, 4];
  world.lose(4);
  expect(world.list).toEqual([1, 2, 3]);
  world.held.policyChanged();
  world.hidden = [];
  world.held.policyChanged();
  expect(world.list).toEqual([1, 3]);
});

test("whoever asks is told once which keys came to be held or are held no longer", () => {
  for (const n of [1, 2, 3]) world.lose(n);
  expect([world.held.isTouched, world.touched, world.held.isTouched, world.touched]).toEqual([true, [1, 2, 3], false, []]);
  world.put(1);
  world.lose(2, CAUSE.UNREGISTERED);
  expect(world.touched).toEqual([1, 2]);
  world.held.tick(at(6 * MINUTE));
  expect(world.touched).toEqual([3]);
});

test("nothing is held for longer than five minutes", () => {
  for (const n of [1, 2, 3]) world.lose(n, CAUSE.EXPIRED, n);
  expect(world.held.nextDeadlineMs()).toBe(3 + 5 * MINUTE);
  world.held.tick(at(2 + 5 * MINUTE));
  expect(world.list).toEqual([1, 2, 3]);
  world.held.tick(at(3 + 5 * MINUTE));
  expect(world.list).toEqual([]);
  expect(world.held.nextDeadlineMs()).toBe(Number.POSITIVE_INFINITY);
});

test("what is held costs no slab once it is let go", () => {
  const before = world.node.replica.slab.stats();
  for (const n of [1, 2, 3, 4]) world.lose(n);
  world.held.tick(at(6 * MINUTE));
  expect(world.node.replica.slab.stats().usedBytes).toBeLessThan(before.usedBytes);
});
