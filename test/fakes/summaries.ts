/** Summaries, beacons and announcements of keys: with defaults, and arbitrary ones. */
import fc from "fast-check";
import { SCOPE } from "../../src/catalog/entry/scope.ts";
import { KIND } from "../../src/catalog/record/record.ts";
import { signAnnouncement } from "../../src/signing/codec.ts";
import { BAND, type Beacon, MAX_HOPS, MAX_VERSION, type Sealed, type Summary, type Withdrawal } from "../../src/summary/summary.ts";
import { signingKey } from "./signing-keys.ts";

export const SUMMARY: Summary = {
  source: "eu-1",
  kind: KIND.SERVICE,
  namespace: "svc.shop",
  serviceId: "cart",
  channel: SCOPE.GLOBAL,
  regions: ["eu"],
  endpointCount: 12,
  band: BAND.HEALTHY,
  latency: { minMs: 2, maxMs: 16 },
  policyVersion: "2026-11",
  policyNumber: 7,
  policyRule: "svc.*",
  notAfterWallMs: undefined,
  noStale: false,
  withdrawn: false,
  version: 1_764_259_200,
  exporter: "n1",
  keyId: "0123456789abcdef",
  ttlMs: 120_000,
  generatedWallMs: 1_764_259_200_123,
  tag: 0xfedc_ba98_7654_3210n,
};

export const WITHDRAWAL: Withdrawal = { tag: SUMMARY.tag, version: 1_764_259_201 };

export const BEACON: Beacon = {
  source: "eu-1",
  region: "eu",
  version: 1_764_259_200,
  exporter: "n1",
  keyId: "0123456789abcdef",
  ttlMs: 120_000,
  generatedWallMs: 1_764_259_200_123,
  ingress: [{ urls: ["grpc://n1.example.org:7420"], scope: SCOPE.GLOBAL, capabilities: ["h2"], tags: ["edge"] }],
  withdrawals: [WITHDRAWAL],
};

const announcing = { cluster: "eu-1", notBeforeWallMs: 1_764_259_200_000, notAfterWallMs: 1_764_345_600_000 };
/** Signed bytes. */
export const ANNOUNCEMENT: Uint8Array = signAnnouncement({ ...announcing, key: signingKey(1), by: signingKey(0) }).signed;

/** Sealed with a signature that nobody verifies. */
export function sealedAs(signed: Uint8Array, hops = 0): Sealed {
  return { signed, signature: new Uint8Array(64).fill(7), hops };
}

const anyId = fc.stringMatching(/^[A-Za-z0-9._:/@+-]{1,64}$/);
const anyNamespace = fc.stringMatching(/^[a-z0-9]{1,9}(\.[a-z0-9]{1,9}){0,3}$/);
const anyWallMs = fc.integer({ min: 0, max: 253_402_300_799_999 });
const anyTtlMs = fc.integer({ min: 1, max: 86_400_000 });
const anyVersion = fc.integer({ min: 1, max: MAX_VERSION });
const anyKeyId = fc.stringMatching(/^[0-9a-f]{16}$/);
const anyTag = fc.bigInt({ min: 1n, max: 2n ** 64n - 1n });
const anyCount = fc.nat(0xffff_ffff);
const anySignature = fc.constantFrom(0, 64).chain((length) => fc.uint8Array({ minLength: length, maxLength: length }));
const key = {
  kind: fc.constantFrom(KIND.SERVICE, KIND.FUNCTION, KIND.TOPIC, KIND.QUEUE, KIND.CACHE),
  namespace: anyNamespace,
  serviceId: anyId,
  channel: fc.constantFrom(SCOPE.ZONE, SCOPE.REGION, SCOPE.GLOBAL),
};
const made = {
  source: anyId,
  version: anyVersion,
  exporter: anyId,
  keyId: fc.oneof(fc.constant(""), anyKeyId),
  ttlMs: anyTtlMs,
  generatedWallMs: anyWallMs,
};

export const anySummary: fc.Arbitrary<Summary> = fc.record(
  {
    ...key,
    ...made,
    regions: fc.array(anyId, { maxLength: 4 }),
    endpointCount: anyCount,
    band: fc.constantFrom(BAND.HEALTHY, BAND.DEGRADED, BAND.CRITICAL),
    latency: fc.record({ minMs: anyCount, maxMs: anyCount }, { noNullPrototype: true }),
    policyVersion: fc.stringMatching(/^[ -~ä]{0,128}$/),
    policyNumber: fc.maxSafeNat(),
    policyRule: fc.constantFrom("", "svc.*", "svc.shop"),
    notAfterWallMs: fc.oneof(fc.constant(undefined), anyWallMs),
    noStale: fc.boolean(),
    withdrawn: fc.boolean(),
    tag: anyTag,
  },
  { noNullPrototype: true },
);

export const anyBeacon: fc.Arbitrary<Beacon> = fc.record(
  {
    ...made,
    region: anyId,
    ingress: fc.array(
      fc.record(
        {
          urls: fc.array(fc.webUrl({ validSchemes: ["grpc", "https"] }), { maxLength: 3 }),
          scope: fc.constantFrom(...Object.values(SCOPE)),
          capabilities: fc.array(anyId, { maxLength: 3 }),
          tags: fc.array(anyId, { maxLength: 3 }),
        },
        { noNullPrototype: true },
      ),
      { maxLength: 3 },
    ),
    withdrawals: fc.array(fc.record({ tag: anyTag, version: anyVersion }, { noNullPrototype: true }), { maxLength: 3 }),
  },
  { noNullPrototype: true },
);

/** Signed bytes. */
export const anyAnnouncement: fc.Arbitrary<Uint8Array> = fc
  .record({
    cluster: anyId,
    notBeforeWallMs: fc.integer({ min: 1, max: 253_402_300_799_999 }),
    forMs: fc.integer({ min: 1, max: 2 ** 40 }),
  })
  .map(({ forMs, ...rest }) => ({ ...rest, notAfterWallMs: rest.notBeforeWallMs + forMs, key: signingKey(1), by: signingKey(0) }))
  .map((each) => signAnnouncement(each).signed);

/** The outer part of what is sealed, around this text. */
export function anySealed(signed: Uint8Array): fc.Arbitrary<Sealed> {
  return fc.record({ signed: fc.constant(signed), signature: anySignature, hops: fc.nat(MAX_HOPS) }, { noNullPrototype: true });
}
