/** Comparisons of what is followed with the upstream: what changes is only noted while one runs (semantics.md, Resolver 20). */
import { expect, test } from "vitest";
import { NamespacePrefixes } from "../../src/catalog/query/prefixes.ts";
import { DigestRounds } from "../../src/resolver/maintenance/digest-rounds.ts";
import type { WatchOrder } from "../../src/resolver/watching/upstream-watches.ts";
import type { WatchedCatalog } from "../../src/resolver/watching/watched-catalog.ts";
import { FabricComponent } from "../fakes/mesh.ts";
import { at } from "../fakes/registry.ts";

const STREAM = 7;
const SVC = new NamespacePrefixes(["svc"]);

/** A comparison that has begun. */
function begun() {
  const followed: Pick<WatchedCatalog, "onTouch"> = { onTouch: undefined };
  const parts = {
    replica: new FabricComponent("me").replica,
    bookmarks: { isAtBookmark: true },
    followed,
    watches: { takeStream: () => STREAM, place: { text: "p" }, isComplete: () => true },
    policies: { policy: { epoch: "e" } },
    stamper: {},
    intervalMs: 1000,
    random: () => 0,
  };
  const rounds = new DigestRounds(parts as never, at(0));
  const out: WatchOrder[] = [];
  const adjust = (ms: number) => rounds.adjust("a", SVC, at(ms), out);
  for (let n = 0; n < 10 && out.length === 0; n++) adjust(n * 100);
  return { rounds, followed, out, adjust };
}

test.each<{ what: string; end: (of: ReturnType<typeof begun>) => void }>([
  { what: "its stream ended", end: ({ rounds }) => rounds.ended(STREAM) },
  { what: "the upstream is left", end: ({ rounds, out }) => rounds.leave(out) },
  { what: "nothing came for too long", end: ({ adjust }) => adjust(20_000) },
])("when a comparison is over no change is noted for it any more: $what", ({ end }) => {
  const of = begun();
  expect([of.out.map(({ kind }) => kind), typeof of.followed.onTouch]).toEqual([["open"], "function"]);
  end(of);
  expect(of.followed.onTouch).toBeUndefined();
});
