/** From where a watch goes on at the next upstream (semantics.md, Resolver 14). */
import { expect, test } from "vitest";
import { NamespacePrefixes } from "../../src/catalog/query/prefixes.ts";
import { UpstreamWatch } from "../../src/resolver/watching/watched-catalog.ts";

const PLACE = { text: "place", cursor: { kind: "portable", clusterId: "c1", readerHash: "", policyEpoch: "", origins: [] } } as const;
const [ALL, PART] = [new NamespacePrefixes(["svc", "other"]), new NamespacePrefixes(["svc"])];

/** The cursor with which it goes on at another upstream. */
function movedBy(change: (watch: UpstreamWatch) => UpstreamWatch): string {
  const watch = new UpstreamWatch(ALL);
  Object.assign(watch, { place: PLACE, isPlaced: true, isComplete: true });
  const changed = change(watch);
  changed.lose();
  return changed.move();
}

test.each<{ what: string; cursor: string; change: (watch: UpstreamWatch) => UpstreamWatch }>([
  { what: "holds what its place says", cursor: "place", change: (watch) => watch },
  { what: "holds that of fewer namespaces", cursor: "place", change: (watch) => watch.narrowed(PART) },
  { what: "holds more than at its place", cursor: "", change: (watch) => Object.assign(watch, { isAheadOfCheckpoint: true }) },
  {
    what: "holds more, of fewer namespaces",
    cursor: "",
    change: (watch) => Object.assign(watch, { isAheadOfCheckpoint: true }).narrowed(PART),
  },
  {
    what: "lost the watch that fetched a part of it again",
    cursor: "",
    change: (watch) => {
      watch.pause(PART);
      watch.resume();
      return watch;
    },
  },
])("one that $what goes on elsewhere from $cursor", ({ cursor, change }) => {
  expect(movedBy(change)).toBe(cursor);
});
