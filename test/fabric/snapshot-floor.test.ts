/** A snapshot made while tombstones are collected: what was listed in it and removed meanwhile must not come back with it. */
import { expect, test } from "vitest";
import { EntryStamper } from "../../src/catalog/entry/codec.ts";
import { BODY } from "../../src/catalog/record/record.ts";
import { TraitsPool } from "../../src/catalog/record/traits.ts";
import { readSnapshot, restoreSnapshot, snapshotBlocks } from "../../src/fabric/snapshot/snapshot.ts";
import { runThrough } from "../../src/lib/machine.ts";
import { timeOf } from "../fakes/history.ts";
import { FabricComponent, KEYS } from "../fakes/mesh.ts";
import { BOUNDS } from "../fakes/options.ts";

const SELF = { nodeId: "n1", clusterId: "" };
const LATER = timeOf(1_000_000, 0);
const MUCH_LATER = timeOf(3_000_000, 0);

function shown({ replica }: FabricComponent): readonly string[] {
  const keys: string[] = [];
  const cursor = replica.lookup.cursor();
  for (let record = cursor.next(); record !== undefined; record = cursor.next()) keys.push(record.key);
  return keys;
}

test("a whole transfer to itself begins anew when the floor passes it", () => {
  const [n1, n2] = [new FabricComponent("n1"), new FabricComponent("n2")];
  const now = timeOf(1, 0);
  const end = (keys: readonly (typeof KEYS)[number][]): void => {
    for (const key of keys) {
      n2.end(key, BODY.EXPIRED, now);
      n2.commit(now);
    }
    n1.copy(n2, "n2/1", now);
  };
  for (const key of KEYS) n2.put(key, 6, now);
  n2.commit(now);
  end(KEYS.slice(8));
  n1.collect(LATER);
  const origin = n1.replica.origins.get("n2/1");
  expect(origin?.floor).toBeGreaterThan(0);
  const blocks: Uint8Array[] = [];
  for (const block of snapshotBlocks(
    n1.replica,
    { ...SELF, savedWallMs: 1000, starts: [], sourceAges: [] },
    () => ({ life: "live", absentWallMs: undefined }),
    300,
  )) {
    blocks.push(block);
    if (blocks.length !== 4) continue;
    // The first of the origin's records are written by now; they end, and nothing remembers that they did.
    end(KEYS.slice(0, 6));
    n1.collect(MUCH_LATER);
  }
  const wanted = shown(n1);
  expect(wanted).toEqual(shown(n2));
  n1.restart(timeOf(4, 0), "disk kept");
  const read = runThrough(readSnapshot(Uint8Array.from(Buffer.concat(blocks)), SELF));
  if (!read.ok) throw new Error(read.fault);
  const parts = { stamper: new EntryStamper({ bounds: BOUNDS, traits: new TraitsPool(1024) }), bounds: BOUNDS };
  runThrough(restoreSnapshot(read.snapshot, { ...parts, replica: n1.replica }, timeOf(4, 0)));
  expect(shown(n1)).toEqual(wanted);
});
