/** What nodes hold of a cluster of another region when no neighbour of their own cluster exports it any more. */
import { expect, test } from "vitest";
import { recordKey } from "../../../src/summary/keys.ts";
import { type HeldNode, HeldWorld, keyOf, sealedBeacon, sealedSummary, summaryKey } from "../../fakes/held-world.ts";

const EVERYTHING = { passes: () => true };
const namesOf = (node: HeldNode) => node.shown.map((text) => text.split("@")[0]);

/** A cluster that says something in two namespaces, and nodes of two clusters of one region: b1 took it, and the others have it from there. */
function worldOf() {
  const world = new HeldWorld();
  const a = world.node({ nodeId: "a1", clusterId: "A" });
  const [b1, b2, c] = [
    world.node({ nodeId: "b1", clusterId: "B", region: "R" }),
    world.node({ nodeId: "b2", clusterId: "B", region: "R" }),
    world.node({ nodeId: "c1", clusterId: "C", region: "R" }),
  ];
  a.beacon();
  a.say("cart");
  a.say("secret", { namespace: "svc.inner" });
  const take = (by: HeldNode) => {
    for (const name of ["beacon", "cart"]) by.takeFrom(a, name);
    const secret = a.held.find(recordKey({ ...summaryKey("secret", "A"), namespace: "svc.inner" }));
    if (secret === undefined) throw new Error("it says nothing secret");
    return by.takeSeal(secret.seal(), { from: a });
  };
  const share = () => {
    for (const to of [b1, b2, c]) for (const from of [b1, b2, c]) if (to !== from) to.hear(from);
  };
  const rule = (nodes: readonly HeldNode[], lets: ((namespace: string) => boolean) | undefined) => {
    for (const { held } of nodes) held.exportsChanged(new Map(lets === undefined ? [] : [["B", lets]]));
    for (const node of nodes) node.settle();
  };
  take(b1);
  share();
  return { world, a, b1, b2, c, take, share, rule, all: [b1, b2, c] };
}

const SHOP = (namespace: string) => namespace === "svc.shop";

test("its taker ends it, nobody shows or counts it, and the same version comes again with a wider rule", () => {
  const { a, b1, all, take, share, rule } = worldOf();
  for (const node of all) expect([namesOf(node).length, node.held.digest(EVERYTHING)?.count]).toEqual([2, 2]);
  rule(all, SHOP);
  share();
  for (const node of all) {
    expect(namesOf(node)).toEqual(["A/cart"]);
    expect(node.held.digest(EVERYTHING)?.count).toBe(1);
  }
  rule(all, undefined);
  expect(namesOf(b1)).toEqual(["A/cart"]);
  expect(take(b1)).toBe("taken");
  share();
  for (const node of all) expect(namesOf(node)).toHaveLength(2);
  expect(a.held.digest(EVERYTHING)).toEqual(b1.held.digest(EVERYTHING));
});

test("what another cluster took stays, whatever the neighbours of this one export", () => {
  const { b1, c, all, take, share, rule } = worldOf();
  rule(all, SHOP);
  share();
  expect(take(c)).toBe("taken");
  share();
  for (const node of all) expect(namesOf(node)).toHaveLength(2);
  expect(b1.held.best(keyOf("cart", "A"))?.origin.clusterId).toBe("B");
});

test("of what is let through an older version is shown beside a newer one that is not", () => {
  const world = new HeldWorld();
  const [a, b, c, reader] = [
    world.node({ nodeId: "a1", clusterId: "A" }),
    world.node({ nodeId: "b1", clusterId: "B", region: "R" }),
    world.node({ nodeId: "c1", clusterId: "C", region: "R" }),
    world.node({ nodeId: "b2", clusterId: "B", region: "R" }),
  ];
  a.beacon();
  a.say("cart");
  for (const name of ["beacon", "cart"]) c.takeFrom(a, name);
  reader.hear(c);
  a.say("cart", { endpointCount: 9 });
  for (const name of ["beacon", "cart"]) b.takeFrom(a, name);
  reader.hear(b);
  const [older, newer] = [c.held.best(keyOf("cart", "A"))?.hlc, b.held.best(keyOf("cart", "A"))?.hlc];
  const shown = () => reader.shown.map((text) => Number(text.split("@")[1]));
  expect(shown()).toEqual([newer]);
  reader.held.exportsChanged(new Map([["B", () => false]]));
  reader.settle();
  expect(shown()).toEqual([older]);
});

test("what nobody ends, because its node is gone, is hidden, and shown again with a wider rule", () => {
  const { b2, c, rule } = worldOf();
  rule([b2, c], SHOP);
  for (const node of [b2, c]) expect([namesOf(node), node.held.digest(EVERYTHING)?.count]).toEqual([["A/cart"], 1]);
  rule([b2, c], () => true);
  for (const node of [b2, c]) expect([namesOf(node).length, node.held.digest(EVERYTHING)?.count]).toEqual([2, 2]);
});

test("a withdrawal stays, though its namespace is exported no more, and what it took back does not come again", () => {
  const { a, b1, all, take, share, rule } = worldOf();
  const old = a.sealOf("cart");
  a.say("cart", { withdrawn: true });
  b1.takeFrom(a, "cart");
  share();
  rule(all, () => false);
  share();
  rule(all, undefined);
  expect([b1.takeSeal(old, { from: a }), take(b1)]).toEqual(["older", "taken"]);
  share();
  for (const node of all) expect(namesOf(node)).toEqual(["A/secret"]);
});

test("what no neighbour exports is not put again each time that a neighbour tells it", () => {
  const world = new HeldWorld();
  world.node({ nodeId: "a1", clusterId: "A" });
  const b = world.node({ nodeId: "b1", clusterId: "B" });
  b.takeSeal(sealedBeacon(), { isBeacon: true });
  b.held.exportsChanged(new Map([["B", () => false]]));
  b.settle();
  const before = b.held.replica.lastSeq;
  for (let n = 0; n < 100; n++) expect(b.takeSeal(sealedSummary())).toBe("not_owner");
  expect(b.held.replica.lastSeq - before).toBeLessThan(10);
});
