import { expect, test } from "vitest";
import { SCOPE } from "../../src/catalog/entry/scope.ts";
import { KIND, keyParts } from "../../src/catalog/record/record.ts";
import { BEACON_NAMESPACE, beaconKey, recordKey, summaryKeyOf } from "../../src/summary/keys.ts";
import { SUMMARY_REFUSALS, type SummaryKey, type SummaryRefusal } from "../../src/summary/summary.ts";

const KEY: SummaryKey = { source: "eu-1", kind: KIND.SERVICE, namespace: "svc.shop", serviceId: "cart", channel: SCOPE.GLOBAL };

test.each([SCOPE.ZONE, SCOPE.REGION, SCOPE.GLOBAL] as const)(
  "a summary on channel %i has a key of its own, which says all its parts",
  (channel) => {
    for (const kind of [KIND.SERVICE, KIND.FUNCTION, KIND.TOPIC, KIND.QUEUE, KIND.CACHE]) {
      const key: SummaryKey = { ...KEY, kind, channel };
      expect(summaryKeyOf(recordKey(key))).toEqual(key);
      expect(keyParts(recordKey(key))).toMatchObject({ namespace: "svc.shop", name: "cart", clusterId: "eu-1" });
    }
  },
);

test("the key of a beacon is no key of a summary", () => {
  expect(summaryKeyOf(beaconKey("eu-1"))).toBeUndefined();
  expect(keyParts(beaconKey("eu-1"))).toMatchObject({ namespace: BEACON_NAMESPACE, name: "eu-1", clusterId: "eu-1" });
});

test("each refusal has one word", () => {
  expect(new Set<SummaryRefusal>(SUMMARY_REFUSALS).size).toBe(10);
});
