/** A cluster that lost its disks hears its own word back at border nodes that have no key, and is heard again all the same. */
import { expect, test } from "vitest";
import { rule } from "../fakes/policies.ts";
import { type Layout, Regions, SUMMARY } from "./regions/world.ts";

const LOSS_MS = 14_000;
const PAIR: Layout = { eu: { eu1: 3 }, us: { us1: 1 } };
const KEYLESS = ["eu1-b", "eu1-c"];

/** Cluster eu1 says `stays` and `goes`, loses all its disks, and has `stays` and `new` afterwards, by clocks that are five minutes behind. */
function losing(seed: string, layout: Layout, keyless: readonly string[]): Regions {
  const regions = new Regions(seed, layout, { keyless });
  const [eu, us] = [regions.nodesOf("eu"), regions.nodesOf("us")];
  // Where few nodes sign, they have no border link.
  if (keyless.length > 0) {
    const signing = eu.filter(({ name }) => !keyless.includes(name));
    regions.cut(signing, us);
  }
  regions.start();
  regions.at(8000, () => {
    for (const name of ["stays", "goes"]) regions.put("eu1-a", name);
  });
  regions.look(LOSS_MS, () => regions.differs(us, ["eu1 svc/goes", "eu1 svc/stays"]));
  regions.at(LOSS_MS, () => {
    for (const node of eu) {
      node.crash({ isSilent: false, isBatchKept: false, isDiskLost: true });
      node.skewMs = -300_000;
    }
  });
  regions.at(LOSS_MS + 2000, () => {
    for (const node of eu) node.start();
  });
  regions.at(LOSS_MS + 6000, () => {
    for (const name of ["stays", "new"]) regions.put("eu1-a", name);
  });
  return regions;
}

test("its next versions go above those that others know, and what it does not have any more is taken back", () => {
  const regions = losing("echoes", PAIR, KEYLESS);
  const restMs = LOSS_MS + 6000 + 2 * SUMMARY.ttlMs;
  regions.watch(restMs, restMs + SUMMARY.ttlMs, () => regions.differs(regions.nodesOf("us"), ["eu1 svc/new", "eu1 svc/stays"]));
  expect(regions.run(restMs + SUMMARY.ttlMs + 500)).toEqual([]);
});

test("the audit of what is taken back has the policy that is in force, and its rule", () => {
  const regions = losing("echoes-audited", PAIR, KEYLESS);
  regions.at(LOSS_MS + 2500, () => regions.apply("eu1-a", [rule("svc", { allowSummaries: true })], "afterwards"));
  expect(regions.run(LOSS_MS + 6000 + 2 * SUMMARY.ttlMs)).toEqual([]);
  const goes = regions.exports.filter(({ name, isWithdrawn }) => isWithdrawn && name === "eu1 svc/goes");
  expect(goes.map(({ under }) => under)).toEqual(["exceeded policy=1 rule=svc"]);
});

test("where several border nodes have the key, the exporter of a service answers its echoes, and nobody else", () => {
  const regions = losing("echoes-of-many", { eu: { eu1: 3 }, us: { us1: 2, us2: 2 } }, []);
  const linkedMs = LOSS_MS + 16_000;
  regions.at(LOSS_MS, () => regions.cutOff("us"));
  // By now the nodes of the cluster know which of them export.
  regions.at(linkedMs, () => regions.cutOff("us", false));
  const restMs = linkedMs + 2 * SUMMARY.ttlMs;
  regions.watch(restMs, restMs + 2000, () => regions.differs(regions.nodesOf("us"), ["eu1 svc/new", "eu1 svc/stays"]));
  expect(regions.run(restMs + 2500)).toEqual([]);
  const again = regions.exports.filter(({ under, atMs }) => under.startsWith("exceeded") && atMs > linkedMs);
  expect(again.map(({ name }) => name).toSorted()).toEqual(["eu1 svc/goes", "eu1 svc/stays"]);
});
