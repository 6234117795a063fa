import { expect, test } from "vitest";
import { SCOPE } from "../../../src/catalog/entry/scope.ts";
import { BODY, HEALTH, KIND, keyText } from "../../../src/catalog/record/record.ts";
import { StoredRecord } from "../../../src/catalog/record/stored-record.ts";
import { NO_TRAITS } from "../../../src/catalog/record/traits.ts";
import { ChangeLog } from "../../../src/catalog/replica/change-log.ts";
import { Staging } from "../../../src/catalog/replica/staging.ts";

function staged(staging: Staging, name: string): StoredRecord {
  const origin = {
    id: "n/1",
    nodeId: "n",
    generation: 1,
    clusterId: "",
    region: "",
    life: "live" as const,
    markedSeq: 0,
    through: 0,
    floor: 0,
    log: new ChangeLog<StoredRecord>((c) => c.seq),
  };
  const key = keyText({ kind: KIND.SERVICE, namespace: "svc", name, instanceId: "i", clusterId: "c" });
  const place = { key, namespace: "svc", name, kind: KIND.SERVICE, origin, traits: NO_TRAITS, principal: "" };
  const numbers = { seq: staging.nextSeq(), hlc: 1, firstSeq: 1, filterSeq: 1, at: 0, sizeBytes: 0, contentBytes: 0 };
  const stored = new StoredRecord({ ...place, ...numbers, body: BODY.ENTRY, scope: SCOPE.ZONE, reach: SCOPE.ZONE, health: HEALTH.HEALTHY });
  staging.add(stored);
  return stored;
}

test("numbers go on after those of an earlier life, also after what was staged is thrown away", () => {
  const staging = new Staging(41);
  expect(staged(staging, "a").seq).toBe(42);
  staging.take(42);
  expect(staged(staging, "b").seq).toBe(43);
});

test("a key is found under its newest staged record until that is taken", () => {
  const staging = new Staging(0);
  const [first, second] = [staged(staging, "a"), staged(staging, "a")];
  expect(staging.find(first.key)).toBe(second);
  expect(staging.take(first.seq)).toEqual([first]);
  expect(staging.find(first.key)).toBe(second);
  expect(staging.take(second.seq)).toEqual([second]);
  expect(staging.find(first.key)).toBeUndefined();
});
