/** What becomes of the states of origins over a restart, and in the first tables of members after it (semantics.md, Orphans). */
import { expect, test } from "vitest";
import type { Replica } from "../../src/catalog/replica/replica.ts";
import type { FabricOutput } from "../../src/fabric/io-types.ts";
import type { OriginLifecycleParts } from "../../src/fabric/origin-lifecycle.ts";
import { OriginLifecycle } from "../../src/fabric/origin-lifecycle.ts";
import type { MemberUpdate } from "../../src/fabric/wire/messages.ts";
import { updateOf } from "../fakes/fabric-values.ts";
import { timeOf } from "../fakes/history.ts";
import { FabricComponent, KEYS } from "../fakes/mesh.ts";
import { lifecycleParts, ORIGIN_LIFECYCLE_OPTIONS } from "../fakes/options.ts";

/** What n1 holds of a key of each of the others. */
function replicaWith(...nodeIds: readonly string[]): Replica {
  const n1 = new FabricComponent("n1");
  for (const [i, nodeId] of nodeIds.entries()) {
    const node = new FabricComponent(nodeId);
    node.put(KEYS[i]!, 0, timeOf(0, 0));
    node.commit(timeOf(0, 0));
    n1.copy(node, node.replica.self.id, timeOf(0, 0));
  }
  return n1.replica;
}

function livesOf(replica: Replica, more: Partial<OriginLifecycleParts> = {}): OriginLifecycle {
  return new OriginLifecycle(ORIGIN_LIFECYCLE_OPTIONS, { ...lifecycleParts(replica), ...more });
}

test("clocks of origins that were away before a restart go on; those of others begin with it", () => {
  const replica = replicaWith("n2", "n3");
  const lifecycle = livesOf(replica);
  const start = { monoMs: 1000, wallMs: 1_000_000 };
  lifecycle.resume(new Map([["n2/1", start.monoMs - ORIGIN_LIFECYCLE_OPTIONS.orphanGraceMs]]), new Set(), start.monoMs);
  lifecycle.look(start, []);
  expect([...replica.origins.values()].map(({ id, life }) => [id, life])).toEqual([
    ["n1/1", "live"],
    ["n2/1", "hidden"],
    ["n3/1", "orphaned"],
  ]);
  const since = [...replica.origins.values()].map((origin) => lifecycle.standingOf(origin, start).absentWallMs);
  expect(since).toEqual([undefined, start.wallMs - ORIGIN_LIFECYCLE_OPTIONS.orphanGraceMs, start.wallMs]);
  lifecycle.look(
    { monoMs: start.monoMs + ORIGIN_LIFECYCLE_OPTIONS.originForgetMs - ORIGIN_LIFECYCLE_OPTIONS.orphanGraceMs, wallMs: 0 },
    [],
  );
  expect([...replica.forgotten.keys()]).toEqual(["n2/1"]);
});

test("what others hide a newcomer does not show for another grace, and forgets no sooner for it", () => {
  const replica = replicaWith("n2", "n3");
  const parts = lifecycleParts(replica);
  parts.replication.hiddenElsewhere.add("n2/1");
  const lifecycle = livesOf(replica, parts);
  lifecycle.look({ monoMs: 1000, wallMs: 0 }, []);
  expect([...replica.origins.values()].map(({ id, life }) => [id, life])).toEqual([
    ["n1/1", "live"],
    ["n2/1", "hidden"],
    ["n3/1", "orphaned"],
  ]);
  lifecycle.look({ monoMs: 1000 + ORIGIN_LIFECYCLE_OPTIONS.originForgetMs - ORIGIN_LIFECYCLE_OPTIONS.orphanGraceMs - 1, wallMs: 0 }, []);
  expect([...replica.forgotten.keys()]).toEqual([]);
});

