/** What the builder remembers of services is gone with them. */
import { expect, test } from "vitest";
import { NEVER } from "../../src/lib/machine.ts";
import { Services } from "../../src/summary/building/services.ts";

const nameKeyOf = (n: number) => ["svc", `s${n}`, "1"].join("\0");

test("services that come and go take no more room than those that are there", () => {
  const services = new Services();
  const kept = services.add(nameKeyOf(0));
  const ids = new Set<number>();
  for (let n = 1; n < 1000; n++) {
    const service = services.add(nameKeyOf(n));
    services.wake(service, n);
    services.setEdge(service, n);
    ids.add(service.id);
    services.drop(service);
  }
  expect([services.size, ids.size, services.nextDueMonoMs(), services.nextEdgeWallMs()]).toEqual([1, 1, NEVER, NEVER]);
  expect(services.find(nameKeyOf(0))).toBe(kept);
});
