/** A cluster that lost its disks hears its own word back at border nodes that have no key, and is heard again all the same. */
import { expect, test } from "vitest";
import { rule } from "../fakes/policies.ts";
import { Regions, SUMMARY } from "./regions/world.ts";

const LOSS_MS = 14_000;

/** Cluster eu1 says `stays` and `goes`, loses all its disks, and has `stays` and `new` afterwards, by clocks that are five minutes behind. */
function losing(seed: string): Regions {
  const regions = new Regions(seed, { eu: { eu1: 3 }, us: { us1: 1 } }, { keyless: ["eu1-b", "eu1-c"] });
  const [eu, us] = [regions.nodesOf("eu"), regions.nodesOf("us")];
  // The node that signs has no border link.
  regions.cut([regions.node("eu1-a")], us);
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
  const regions = losing("echoes");
  const restMs = LOSS_MS + 6000 + 2 * SUMMARY.ttlMs;
  regions.watch(restMs, restMs + SUMMARY.ttlMs, () => regions.differs(regions.nodesOf("us"), ["eu1 svc/new", "eu1 svc/stays"]));
  expect(regions.run(restMs + SUMMARY.ttlMs + 500)).toEqual([]);
});

test("the audit of what is taken back has the policy that is in force, and its rule", () => {
  const regions = losing("echoes-audited");
  regions.at(LOSS_MS + 2500, () => regions.apply("eu1-a", [rule("svc", { allowSummaries: true })], "afterwards"));
  expect(regions.run(LOSS_MS + 6000 + 2 * SUMMARY.ttlMs)).toEqual([]);
  const goes = regions.exports.filter(({ name, isWithdrawn }) => isWithdrawn && name === "eu1 svc/goes");
  expect(goes.map(({ under }) => under)).toEqual(["exceeded policy=1 rule=svc"]);
});
