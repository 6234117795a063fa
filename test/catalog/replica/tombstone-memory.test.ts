/** Memory that tombstones leave behind: nothing outside shows how many slots are kept. */
import { expect, test } from "vitest";
import { BODY } from "../../../src/catalog/record/record.ts";
import { LostOrigins } from "../../../src/catalog/replica/lost-origins.ts";
import { Tombstones } from "../../../src/catalog/replica/tombstones.ts";
import { timeOf } from "../../fakes/history.ts";
import { FabricComponent, KEYS } from "../../fakes/mesh.ts";

const T = timeOf(1, 0);

test("one key that comes and goes leaves no slots behind but the last ones", () => {
  const tombstones = new Tombstones({ nodeId: "n1", tombstoneTtlMs: 3_600_000, minTombstones: 100_000 }, new LostOrigins());
  const [node, [key]] = [new FabricComponent("a"), KEYS];
  if (key === undefined) throw new Error("there are keys");
  node.put(key, 0, T);
  node.commit(T);
  node.end(key, BODY.EXPIRED, T);
  node.commit(T);
  const [stored] = node.replica.records(key);
  for (let n = 0; n < 20_000; n++) {
    tombstones.add(stored!, T);
    stored!.seq += 1;
    tombstones.count -= 1;
  }
  expect(tombstones.slots).toBeLessThan(5000);
});
