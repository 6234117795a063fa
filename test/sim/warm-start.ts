/** The disk of a simulated node, as far as it holds what others told. */
import { BODY, type KeyText } from "../../src/catalog/record/record.ts";
import { readRosterFile } from "../../src/fabric/snapshot/codec.ts";
import { rethrowBroken } from "../../src/lib/errors.ts";
import { runThrough } from "../../src/lib/machine.ts";
import type { KeepSnapshot } from "../../src/node/core/snapshots.ts";
import { type WarmStart, warmStart } from "../../src/node/core/warm-start.ts";
import { BOUNDS } from "../fakes/options.ts";
import type { SimNode, SimProcess } from "./sim-node.ts";

/** Bytes of a snapshot at once, so that the replica changes between two of them. */
export const BLOCK_BYTES = 300;
const SLICES = 3;
const MAX_SKEW_MS = 60_000;
const MAX_REMEMBERED = 1000;

/** Writes a snapshot, a few blocks at a time; the one before stands until the last. */
export function keepSnapshot(process: SimProcess, { blocks, rightWallMs }: KeepSnapshot): void {
  const { disk } = process.node;
  const done: Uint8Array[] = [];
  const before = heldOfOthers(process);
  const rest = blocks?.[Symbol.iterator]();
  const kept = (isKept: boolean) => process.input({ kind: "snapshotKept", isKept });
  /** What is thrown leaves the file before as it is. */
  const next = (): Uint8Array | "refused" | undefined => {
    try {
      const block = rest?.next();
      return block?.done === false ? block.value : undefined;
    } catch (error) {
      rethrowBroken(error);
      return "refused";
    }
  };
  const go = (): void => {
    if (process.isDiskFull) return kept(false);
    for (let n = 0; n < SLICES; n++) {
      const block = next();
      if (block === "refused") return kept(false);
      if (block === undefined) return written();
      done.push(Uint8Array.from(block));
    }
    process.afterDisk(go);
  };
  const written = (): void => {
    const bytes = rest === undefined ? disk.snapshot?.bytes : Buffer.concat(done);
    if (bytes !== undefined) disk.snapshot = { bytes, savedWallMs: rightWallMs };
    if (rest !== undefined) disk.saved = heldOfOthers(process).intersection(before);
    kept(true);
  };
  process.afterDisk(go);
}

/** Keys of the entries of others that a node holds. */
function heldOfOthers({ replica }: SimProcess): ReadonlySet<KeyText> {
  const others = [...replica.origins.values()].filter((origin) => origin !== replica.self && origin.lacks === undefined);
  return new Set(others.flatMap(({ log }) => log.list().flatMap(({ key, body }) => (body === BODY.ENTRY ? [key] : []))));
}

/** Brings back what the disk's snapshot holds; undefined when there is none of use. To be called after the rows are back. */
export function restoreWarm(process: SimProcess): WarmStart | undefined {
  const { node, replica, stamper, hlc } = process;
  const { snapshot } = node.disk;
  if (snapshot === undefined) return undefined;
  const parts = { replica, stamper, bounds: BOUNDS, hlc, maxClockSkewMs: MAX_SKEW_MS, clusterId: node.options.clusterId };
  const warm = runThrough(warmStart(snapshot, parts, process.time()));
  if (!warm.ok) throw new Error(`the snapshot of ${node.name} is broken: ${warm.fault}`);
  node.parts.trace.say(() => `${node.name} is back with ${warm.recordCount} records of ${warm.savedWallMs}`);
  return warm;
}

/** The members of its cluster that were on disk when a process starts. */
export function rememberedBy({ disk, identity }: SimNode): readonly string[] {
  return disk.roster === undefined ? [] : readRosterFile(disk.roster, identity, MAX_REMEMBERED);
}
