/** The rules of campaigns (semantics.md, Leadership), over the real leadership machine. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import type { CampaignGrant, CampaignSink } from "../../../src/control/leadership/campaigns.ts";
import { Rng } from "../../../src/lib/rng.ts";
import { CampaignWorld, LEASE_MS } from "../../fakes/campaign-world.ts";
import { DrivenLeadership, DrivenStore } from "../../fakes/driven-leadership.ts";
import { runs } from "../../fakes/effort.ts";
import { LeaderLab } from "../../fakes/leader-lab.ts";

const CLEANER = "custom/orders/cleaner";
/** The part of a lease for which a grant is valid. */
const VALID_MS = (LEASE_MS * 11) / 12;

/** A node, and programs on it that record their answers: the fence, or 0 for a candidate. */
function lab(nodeId = "n1", store = new DrivenStore()) {
  const node = new DrivenLeadership(store, nodeId);
  const program = (holderId: string, scope = CLEANER) => {
    const answers: number[] = [];
    const grants: CampaignGrant[] = [];
    const campaign: CampaignSink = (grant) => {
      answers.push(grant?.leader.fence.number ?? 0);
      if (grant !== undefined) grants.push(grant);
    };
    const beat = () => node.input({ kind: "heartbeat", campaign, scope, holderId });
    return {
      answers,
      grants,
      beat,
      isLeader: () => (answers.at(-1) ?? 0) > 0,
      retire: () => node.input({ kind: "retired", scope, number: grants.at(-1)?.leader.fence.number ?? 0 }),
      end: () => node.input({ kind: "ended", campaign }),
    };
  };
  return { store, node, program, holder: () => node.machine.leaders.get(CLEANER)?.holderId };
}

test("each message is answered, and so is the election", () => {
  const { program, holder } = lab();
  const ann = program("ann");
  ann.beat();
  expect(ann.answers).toEqual([0, expect.any(Number)]);
  expect(holder()).toBe("ann");
  expect(ann.grants[0]?.validForMs).toBeLessThanOrEqual(VALID_MS);
  ann.beat();
  expect(ann.answers[2]).toBe(ann.answers[1]);
});

test("programs on one node wait in the order in which they began, and each later one has a greater fence", () => {
  const { program, holder } = lab();
  const [ann, bob, eve] = [program("ann"), program("bob"), program("eve")];
  for (const each of [ann, bob, eve]) each.beat();
  bob.end();
  ann.retire();
  ann.end();
  expect(holder()).toBe("eve");
  expect(eve.answers.at(-1)).toBeGreaterThan(ann.answers[1] ?? 0);
  expect(bob.answers).toEqual([0]);
});

test("after a broken stream, the scope is free when the last grant is over, and after a resignation immediately", () => {
  const { store, program, holder } = lab();
  const [ann, bob] = [program("ann"), program("bob")];
  ann.beat();
  bob.beat();
  ann.end();
  const validForMs = ann.grants.at(-1)?.validForMs ?? 0;
  store.pass(validForMs);
  bob.beat();
  expect(holder()).toBe("ann");
  store.pass(LEASE_MS - validForMs);
  expect(holder()).toBe("bob");
  bob.retire();
  bob.end();
  expect(holder()).toBeUndefined();
  expect(lab("n2", store).node.machine.leaders.has(CLEANER)).toBe(false);
});

test("a program that sends no heartbeats loses the scope when its last grant is over, and waits behind the others when it is back", () => {
  const { store, program, holder } = lab();
  const [ann, bob] = [program("ann"), program("bob")];
  ann.beat();
  for (let ms = 0; ms < LEASE_MS; ms += 1000) {
    bob.beat();
    store.pass(1000);
  }
  expect(holder()).toBe("bob");
  expect(ann.answers.at(-1)).toBe(0);
  bob.beat();
  expect(bob.isLeader()).toBe(true);
  ann.beat();
  expect(ann.isLeader()).toBe(false);
  bob.retire();
  bob.end();
  expect(ann.isLeader()).toBe(true);
});

