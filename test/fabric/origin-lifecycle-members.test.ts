/** The lifecycle of origins upon a replica and a table of members. */
import { expect, test } from "vitest";
import { Membership } from "../../src/fabric/membership/membership.ts";
import { OriginLifecycle } from "../../src/fabric/origin-lifecycle.ts";
import type { MemberStatus, MemberUpdate } from "../../src/fabric/wire/messages.ts";
import { Rng } from "../../src/lib/rng.ts";
import { updateOf } from "../fakes/fabric-values.ts";
import { lifecycleParts, MEMBERSHIP_OPTIONS, ORIGIN_LIFECYCLE_OPTIONS } from "../fakes/options.ts";
import { ReplicatingNode } from "../fakes/replication.ts";

test("a dead origin is forgotten with its number in the vector, and is lost until its node is back", () => {
  const { replica, shared } = new ReplicatingNode({ nodeId: "a" });
  const membership = new Membership(updateOf("a"), new Rng("lives"), MEMBERSHIP_OPTIONS);
  const parts = { replica, clusterId: "c1", membership, replication: shared, maxMembers: 10 };
  const lifecycle = new OriginLifecycle(ORIGIN_LIFECYCLE_OPTIONS, parts);
  const origin = replica.origin("x", 1, { clusterId: "c1", region: "r1" });
  origin.through = 7;
  shared.noteOrigin(origin);
  lifecycle.look({ monoMs: 0, wallMs: 0 }, []);
  lifecycle.look({ monoMs: ORIGIN_LIFECYCLE_OPTIONS.originForgetMs, wallMs: 0 }, []);
  expect([replica.origins.has("x/1"), shared.vector.find("x/1")?.seq]).toEqual([false, 0]);
  expect(replica.lost.list).toEqual([{ nodeId: "x", generation: 1, through: 7, mark: 0 }]);
  lifecycle.memberChanged(updateOf("x"));
  replica.lost.settle();
  expect([replica.forgotten.has("x/1"), replica.lost.list]).toEqual([false, []]);
});

test("other nodes that join in place of dead ones end the protection, though none of these is back", () => {
  const { replica } = new ReplicatingNode({ nodeId: "me" });
  const members = new Map<string, MemberUpdate>();
  const lifecycle = new OriginLifecycle(
    ORIGIN_LIFECYCLE_OPTIONS,
    lifecycleParts(replica, (nodeId) => members.get(nodeId)),
  );
  const say = (status: MemberStatus, ...nodeIds: readonly string[]) => {
    for (const nodeId of nodeIds) {
      replica.origin(nodeId, 1, { clusterId: "c1", region: "r1" });
      members.set(nodeId, updateOf(nodeId, { status }));
      lifecycle.memberChanged(updateOf(nodeId, { status }));
    }
    lifecycle.look({ monoMs: 0, wallMs: 0 }, []);
    return lifecycle.protectedClusters();
  };
  say("alive", "a", "b", "c", "d");
  expect([say("dead", "a", "b", "c", "d"), say("alive", "e"), say("alive", "f")]).toEqual([["c1"], ["c1"], []]);
  expect(lifecycle.counts()).toMatchObject({ live: 2, orphaned: 4, hidden: 0 });
});
