/** What lives and freshness rest on in a fabric. */
import { expect, test } from "vitest";
import { makeFreshness, makeLives } from "../../src/fabric/life-parts.ts";
import { LIVES_DEFAULTS } from "../../src/fabric/lives-options.ts";
import { Membership } from "../../src/fabric/membership.ts";
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

test("without peers what is held has no age", () => {
  const { replica, shared } = new ReplicatingNode({ nodeId: "a" });
  const membership = new Membership(updateOf("a"), new Rng("lives"));
  const freshness = makeFreshness({ replica, clusterId: "c1", membership, replication: shared });
  expect(freshness).toBeDefined();
});
