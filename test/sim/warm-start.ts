/** Warm start in a simulated node: a snapshot of what others told, on its disk, as `src/node-warm-start.ts` makes and uses it. */
import type { Origin } from "../../src/catalog/cell.ts";
import { DEFAULT_BOUNDS } from "../../src/catalog/names.ts";
import type { KeyText } from "../../src/catalog/record.ts";
import { readSnapshot, restoreSnapshot, snapshotBlocks } from "../../src/fabric/replica-snapshot.ts";
import type { SnapshotOrigin } from "../../src/fabric/snapshot-codec.ts";
import { runThrough } from "../../src/lib/slices.ts";
import type { SimProcess } from "./sim-node.ts";

/** Bytes of a snapshot at once, so that the replica changes between two of them. */
const BLOCK_BYTES = 300;
const SLICES = 3;
const MAX_SKEW_MS = 60_000;

/** Writes a snapshot, a few blocks at a time; the one before stands until the last. */
export function saveSnapshot(process: SimProcess): void {
  const { node, replica } = process;
  if (!process.isReady || replica.isForgetting) return;
  const time = process.time();
  const savedWallMs = Math.max(0, time.wallMs - process.fabric.fabric.readiness(time).ageMs);
  const header = { nodeId: replica.self.nodeId, clusterId: node.options.clusterId, savedWallMs, starts: [] };
  const blocks = snapshotBlocks(replica, header, (origin) => stateOf(process, origin), BLOCK_BYTES);
  const done: Uint8Array[] = [];
  const { forgottenCount } = replica;
  const go = () => {
    // As there, where what is thrown then leaves the one before as it is.
    if (replica.isForgetting || replica.forgottenCount !== forgottenCount) return;
    for (let n = 0; n < SLICES; n++) {
      const block = blocks.next();
      if (block.done === true) {
        node.disk.snapshot = Buffer.concat(done);
        return;
      }
      done.push(Uint8Array.from(block.value));
    }
    process.afterDisk(go);
  };
  go();
}

function stateOf(process: SimProcess, origin: Origin): SnapshotOrigin {
  const sinceMonoMs = process.fabric.fabric.lives.absentSinceMonoMs(origin);
  const { monoMs, wallMs } = process.time();
  const absentWallMs = sinceMonoMs === undefined ? undefined : wallMs - (monoMs - sinceMonoMs);
  return { life: origin.life, absentWallMs, isOver: process.fabric.fabric.lives.isOver(origin) };
}

export interface Warm {
  readonly startAgeMs: number;
  readonly absentWallMs: ReadonlyMap<string, number>;
  readonly over: ReadonlySet<string>;
  readonly superseded: readonly KeyText[];
}

/** Brings back what the disk's snapshot holds; undefined when there is none of use. To be called after the rows are back. */
export function restoreWarm(process: SimProcess): Warm | undefined {
  const { node, replica, drafter, hlc } = process;
  const { snapshot } = node.disk;
  if (snapshot === undefined) return undefined;
  const time = process.time();
  const read = runThrough(readSnapshot(snapshot, { nodeId: replica.self.nodeId, clusterId: node.options.clusterId }));
  if (!read.ok) throw new Error(`the snapshot of ${node.name} is broken: ${read.fault}`);
  const restored = runThrough(restoreSnapshot(read.snapshot, { replica, drafter, bounds: DEFAULT_BOUNDS }, time));
  hlc.merge(restored.maxHlc, time.wallMs, MAX_SKEW_MS);
  const savedWallMs = Math.min(time.wallMs, read.snapshot.header.savedWallMs);
  node.parts.trace.say(() => `${node.name} is back with ${restored.recordCount} records, ${time.wallMs - savedWallMs} ms old`);
  const superseded = restored.superseded.map(({ key }) => key);
  return { startAgeMs: time.wallMs - savedWallMs, absentWallMs: restored.absentWallMs, over: restored.over, superseded };
}