test("an origin back from the snapshot is live until a table of members says otherwise, or for a short while", () => {
  const replica = replicaWith("n2", "n3", "n4");
  const known = new Map<string, MemberUpdate>();
  const lifecycle = livesOf(
    replica,
    lifecycleParts(replica, (nodeId) => known.get(nodeId)),
  );
  const shown = () => [...replica.origins.values()].map(({ id, life }) => `${id} ${life}`);
  const names = (outputs: readonly FabricOutput[]) =>
    outputs
      .flatMap((output) => (output.kind === "event" ? [output.event] : []))
      .map(({ name, detail }) => `${name} ${detail["nodeId"]} ${detail["why"]}`);
  const start = { monoMs: 1000, wallMs: 1_000_000 };
  lifecycle.resume(new Map([["n2/1", start.monoMs]]), new Set(), start.monoMs + 5000);
  const outputs: FabricOutput[] = [];
  lifecycle.look(start, outputs);
  expect(shown()).toEqual(["n1/1 live", "n2/1 orphaned", "n3/1 live", "n4/1 live"]);
  expect(lifecycle.isAnybodyAway).toBe(true);
  // News of one member is no table: the others may still be in it.
  known.set("n3", updateOf("n3", { status: "dead" }));
  lifecycle.memberChanged(updateOf("n3"));
  lifecycle.look({ ...start, monoMs: 2000 }, outputs);
  expect(shown()).toEqual(["n1/1 live", "n2/1 orphaned", "n3/1 orphaned", "n4/1 live"]);
  expect(lifecycle.nextDeadlineMs()).toBe(6000);
  lifecycle.look({ ...start, monoMs: 5999 }, outputs);
  expect(shown()[3]).toBe("n4/1 live");
  lifecycle.look({ ...start, monoMs: 6000 }, outputs);
  expect(shown()[3]).toBe("n4/1 orphaned");
  expect(names(outputs)).toEqual(["origin_orphaned n3 dead", "origin_orphaned n4 unknown"]);
});

test("when the first table has come, whoever is dead in it or not in it is away, and has not vanished now", () => {
  const replica = replicaWith("n2", "n3", "n4");
  const known = new Map<string, MemberUpdate>();
  const membership = {
    find: (nodeId: string) => known.get(nodeId),
    get hasJoined() {
      return known.size > 0;
    },
  };
  const lifecycle = livesOf(replica, { membership });
  lifecycle.resume(new Map(), new Set(), 10_000);
  lifecycle.look({ monoMs: 1000, wallMs: 0 }, []);
  expect(lifecycle.counts()).toEqual({ live: 3, orphaned: 0, hidden: 0, kept: 0 });
  for (const nodeId of ["n2", "n3"]) known.set(nodeId, updateOf(nodeId, { status: "dead" }));
  lifecycle.memberChanged(updateOf("n2", { status: "dead" }));
  lifecycle.look({ monoMs: 2000, wallMs: 0 }, []);
  expect(lifecycle.counts()).toEqual({ live: 0, orphaned: 3, hidden: 0, kept: 0 });
  expect(lifecycle.protectedClusters()).toEqual([]);
});

test("an origin whose node had left before the restart is over: it may not be written elsewhere, and nobody is waited for", () => {
  const replica = replicaWith("n2", "n3");
  const lifecycle = livesOf(replica);
  const origins = [...replica.origins.values()].filter((origin) => origin !== replica.self);
  lifecycle.resume(new Map(), new Set(["n2/1", "n3/1"]), 5000);
  expect(lifecycle.isAnybodyElsewhere).toBe(false);
  lifecycle.look({ monoMs: 1000, wallMs: 0 }, []);
  expect([origins.map((origin) => lifecycle.isOver(origin)), lifecycle.isAnybodyElsewhere, lifecycle.isAnybodyAway]).toEqual([
    [true, true],
    false,
    false,
  ]);
});

test("one that may be written elsewhere counts until it is forgotten", () => {
  const replica = replicaWith("n2");
  const lifecycle = livesOf(replica);
  lifecycle.resume(new Map([["n2/1", 0]]), new Set(), 0);
  lifecycle.look({ monoMs: 1000, wallMs: 0 }, []);
  expect([lifecycle.isAnybodyElsewhere, lifecycle.isAnybodyAway]).toEqual([true, true]);
  const forgetAt = { monoMs: ORIGIN_LIFECYCLE_OPTIONS.originForgetMs, wallMs: 0 };
  // It is hidden first.
  do lifecycle.look(forgetAt, []);
  while (lifecycle.nextDeadlineMs() === 0);
  expect([[...replica.forgotten.keys()], lifecycle.isAnybodyElsewhere, lifecycle.isAnybodyAway]).toEqual([["n2/1"], false, false]);
});
