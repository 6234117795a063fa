/** A cluster that lost its disks hears its own word back at border nodes that have no key, and is heard again all the same. */
import { expect, test } from "vitest";
import { Regions, SUMMARY } from "./regions/world.ts";

test("its next versions go above those that others know, and what it does not have any more is taken back", () => {
  const regions = new Regions("echoes", { eu: { eu1: 3 }, us: { us1: 1 } }, { keyless: ["eu1-b", "eu1-c"] });
  const [eu, us] = [regions.nodesOf("eu"), regions.nodesOf("us")];
  // The node that signs has no border link.
  regions.cut([regions.node("eu1-a")], us);
  regions.start();
  regions.at(8000, () => {
    for (const name of ["stays", "goes"]) regions.put("eu1-a", name);
  });
  const lossMs = 14_000;
  regions.look(lossMs, () => regions.differs(us, ["eu1 svc/goes", "eu1 svc/stays"]));
  regions.at(lossMs, () => {
    for (const node of eu) {
      node.crash({ isSilent: false, isBatchKept: false, isDiskLost: true });
      node.skewMs = -300_000;
    }
  });
  regions.at(lossMs + 2000, () => {
    for (const node of eu) node.start();
  });
  regions.at(lossMs + 6000, () => {
    for (const name of ["stays", "new"]) regions.put("eu1-a", name);
  });
  const restMs = lossMs + 6000 + 2 * SUMMARY.ttlMs;
  regions.watch(restMs, restMs + SUMMARY.ttlMs, () => regions.differs(us, ["eu1 svc/new", "eu1 svc/stays"]));
  expect(regions.run(restMs + SUMMARY.ttlMs + 500)).toEqual([]);
});