test("a program that an operator deposes has the rest of its grant to stop, and its own word that it has stopped shortens it", () => {
  const { store, node, program } = lab();
  const other = lab("n2", store);
  const [ann, bob] = [program("ann"), other.program("bob")];
  ann.beat();
  bob.beat();
  void node.resign(CLEANER, "maintenance");
  expect(ann.answers.at(-1)).toBe(0);
  store.pass(1);
  expect(bob.isLeader()).toBe(false);
  ann.retire();
  expect(bob.isLeader()).toBe(true);
});

test("a stopping node keeps its session until the last grant is over", () => {
  const { store, node, program } = lab();
  const bob = lab("n2", store).program("bob");
  const ann = program("ann");
  ann.beat();
  bob.beat();
  node.input({ kind: "stop" });
  expect(ann.answers.at(-1)).toBe(0);
  for (let ms = 0; ms < LEASE_MS - 1; ms += 1) {
    if (ms % 1000 === 0) bob.beat();
    expect(bob.isLeader(), `after ${ms} ms`).toBe(false);
    store.pass(1);
  }
  store.pass(LEASE_MS);
  bob.beat();
  expect(bob.isLeader()).toBe(true);
});

test("a retired program does not shorten the grant of a later one", () => {
  const { store, program } = lab();
  const other = lab("n2", store).program("eve");
  const [ann, bob] = [program("ann"), program("bob")];
  ann.beat();
  bob.beat();
  ann.retire();
  ann.end();
  expect(bob.isLeader()).toBe(true);
  other.beat();
  bob.end();
  ann.retire();
  store.pass(1);
  expect(other.isLeader()).toBe(false);
});

test("a grant never outlasts the session of the node", () => {
  const { store, program } = lab();
  const ann = program("ann");
  ann.beat();
  store.isAway = true;
  store.pass(VALID_MS - 500);
  ann.beat();
  expect(ann.grants.at(-1)?.validForMs).toBeLessThanOrEqual(500);
  store.pass(500);
  ann.beat();
  expect(ann.isLeader()).toBe(false);
});

test("the next process on an embedded store respects the grants of the last one, but not a scope that the last one held for itself", () => {
  const leaders = new LeaderLab();
  const last = leaders.node("n1", ["custom/orders/own"], { isOwnStore: true });
  last.input({ kind: "stand", scope: CLEANER, holderId: "ann" });
  last.isCrashed = true;
  const next = leaders.node("n1", ["custom/orders/own"], { isOwnStore: true, boot: "b2" });
  next.input({ kind: "stand", scope: CLEANER, holderId: "bob" });
  expect(next.holds("custom/orders/own")).toBe(true);
  leaders.advance(LEASE_MS - 1);
  expect(leaders.leader(CLEANER).holderId).toBe("ann");
  leaders.advance(1);
  expect(leaders.leader(CLEANER).holderId).toBe("bob");
});

test.each([
  { isOwnStore: false, nodeCount: 3, name: "nodes that share a store" },
  { isOwnStore: true, nodeCount: 1, name: "a node with a store of its own" },
])("with $name, no two programs act at the same time, whatever is late, lost, broken or paused", ({ isOwnStore, nodeCount }) => {
  let grantCount = 0;
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2 ** 32 - 1 }), (seed) => {
      const rng = new Rng(seed);
      const random = () => rng.uint32() / 2 ** 32;
      const world = new CampaignWorld({ random, nodeCount, programCount: 4, isRough: true, isOwnStore });
      const any = <T>(list: readonly T[]): T | undefined => list[Math.floor(random() * list.length)];
      for (let step = 0; step < 60; step += 1) {
        const chance = random();
        if (chance < 0.2) any(world.acting)?.breakStream();
        else if (chance < 0.3) any(world.programs)?.breakStream();
        else if (chance < 0.45) any(world.programs)?.resign();
        else if (chance < 0.55) any(world.nodes)?.pause(random() * 3 * LEASE_MS);
        else if (chance < 0.65) any(world.programs)?.pause(random() * 3 * LEASE_MS);
        else if (chance < 0.75) any(world.nodes)?.resign();
        world.run(random() * 2000);
      }
      world.isRough = false;
      world.run(8 * LEASE_MS);
      expect(world.violations).toEqual([]);
      expect(world.acting).toHaveLength(1);
      grantCount += world.grantCount;
    }),
    { numRuns: runs(60) },
  );
  expect(grantCount).toBeGreaterThan(runs(60) * 20);
});
