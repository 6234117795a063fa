/** Warm start in a simulated node: a snapshot of what others told, on its disk, as `src/node/warm-start.ts` makes and uses it. */
import { BODY, type KeyText } from "../../src/catalog/record/record.ts";
import { standingOf } from "../../src/fabric/origin-lifecycle-parts.ts";
import { readRosterFile } from "../../src/fabric/snapshot/codec.ts";
import { readSnapshot, restoreSnapshot, snapshotBlocks } from "../../src/fabric/snapshot/snapshot.ts";
import { runThrough } from "../../src/lib/machine.ts";
import { BOUNDS } from "../fakes/options.ts";
import type { SimNode, SimProcess } from "./sim-node.ts";

/** Bytes of a snapshot at once, so that the replica changes between two of them. */
const BLOCK_BYTES = 300;
const SLICES = 3;
const MAX_SKEW_MS = 60_000;
const MAX_REMEMBERED = 1000;

/** Writes a snapshot, a few blocks at a time; the one before stands until the last. */
export function saveSnapshot(process: SimProcess): void {
  const { node, replica } = process;
  if (!process.isReady || replica.isForgetting) return;
  const time = process.time();
  const savedWallMs = Math.max(0, time.wallMs - process.fabric.fabric.readiness(time).ageMs);
  const header = { nodeId: replica.self.nodeId, clusterId: node.options.clusterId, savedWallMs, starts: [] };
  const blocks = snapshotBlocks(
    replica,
    header,
    (origin) => standingOf(process.fabric.fabric.lifecycle, origin, process.time()),
    BLOCK_BYTES,
  );
  const done: Uint8Array[] = [];
  const { forgottenCount } = replica;
  const before = heldOfOthers(process);
  const go = () => {
    // As there, where what is thrown then leaves the one before as it is.
    if (replica.isForgetting || replica.forgottenCount !== forgottenCount) return;
    for (let n = 0; n < SLICES; n++) {
      const block = blocks.next();
      if (block.done === true) {
        node.disk.snapshot = Buffer.concat(done);
        node.disk.saved = heldOfOthers(process).intersection(before);
        return;
      }
      done.push(Uint8Array.from(block.value));
    }
    process.afterDisk(go);
  };
  go();
}

/** Keys of the entries of others that a node holds. */
function heldOfOthers({ replica }: SimProcess): ReadonlySet<KeyText> {
  const others = [...replica.origins.values()].filter((origin) => origin !== replica.self && origin.lacks === undefined);
  return new Set(others.flatMap(({ log }) => log.list().flatMap(({ key, body }) => (body === BODY.ENTRY ? [key] : []))));
}

export interface Warm {
  readonly startAgeMs: number;
  readonly absentWallMs: ReadonlyMap<string, number>;
  readonly over: ReadonlySet<string>;
  readonly superseded: readonly KeyText[];
}

/** Brings back what the disk's snapshot holds; undefined when there is none of use. To be called after the rows are back. */
export function restoreWarm(process: SimProcess): Warm | undefined {
  const { node, replica, stamper, hlc } = process;
  const { snapshot } = node.disk;
  if (snapshot === undefined) return undefined;
  const time = process.time();
  const read = runThrough(readSnapshot(snapshot, { nodeId: replica.self.nodeId, clusterId: node.options.clusterId }));
  if (!read.ok) throw new Error(`the snapshot of ${node.name} is broken: ${read.fault}`);
  const restored = runThrough(restoreSnapshot(read.snapshot, { replica, stamper, bounds: BOUNDS }, time));
  hlc.merge(restored.maxHlc, time.wallMs, MAX_SKEW_MS);
  const savedWallMs = Math.min(time.wallMs, read.snapshot.header.savedWallMs);
  node.parts.trace.say(() => `${node.name} is back with ${restored.recordCount} records, ${time.wallMs - savedWallMs} ms old`);
  const superseded = restored.superseded.map(({ key }) => key);
  return { startAgeMs: time.wallMs - savedWallMs, absentWallMs: restored.absentWallMs, over: restored.over, superseded };
}

/** The members of its cluster that were on disk when a process starts. */
export function rememberedBy({ disk, identity }: SimNode): readonly string[] {
  return disk.roster === undefined ? [] : readRosterFile(disk.roster, identity, MAX_REMEMBERED);
}
