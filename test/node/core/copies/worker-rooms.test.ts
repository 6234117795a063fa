/** The rooms of a read worker, as they are built for its thread: they answer as those of its node, and tell it of denials and refusals. */
import { expect, test } from "vitest";
import { Leases } from "../../../../src/catalog/leases.ts";
import { ANY } from "../../../../src/catalog/query/filter.ts";
import { Metrics } from "../../../../src/lib/metrics/metrics.ts";
import { openCopyFeed } from "../../../../src/node/core/copies/copy-feed.ts";
import { openCopyRooms } from "../../../../src/node/core/copies/copy-rooms.ts";
import { openRooms } from "../../../../src/node/core/rooms.ts";
import type { AuditEvent } from "../../../../src/policy/audit/record.ts";
import { HISTORY_BOUNDS } from "../../../../src/policy/versions/engine.ts";
import { SETTINGS } from "../../../fakes/options.ts";
import { at, caller, command, stamped } from "../../../fakes/registry.ts";
import { ALL_TIME_COUNTS } from "../../../fakes/stall-clock.ts";

const QUERY = { filter: { ...ANY, namespace: "svc" }, limit: 10, token: "", isExplained: false, salt: "" };

test("a worker's rooms answer what their node's do, and its audit hears what they refuse", () => {
  const chance = { leases: new Leases(1), newGeneration: () => 77, newToken: () => "token", random: () => 0.5, onAgain: () => {} };
  const clock = { now: () => at(0), stallClock: ALL_TIME_COUNTS };
  const given = { settings: SETTINGS, version: "1", history: HISTORY_BOUNDS, metrics: new Metrics(), audit: undefined, isMarked: false };
  const disk = { nodeId: "a", generation: 1, lastSeq: 0, floor: 0, leases: [], boot: "b1" };
  const node = openRooms(disk, { ...given, ...chance, ...clock }, at(0)).finish().rooms;
  const feed = openCopyFeed(node, () => {});
  const events: AuditEvent[] = [];
  const metrics = new Metrics();
  const { copy, reads, replica, limits, accessLog } = openCopyRooms({
    settings: SETTINGS,
    version: "1",
    startedMonoMs: 0,
    ...disk,
    metrics,
    audit: { record: (event) => void events.push(event) },
    now: clock.now,
    onAgain: () => {},
  });
  node.registrar.register(caller("ann"), command([stamped("web")], { isStatic: true }), at(0));
  const batch = node.registrar.takeBatch();
  if (batch === undefined) throw new Error("nothing is written");
  node.registrar.commit(batch, at(0));
  copy.apply(feed.take(100));
  const [there, here] = [node.reads.page(caller("ann"), QUERY), reads.page(caller("ann"), QUERY)];
  expect(here.records.map(({ key }) => key)).toEqual(there.records.map(({ key }) => key));
  expect(here.records.length).toBe(1);
  expect([reads.node.boot, replica.revision]).toEqual([node.reads.node.boot, node.replica.revision]);

  const verdict = { allowed: false, reason: "viewer_denied", rule: "svc", untilWallMs: undefined } as const;
  accessLog.onDenied(caller("ann"), {
    action: "query",
    namespace: "svc",
    verdict,
  });
  limits.note({ caller: caller("bob"), action: "read", namespace: "", reason: "rate_limited", detail: "too many" });
  limits.close();
  expect(events.map(({ principal, reason }) => `${principal} ${reason}`)).toEqual(["ann viewer_denied", "bob rate_limited"]);
  expect(metrics.counter("discovery_policy_denials_total", { action: "query", reason: "viewer_denied" }).value).toBe(1);
});
