/** A key that a snapshot removes is doubted like a key that a message removes, until there is a cursor after the snapshot (semantics.md, Resolver 6). */
import { expect, test } from "vitest";
import { EntryStamper } from "../../../src/catalog/entry/codec.ts";
import { PROTOCOL_BOUNDS } from "../../../src/catalog/entry/names.ts";
import { EntryIndex } from "../../../src/catalog/query/entry-index.ts";
import { NamespacePrefixes } from "../../../src/catalog/query/prefixes.ts";
import { Slab } from "../../../src/catalog/record/slab.ts";
import { TraitsPool } from "../../../src/catalog/record/traits.ts";
import { Replica } from "../../../src/catalog/replica/replica.ts";
import type { PortableCursor } from "../../../src/catalog/watch/cursor.ts";
import { SNAPSHOT } from "../../../src/catalog/watch/reader.ts";
import type { UpstreamWatchMessage } from "../../../src/resolver/codec.ts";
import { WatchBookmarks } from "../../../src/resolver/watching/bookmarks.ts";
import { UpstreamWatch, WatchedCatalog } from "../../../src/resolver/watching/watched-catalog.ts";
import { timeOf } from "../../fakes/history.ts";
import { FabricComponent, KEYS } from "../../fakes/mesh.ts";
import { NOBODY } from "../../fakes/resolvers.ts";

const NOW = timeOf(0, 0);
const CURSOR: PortableCursor = {
  kind: "portable",
  clusterId: "c1",
  readerHash: "resolver",
  policyEpoch: "e0",
  origins: [{ nodeId: "a", generation: 1, seq: 1, life: "live" }],
};
const PLACE = { text: "cursor", cursor: CURSOR };
const MESSAGE: UpstreamWatchMessage = {
  deltas: [],
  snapshot: SNAPSHOT.NONE,
  replaces: [],
  place: undefined,
  ageMs: 0,
  isStale: false,
  servedBy: "a",
  policyEpoch: "e0",
  via: [],
  digest: undefined,
};

test("the watch begins again when a key was absent from a snapshot without a cursor, and the next upstream does not send the key", () => {
  const node = new FabricComponent("a");
  const { at, sizeBytes, seq } = node.put(KEYS[0]!, 1, NOW);
  const entry = Uint8Array.from(node.replica.slab.view(at, sizeBytes));
  const bounds = { nodeId: "me", generation: 1, lastSeq: 0, floor: 0, tombstoneTtlMs: 1000, minTombstones: 4 };
  const replica = new Replica(new EntryIndex(), new Slab(), bounds);
  const stamper = new EntryStamper({ bounds: PROTOCOL_BOUNDS, traits: new TraitsPool() });
  const followed = new WatchedCatalog({ replica, bookmarks: new WatchBookmarks(replica), stamper, onChange: NOBODY, onTold: NOBODY });
  const watch = new UpstreamWatch(new NamespacePrefixes([""]));
  const hear = (message: Partial<UpstreamWatchMessage>) => followed.hear(watch, { ...MESSAGE, ...message }, NOW);

  hear({ snapshot: SNAPSHOT.BEGIN, deltas: [{ nodeId: "a", generation: 1, seq, change: { entry } }] });
  hear({ snapshot: SNAPSHOT.END, place: PLACE });
  expect(watch.move()).toBe(PLACE.text);
  // The next upstream is a resolver between bookmarks: it has no cursor, and does not have the entry.
  hear({ snapshot: SNAPSHOT.BEGIN });
  hear({ snapshot: SNAPSHOT.END });
  expect(followed.entryCount).toBe(0);
  expect(watch.move()).toBe(PLACE.text);
  // The third upstream is a node with the entry, which is not after the cursor.
  hear({ place: PLACE });
  expect(watch.isDoubtful).toBe(true);
  expect(watch.move()).toBe("");
});
