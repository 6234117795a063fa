/** What lives and freshness rest on in a fabric. */
import { expect, test } from "vitest";
import { makeFreshness, makeLives } from "../../src/fabric/life-parts.ts";
import { Lives } from "../../src/fabric/lives.ts";
import { LIVES_DEFAULTS } from "../../src/fabric/lives-options.ts";
import { Membership } from "../../src/fabric/membership.ts";
import type { MemberStatus, MemberUpdate } from "../../src/fabric/messages.ts";
import { Rng } from "../../src/lib/rng.ts";
import { updateOf } from "../fakes/fabric-values.ts";
import { ReplicatingNode } from "../fakes/replication.ts";

test("a dead origin is forgotten with its number in the vector, and is lost until its node is back", () => {
  const { replica, shared } = new ReplicatingNode({ nodeId: "a" });
  const membership = new Membership(updateOf("a"), new Rng("lives"));
  const parts = { replica, clusterId: "c1", membership, replication: shared };
  const lives = makeLives(LIVES_DEFAULTS, parts);
  const origin = replica.origin("x", 1, { clusterId: "c1", region: "r1" });
  origin.through = 7;
  shared.noteOrigin(origin);
  lives.tick({ monoMs: 0, wallMs: 0 }, []);
  lives.tick({ monoMs: LIVES_DEFAULTS.originForgetMs, wallMs: 0 }, []);
  expect([replica.origins.has("x/1"), shared.vector.find("x/1")?.seq]).toEqual([false, 0]);
  expect(replica.lost.list).toEqual([{ nodeId: "x", generation: 1, through: 7, mark: 0 }]);
  lives.memberChanged(updateOf("x"));
  replica.lost.settle();
  expect([replica.forgotten.has("x/1"), replica.lost.list]).toEqual([false, []]);
});

test("other nodes that join in place of dead ones end the protection, though none of these is back", () => {
  const { replica } = new ReplicatingNode({ nodeId: "me" });
  const members = new Map<string, MemberUpdate>();
  const findMember = (nodeId: string) => members.get(nodeId);
  const lives = new Lives(LIVES_DEFAULTS, {
    replica,
    clusterId: "c1",
    findMember,
    forgetOrigin: () => undefined,
    readmit: () => undefined,
  });
  const say = (status: MemberStatus, ...nodeIds: readonly string[]) => {
    for (const nodeId of nodeIds) {
      replica.origin(nodeId, 1, { clusterId: "c1", region: "r1" });
      members.set(nodeId, updateOf(nodeId, { status }));
      lives.memberChanged(updateOf(nodeId, { status }));
    }
    lives.tick({ monoMs: 0, wallMs: 0 }, []);
    return lives.protectedClusters();
  };
  say("alive", "a", "b", "c", "d");
  expect([say("dead", "a", "b", "c", "d"), say("alive", "e"), say("alive", "f")]).toEqual([["c1"], ["c1"], []]);
  expect(lives.counts()).toMatchObject({ live: 2, orphaned: 4, hidden: 0 });
});

test("without peers what is held has no age", () => {
  const { replica, shared } = new ReplicatingNode({ nodeId: "a" });
  const membership = new Membership(updateOf("a"), new Rng("lives"));
  const freshness = makeFreshness({ replica, clusterId: "c1", membership, replication: shared });
  expect(freshness).toBeDefined();
});
