/** Changes that are lost between an upstream and a resolver, though the stream goes on as if nothing were: a bug or a broken middlebox. */
import { CATALOG_WATCH_RESPONSE_TAG as WATCH } from "../../../gen/waymark/discovery/v1/discovery_tags.ts";
import { WireReader } from "../../../src/lib/protowire.ts";

/** A message of a watch without one of its deltas; undefined if it has none. What it keeps stays as it was encoded. */
export function withoutDelta(bytes: Uint8Array, pick: (count: number) => number | undefined): Uint8Array | undefined {
  const reader = new WireReader(bytes);
  const deltas: { readonly start: number; readonly end: number }[] = [];
  while (!reader.isDone()) {
    const start = reader.at;
    const tag = reader.tag();
    reader.skip(tag);
    if (tag === WATCH.deltas) deltas.push({ start, end: reader.at });
  }
  const lost = deltas[pick(deltas.length) ?? deltas.length];
  return lost && Uint8Array.from([...bytes.subarray(0, lost.start), ...bytes.subarray(lost.end)]);
}
