/** When a resolver's bookmarks come: where there is a cursor that is good everywhere, if that is a little before or after they are due. */
import { expect, test } from "vitest";
import { ANY } from "../../../src/catalog/query/filter.ts";
import { WatchFeed } from "../../../src/catalog/watch/feed.ts";
import { WatchReader } from "../../../src/catalog/watch/reader.ts";
import { timeOf } from "../../fakes/history.ts";
import { FabricComponent, KEYS } from "../../fakes/mesh.ts";

const AMPLE = 100_000;
const at = (ms: number) => timeOf(ms / 10, 0);

/** A watch at a resolver that was told all there is, and had its first bookmark at 0 s. `isAtPlace`: whether the resolver is at a bookmark of its upstream. */
function settled(bookmarkIntervalMs: number) {
  const node = new FabricComponent("a");
  node.put(KEYS[0]!, 1, at(0));
  node.commit(at(0));
  const place = { isAtPlace: true };
  const options = {
    filter: ANY,
    name: "w",
    hash: "h",
    allowed: () => true,
    policyEpoch: () => "e",
    isNamesOnly: false,
    withDigest: false,
    portableCursor: () => (place.isAtPlace ? "good everywhere" : ""),
    isAtPlace: () => place.isAtPlace,
  };
  const feed = new WatchFeed(new WatchReader(options, node.replica, node.facts), { from: undefined, bookmarkIntervalMs }, at(0));
  const bookmarkAt = (ms: number): string | undefined => {
    const said = feed.next(at(ms), AMPLE, true);
    return said?.isBookmark === true ? said.portableCursor : undefined;
  };
  while (feed.next(at(0), AMPLE, true) !== undefined);
  return { place, bookmarkAt };
}

test.each([
  { intervalMs: 1000, earlyMs: 500 },
  { intervalMs: 400, earlyMs: 200 },
  { intervalMs: 60_000, earlyMs: 500 },
])(
  "with a bookmark each $intervalMs ms it comes up to $earlyMs ms early where its cursor is good everywhere",
  ({ intervalMs, earlyMs }) => {
    const { bookmarkAt } = settled(intervalMs);
    expect(bookmarkAt(intervalMs - earlyMs - 1)).toBeUndefined();
    expect(bookmarkAt(intervalMs - earlyMs)).toBe("good everywhere");
  },
);

test("elsewhere it waits for such a cursor up to 1.25 s, and then comes without one", () => {
  const { place, bookmarkAt } = settled(1000);
  place.isAtPlace = false;
  expect([bookmarkAt(1000), bookmarkAt(2249)]).toEqual([undefined, undefined]);
  expect(bookmarkAt(2250)).toBe("");
  expect(bookmarkAt(3250)).toBeUndefined();
  place.isAtPlace = true;
  expect(bookmarkAt(3251)).toBe("good everywhere");
});
