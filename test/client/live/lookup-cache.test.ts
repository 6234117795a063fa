import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { EntryKind, EntrySchema, HealthStatus } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { LookupCache } from "../../../src/client/live/lookup-cache.ts";

const at = (monoMs: number) => ({ monoMs, wallMs: 0 });
const nameOf = (name: string) => ({ namespace: "svc", name, kind: EntryKind.SERVICE });
const WEB = nameOf("web");
const entries = (name: string, ...ids: readonly string[]) =>
  ids.map((instanceId) => create(EntrySchema, { key: { ...nameOf(name), instanceId }, health: HealthStatus.HEALTHY }));

const lookups = (maxNames = 10) => new LookupCache({ ttlMs: 5000, maxNames, time: at(0) });
const shown = (of: LookupCache, name = WEB) =>
  [...(of.found(name)?.entries() ?? [])].map(({ key, health }) => `${key?.instanceId ?? ""} ${HealthStatus[health]}`);

test("an answer has its age, an empty one too; a name that was not asked for is a miss", () => {
  const all = lookups();
  all.take(WEB, { items: entries("web", "1") }, at(0));
  all.take(nameOf("nobody"), { items: [] }, at(1000));
  const states = (ms: number) => ["web", "nobody", "other"].map((name) => all.state(nameOf(name), at(ms)));
  expect([states(4999), states(5000), states(15_000)]).toEqual([
    ["fresh", "fresh", "miss"],
    ["stale", "fresh", "miss"],
    ["miss", "stale", "miss"],
  ]);
  // What is known stays known, however old it is.
  expect([all.isKnown(WEB), all.isKnown(nameOf("other"))]).toEqual([true, false]);
});

test("a new answer replaces the old one, and holds what vanished with most others", () => {
  const all = lookups();
  all.take(WEB, { items: entries("web", "1", "2", "3", "4") }, at(0));
  all.take(WEB, { items: entries("web", "2", "3", "4", "5") }, at(6000));
  expect(shown(all).toSorted()).toEqual(["2 HEALTHY", "3 HEALTHY", "4 HEALTHY", "5 HEALTHY"]);
  all.take(WEB, { items: [] }, at(7000));
  expect(shown(all).toSorted()).toEqual(["1 ORPHANED", "2 ORPHANED", "3 ORPHANED", "4 ORPHANED", "5 ORPHANED"]);
  all.take(WEB, { items: [] }, at(400_000));
  expect(shown(all)).toEqual([]);
});

test("names are bounded: the one used longest ago goes first, with its entries", () => {
  const all = lookups(2);
  all.take(nameOf("a"), { items: entries("a", "1", "2", "3") }, at(0));
  all.take(nameOf("b"), { items: entries("b", "1") }, at(1));
  all.state(nameOf("a"), at(2));
  all.take(nameOf("c"), { items: entries("c", "1") }, at(3));
  expect([all.size, all.isKnown(nameOf("b")), shown(all, nameOf("b")), shown(all, nameOf("a")).length]).toEqual([2, false, [], 3]);
});

test("what goes to make room is held for nobody, however much it is of all that is here", () => {
  const all = lookups(1);
  all.take(WEB, { items: entries("web", "1", "2", "3", "4", "5") }, at(0));
  all.take(nameOf("a"), { items: entries("a", "1") }, at(1));
  expect([shown(all), shown(all, nameOf("a"))]).toEqual([[], ["1 HEALTHY"]]);
});
