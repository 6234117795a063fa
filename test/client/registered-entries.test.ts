/** What a handle keeps registered: which report counts, and what a server must be told of an update. */
import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { type Entry, EntrySchema, HealthStatus } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { EntryReportSchema } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { RegisteredEntries } from "../../src/client/registered-entries.ts";

const { CRITICAL, DEGRADED, HEALTHY } = HealthStatus;

function entry(instanceId: string, said: { health?: HealthStatus; activeClients?: number; tags?: string[] } = {}): Entry {
  const { health, activeClients, tags = [] } = said;
  const key = { namespace: "svc", name: "web", instanceId };
  return create(EntrySchema, { key, tags, ...(health && { health }), ...(activeClients !== undefined && { load: { activeClients } }) });
}

const report = (health?: HealthStatus, activeClients?: number) =>
  create(EntryReportSchema, { ...(health && { health }), ...(activeClients !== undefined && { load: { activeClients } }) });

type Spoken = Pick<Entry, "key"> & Partial<Pick<Entry, "health" | "load">>;
const words = (all: readonly Spoken[]) =>
  all.map(({ key, health = 0, load }) => `${key?.instanceId ?? ""} ${HealthStatus[health]} ${load?.activeClients ?? "-"}`);
const ids = (all: readonly { readonly instanceId: string }[]) => all.map(({ instanceId }) => instanceId);

/** Entries 1 and 2, of which a server has taken that they are degraded and have 5 clients. */
function reported(): RegisteredEntries {
  const kept = new RegisteredEntries([entry("1"), entry("2")]);
  kept.note(report(DEGRADED, 5), undefined, []);
  kept.registration();
  kept.taken();
  return kept;
}

test("entries of an update that say no health and no load keep the last ones, and others say their own", () => {
  const merged = reported().merged([entry("1"), entry("2", { health: HEALTHY, activeClients: 0 }), entry("3")]);
  expect(words(merged)).toEqual(["1 DEGRADED 5", "2 HEALTHY 0", "3 UNSPECIFIED -"]);
});

test("what an update says is newer than a report that was not told yet; what it does not say is still to be told", () => {
  const kept = reported();
  kept.note(report(CRITICAL, 7), undefined, []);
  kept.supersedes([entry("1", { health: HEALTHY }), entry("2", { activeClients: 0 })]);
  expect(words(kept.reports())).toEqual(["1 UNSPECIFIED 7", "2 CRITICAL -"]);
});

test("a report is newer than the updates that wait, also when it says what was reported before them", () => {
  const kept = reported();
  const waiting = [entry("1", { health: HEALTHY, activeClients: 1 }), entry("3"), entry("3", { health: HEALTHY })];
  expect(kept.note(report(DEGRADED, 9), undefined, waiting)).toBe(true);
  expect(words(waiting)).toEqual(["1 DEGRADED 9", "3 UNSPECIFIED -", "3 DEGRADED -"]);
  // The update may be on its way: the report follows it.
  expect(words(kept.reports())).toEqual(["1 DEGRADED 9", "2 UNSPECIFIED 9"]);
  kept.replace([entry("3")]);
  expect([kept.hasNewHealth, words(kept.registration())]).toEqual([true, ["3 DEGRADED 9"]]);
});

test("a health is new once, by instance, and only where it is kept or waits", () => {
  const kept = reported();
  expect([kept.note(report(DEGRADED), undefined, []), kept.note(report(undefined, 6), undefined, [])]).toEqual([false, false]);
  expect([kept.note(report(CRITICAL), "1", []), kept.note(report(CRITICAL), "1", [])]).toEqual([true, false]);
  expect([kept.note(report(CRITICAL), "9", []), kept.note(report(CRITICAL), "9", [entry("9")])]).toEqual([false, true]);
  // An update that says no health leaves it is, so the same health is nothing new.
  expect(kept.note(report(DEGRADED), "2", [entry("2")])).toBe(false);
  kept.prune([]);
  kept.replace([entry("9")]);
  expect(kept.hasNewHealth).toBe(false);
});

test("a health that is being told is the last one: the one before it is new again, though the server may not have answered yet", () => {
  const kept = reported();
  kept.note(report(CRITICAL), "1", []);
  expect(words(kept.reports())).toEqual(["1 CRITICAL -"]);
  expect([kept.note(report(CRITICAL), "1", []), kept.note(report(DEGRADED), "1", [])]).toEqual([false, true]);
  kept.taken();
  expect(words(kept.reports())).toEqual(["1 DEGRADED -"]);
});

test("a report that no server took is told again, except what is newer by now", () => {
  const kept = reported();
  kept.note(report(CRITICAL, 7), "1", []);
  kept.reports();
  kept.note(report(HEALTHY), "1", []);
  kept.returned();
  expect(words(kept.reports())).toEqual(["1 HEALTHY 7"]);
  kept.refused();
  expect(kept.reports()).toEqual([]);
});

test("a server is told what is new or changed, and then what is to be removed", () => {
  const kept = reported();
  const merged = kept.merged([entry("1"), entry("2", { tags: ["x"] }), entry("3")]);
  expect(words(kept.toPut(merged))).toEqual(["2 DEGRADED 5", "3 UNSPECIFIED -"]);
  expect(kept.isInDoubt).toBe(false);
  kept.replace(merged);
  expect([kept.isInDoubt, words(kept.list).length]).toEqual([false, 3]);
  kept.replace(kept.merged([entry("3")]));
  expect([ids(kept.left), kept.isInDoubt]).toEqual([["1", "2"], true]);
  // One that comes back before it is removed must not be removed then.
  kept.replace(kept.merged([entry("3"), entry("1")]));
  expect(ids(kept.left)).toEqual(["2"]);
  kept.removed();
  expect(kept.isInDoubt).toBe(false);
});

test("what a server may have taken is put as it was, or removed; a new lease has none of it", () => {
  const kept = reported();
  kept.mayHavePut([entry("2", { tags: ["x"] }), entry("3")]);
  expect(kept.isInDoubt).toBe(true);
  const before = kept.merged(kept.list);
  expect(words(kept.toPut(before))).toEqual(["2 DEGRADED 5"]);
  kept.replace(before);
  expect([ids(kept.left), kept.toPut(before)]).toEqual([["3"], []]);
  kept.mayHavePut([entry("4")]);
  kept.withoutDoubt();
  expect([kept.left, kept.isInDoubt]).toEqual([[], false]);
});
