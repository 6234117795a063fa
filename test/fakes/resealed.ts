/** A snapshot that somebody changed and sealed again: whatever its blocks say, their checksums are right. */
import type { KIND } from "../../src/fabric/snapshot/codec.ts";
import { blockOf, readBlock } from "../../src/lib/file-blocks.ts";

export interface SnapshotBlock {
  readonly kind: number;
  readonly payload: Uint8Array;
}

/** A snapshot's blocks, changed and sealed again. */
export function resealed(bytes: Uint8Array, change: (blocks: readonly SnapshotBlock[]) => readonly SnapshotBlock[]): Uint8Array {
  const blocks: SnapshotBlock[] = [];
  for (let at = 0; at < bytes.length; ) {
    const block = readBlock(bytes, at, blocks.length);
    if (block === undefined) throw new Error(`no block at ${at}`);
    at = block.end;
    blocks.push({ kind: block.kind, payload: block.payload });
  }
  return Uint8Array.from(Buffer.concat(change(blocks).map(({ kind, payload }, index) => blockOf(index, kind, payload))));
}

/** Changes what the header, or each origin, says. */
export function saying(
  kind: typeof KIND.HEADER | typeof KIND.ORIGIN,
  more: Readonly<Record<string, unknown>>,
): (blocks: readonly SnapshotBlock[]) => readonly SnapshotBlock[] {
  return (blocks) =>
    blocks.map((block) => {
      if (block.kind !== kind) return block;
      const said = JSON.parse(new TextDecoder().decode(block.payload)) as object;
      return { kind, payload: new TextEncoder().encode(JSON.stringify({ ...said, ...more })) };
    });
}
