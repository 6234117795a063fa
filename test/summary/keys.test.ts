import { expect, test } from "vitest";
import { SCOPE } from "../../src/catalog/entry/scope.ts";
import { KIND, keyParts } from "../../src/catalog/record/record.ts";
import { BEACON_NAMESPACE, beaconKey, recordKey, summaryKeyOf } from "../../src/summary/keys.ts";
import {
  BAND,
  type Beacon,
  MAX_HOPS,
  MAX_VERSION,
  type Sealed,
  SUMMARY_REFUSALS,
  type Summary,
  type SummaryKey,
  type SummaryRefusal,
} from "../../src/summary/summary.ts";

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

test("versions leave room for arithmetic, hops are few, and each refusal has one word", () => {
  const latency = { minMs: 0, maxMs: 0 };
  const policy = { policyVersion: "", policyNumber: 0, policyRule: "", notAfterWallMs: undefined, noStale: false, withdrawn: false };
  const made = { version: MAX_VERSION, exporter: "n1", keyId: "", ttlMs: 120_000, generatedWallMs: 0 };
  const summary: Summary = { ...KEY, ...policy, ...made, latency, regions: ["eu"], endpointCount: 1, band: BAND.HEALTHY };
  expect(Number.isSafeInteger(summary.version + 2 ** 40)).toBe(true);
  const beacon: Beacon = { ...made, source: "eu-1", region: "eu", ingress: [], withdrawals: [{ ...KEY, version: 7 }] };
  expect(beacon.withdrawals).toHaveLength(1);
  const sealed: Sealed = { signed: new Uint8Array(), signature: new Uint8Array(), hops: 0 };
  expect(sealed.hops).toBeLessThan(MAX_HOPS);
  const words: readonly SummaryRefusal[] = SUMMARY_REFUSALS;
  expect(new Set(words).size).toBe(10);
});
