/** The bookmarks of an upstream on which nothing happens: readers go on from each of them (semantics.md, Resolver 7). */
import { expect, test } from "vitest";
import { ANY } from "../../../src/catalog/query/filter.ts";
import { type PortableCursor, parseCursor } from "../../../src/catalog/watch/cursor.ts";
import { WatchReader } from "../../../src/catalog/watch/reader.ts";
import { WatchBookmarks } from "../../../src/resolver/watching/bookmarks.ts";
import { timeOf } from "../../fakes/history.ts";
import { FabricComponent } from "../../fakes/mesh.ts";

const T = timeOf(0, 0);

function cursorOf(seq: number): PortableCursor {
  return {
    kind: "portable",
    clusterId: "c1",
    readerHash: "h",
    policyEpoch: "e",
    origins: [{ nodeId: "a", generation: 1, seq, life: "live" }],
  };
}

test("while nothing changes the first and the last bookmark are kept, for the readers that come and for those that go", () => {
  const { replica, facts } = new FabricComponent("resolver");
  const bookmarks = new WatchBookmarks(replica);
  const options = { filter: ANY, name: "r", hash: "h", allowed: () => true, policyEpoch: () => "e", isNamesOnly: false, withDigest: false };
  const reader = new WatchReader(options, replica, facts);
  for (const seq of [1, 2, 3, 4]) bookmarks.note(cursorOf(seq));
  const isToldFrom = (seq: number) => bookmarks.gap(cursorOf(seq), reader, T).isTellable();
  expect([0, 1, 2, 4].map(isToldFrom)).toEqual([false, true, true, true]);
  const given = parseCursor(bookmarks.portableCursor("h", "e"));
  expect(given.kind === "portable" && given.origins).toEqual(cursorOf(4).origins);
});
