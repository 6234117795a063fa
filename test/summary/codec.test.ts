/** What clusters sign, as bytes: what is written is read, whatever else comes is refused by the name of its field, and signed bytes stay as they are. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ServiceSummarySchema } from "../../gen/waymark/catalog/v1/summary_pb.js";
import { BeaconSchema, KeyAnnouncementSchema, SealedRecordSchema } from "../../gen/waymark/fabric/v1/fabric_pb.js";
import { WaymarkError } from "../../src/lib/errors.ts";
import { readAnnouncement } from "../../src/seal/codec.ts";
import {
  answerOf,
  decodeAnnouncement,
  decodeBeacon,
  decodeRecord,
  decodeSummary,
  encodeBeacon,
  encodeRecord,
  encodeSummary,
  fitting,
  MAX_BEACON_BYTES,
  opened,
} from "../../src/summary/codec.ts";
import type { Summary } from "../../src/summary/summary.ts";
import {
  ANNOUNCEMENT,
  anyAnnouncement,
  anyBeacon,
  anySealed,
  anySummary,
  BEACON,
  SUMMARY,
  sealedAs,
  WITHDRAWAL,
} from "../fakes/summaries.ts";

/** A value of each sort, and its ways to bytes and back. */
const anySigned = fc.oneof(
  anySummary.map((value) => ({ what: "summary" as const, value, signed: encodeSummary(value), read: decodeSummary })),
  anyBeacon.map((value) => ({ what: "beacon" as const, value, signed: encodeBeacon(value), read: decodeBeacon })),
  anyAnnouncement.map((signed) => ({ what: "key" as const, value: readAnnouncement(signed), signed, read: decodeAnnouncement })),
);

function expectReadOrRefused(run: () => unknown): void {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(WaymarkError);
    expect((error as WaymarkError).reason).toBe("invalid_argument");
  }
}

test("what is written is read, and its bytes travel as they were made", () => {
  fc.assert(
    fc.property(
      anySigned.chain((of) => anySealed(of.signed).map((sealed) => ({ ...of, sealed }))),
      ({ what, value, signed, read, sealed }) => {
        expect(read(signed)).toEqual(value);
        const again = decodeRecord(encodeRecord(what, sealed));
        expect(again).toEqual({ what, sealed, [what]: value });
        expect(opened(what, sealed)).toEqual(again);
      },
    ),
  );
});

test("cut anywhere, or with bytes changed, what was signed is read or refused", () => {
  const changes = fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 4 });
  fc.assert(
    fc.property(anySigned, fc.nat(), changes, ({ what, signed, read }, cut, changed) => {
      const bytes = encodeRecord(what, sealedAs(signed));
      expectReadOrRefused(() => read(signed.subarray(0, cut % (signed.length + 1))));
      expectReadOrRefused(() => decodeRecord(bytes.subarray(0, cut % (bytes.length + 1))));
      for (const text of [Uint8Array.from(signed), bytes]) {
        for (const [at, value] of changed) text[at % text.length] = value;
        expectReadOrRefused(() => (text === bytes ? decodeRecord(text) : read(text)));
      }
    }),
  );
});

test("an unknown field of a later version stays in the bytes, and is passed over", () => {
  const later = Buffer.of(0x98, 0x06, 1, 0x9a, 0x06, 2, 7, 7);
  const signed = new Uint8Array(Buffer.concat([encodeSummary(SUMMARY), later]));
  const record = decodeRecord(encodeRecord("summary", sealedAs(signed)));
  expect(record).toEqual({ what: "summary", summary: SUMMARY, sealed: sealedAs(signed) });
});

test("an answer has what was signed, its bytes and signature, and the serving node's word on its age", () => {
  const notAfterWallMs = 1_764_300_000_000;
  const sealed = sealedAs(encodeSummary({ ...SUMMARY, notAfterWallMs, noStale: true }), 3);
  const answer = answerOf(sealed, true);
  expect(answer).toMatchObject({
    namespace: "svc.shop",
    serviceId: "cart",
    sourceCluster: "eu-1",
    scope: 4,
    healthBand: 1,
    endpointCount: 12,
  });
  expect(answer).toMatchObject({
    version: 1_764_259_200n,
    exporter: "n1",
    noStale: true,
    stale: true,
    policyNumber: 7n,
    policyRule: "svc.*",
  });
  expect(answer).toMatchObject({ ttl: { seconds: 120n }, notAfter: { seconds: 1_764_300_000n }, latencyBandMs: { min: 2, max: 16 } });
  expect([answer.signedBytes, answer.signature]).toEqual([sealed.signed, sealed.signature]);
  // A reader who has the answer alone gets the same summary out of it.
  expect(decodeSummary(answer.signedBytes)).toEqual({ ...SUMMARY, notAfterWallMs, noStale: true });
});

const LONG = "x".repeat(129);

describe("a bad field is refused by its name", () => {
  const good = {
    namespace: "svc.shop",
    serviceId: "cart",
    kind: 1,
    scope: 4,
    healthBand: 1,
    ttl: { seconds: 120n },
    generatedAt: { seconds: 1n },
    sourceCluster: "eu-1",
    exporter: "n1",
    version: 1n,
  };
  test.each<[field: string, change: object]>([
    ["namespace", { namespace: "Svc" }],
    ["namespace", { namespace: "" }],
    ["service_id", { serviceId: LONG }],
    ["service_id", { serviceId: "a b" }],
    ["source_cluster", { sourceCluster: "" }],
    ["exporter", { exporter: LONG }],
    ["key_id", { keyId: "ä" }],
    ["kind", { kind: 0 }],
    ["kind", { kind: 6 }],
    ["kind", { kind: 9 }],
    ["scope", { scope: 1 }],
    ["scope", { scope: 5 }],
    ["health_band", { healthBand: 0 }],
    ["health_band", { healthBand: 4 }],
    ["version", { version: 0n }],
    ["version", { version: 2n ** 52n + 1n }],
    ["regions[1]", { regions: ["eu", "a b"] }],
    ["ServiceSummary.regions", { regions: Array.from({ length: 65 }, () => "r") }],
    ["ttl", { ttl: { seconds: 86_401n } }],
    ["ttl", { ttl: { seconds: -1n } }],
    ["ttl", { ttl: { nanos: 999_999 } }],
    ["ttl", { ttl: {} }],
    ["generated_at", { generatedAt: { seconds: -1n } }],
    ["not_after", { notAfter: { seconds: 2n ** 40n } }],
    ["policy_version", { policyVersion: LONG }],
    ["policy_number", { policyNumber: 2n ** 60n }],
    ["policy_rule", { policyRule: "\n" }],
    ["signature", { signature: new Uint8Array(64) }],
    ["signed_bytes", { signedBytes: new Uint8Array(1) }],
    ["stale", { stale: true }],
    ["signed_text", { policyRule: "x".repeat(5_000) }],
  ])("%s of a summary: %o", (field, change) => {
    const signed = toBinary(ServiceSummarySchema, create(ServiceSummarySchema, { ...good, ...change }));
    expect(() => decodeSummary(signed)).toThrow(`invalid_argument: ${field}: `);
  });

  const withdrawal = { kind: 1, namespace: "svc.shop", serviceId: "cart", channel: 4, version: 1n };
  test.each<[field: string, change: object]>([
    ["source_cluster", { sourceCluster: "a b" }],
    ["region", { region: "" }],
    ["exporter", { exporter: "" }],
    ["key_id", { keyId: LONG }],
    ["version", { version: 0n }],
    ["version", { version: 2n ** 52n + 1n }],
    ["generated_at_ms", { generatedAtMs: 2n ** 50n }],
    ["ttl_ms", { ttlMs: 0n }],
    ["ttl_ms", { ttlMs: 86_400_001n }],
    ["Beacon.ingress", { ingress: Array.from({ length: 33 }, () => ({})) }],
    ["IngressNode.urls", { ingress: [{ urls: Array.from({ length: 9 }, () => "a://b") }] }],
    ["ingress[0].urls[0]", { ingress: [{ urls: ["javascript:alert(1)"] }] }],
    ["ingress[0].urls[0]", { ingress: [{ urls: [`a://${"x".repeat(512)}`] }] }],
    ["ingress[0].urls[0]", { ingress: [{ urls: ["https://a b"] }] }],
    ["ingress[0].scope", { ingress: [{ scope: 7 }] }],
    ["ingress[0].tags[0]", { ingress: [{ tags: [""] }] }],
    ["IngressNode.capabilities", { ingress: [{ capabilities: Array.from({ length: 65 }, () => "c") }] }],
    ["Beacon.withdrawals", { withdrawals: Array.from({ length: 101 }, () => withdrawal) }],
    ["withdrawals[1].kind", { withdrawals: [withdrawal, { ...withdrawal, kind: 6 }] }],
    ["withdrawals[0].channel", { withdrawals: [{ ...withdrawal, channel: 1 }] }],
    ["withdrawals[0].version", { withdrawals: [{ ...withdrawal, version: 0n }] }],
    ["withdrawals[0].namespace", { withdrawals: [{ ...withdrawal, namespace: "" }] }],
    ["withdrawals[0].service_id", { withdrawals: [{ ...withdrawal, serviceId: "" }] }],
    ["signed_text", { keyId: "x".repeat(MAX_BEACON_BYTES) }],
  ])("%s of a beacon: %o", (field, change) => {
    const beacon = { sourceCluster: "eu-1", region: "eu", exporter: "n1", version: 1n, ttlMs: 1n, ...change };
    expect(() => decodeBeacon(toBinary(BeaconSchema, create(BeaconSchema, beacon)))).toThrow(`invalid_argument: ${field}: `);
  });

  test.each<[field: string, change: object]>([
    ["cluster_id", { clusterId: "" }],
    ["key_id", { keyId: "0123456789ABCDEF" }],
    ["signed_by", { signedBy: "0123" }],
    ["public_key", { publicKey: new Uint8Array(33) }],
    ["not_before_ms", { notBeforeMs: 0n }],
    ["not_before_ms", { notBeforeMs: 2n ** 50n }],
    ["not_after_ms", { notAfterMs: 2n ** 60n }],
    ["holder_signature", { holderSignature: new Uint8Array(63) }],
    ["key", { publicKey: new Uint8Array(32) }],
    ["signed_text", { clusterId: "x".repeat(MAX_BEACON_BYTES) }],
  ])("%s of an announcement: %o", (field, change) => {
    const signed = toBinary(KeyAnnouncementSchema, Object.assign(fromBinary(KeyAnnouncementSchema, ANNOUNCEMENT), change));
    expect(() => decodeAnnouncement(signed)).toThrow(`invalid_argument: ${field}: `);
  });

  const signedText = encodeSummary(SUMMARY);
  test.each([
    { field: "content", content: { case: undefined } },
    { field: "signature", content: { case: "summary" as const, value: { signedText, signature: new Uint8Array(63) } } },
    { field: "summary.signature", content: { case: "summary" as const, value: { signedText, signature: new Uint8Array(65) } } },
    { field: "summary.hops", content: { case: "summary" as const, value: { signedText, hops: 9 } } },
    { field: "key.signed_text", content: { case: "key" as const, value: { signedText: new Uint8Array(MAX_BEACON_BYTES + 1) } } },
  ])("$field of a record", ({ field, content }) => {
    const bytes = toBinary(SealedRecordSchema, create(SealedRecordSchema, { content }));
    expect(() => decodeRecord(bytes)).toThrow(`invalid_argument: ${field}: `);
  });
});

describe("nobody signs what nobody would take", () => {
  test.each<[field: string, change: Partial<Summary>]>([
    ["version", { version: 0 }],
    ["regions[0]", { regions: ["a b"] }],
    ["signed_text", { regions: Array.from({ length: 64 }, () => "r".repeat(64)) }],
  ])("%s of a summary", (field, change) => {
    expect(() => encodeSummary({ ...SUMMARY, ...change })).toThrow(`invalid_argument: ${field}: `);
  });

  test("a beacon has room for the ordinary, and leaves out the last of what is longer", () => {
    expect(fitting(BEACON)).toEqual(BEACON);
    const long = { ...WITHDRAWAL, namespace: Array.from({ length: 20 }, () => "abcdefghi").join("."), serviceId: "s".repeat(128) };
    const ingress = BEACON.ingress.map((node) => ({ ...node, urls: Array.from({ length: 8 }, () => `https://${"x".repeat(500)}`) }));
    const full = { ...BEACON, withdrawals: Array.from({ length: 100 }, (_, i) => ({ ...long, version: i + 1 })) };
    expect(() => encodeBeacon(full)).toThrow("invalid_argument: signed_text: ");
    const fits = fitting(full);
    expect(decodeBeacon(encodeBeacon(fits))).toEqual({ ...full, withdrawals: full.withdrawals.slice(0, 50) });
    const crowded = fitting({ ...full, ingress: Array.from({ length: 32 }, () => ingress).flat() });
    expect([crowded.withdrawals.length, crowded.ingress.length]).toEqual([0, 4]);
    expect(() => encodeBeacon({ ...BEACON, ingress: Array.from({ length: 33 }, () => BEACON.ingress).flat() })).toThrow(
      "invalid_argument: ingress: ",
    );
    expect(() => encodeBeacon({ ...BEACON, withdrawals: Array.from({ length: 101 }, () => WITHDRAWAL) })).toThrow(
      "invalid_argument: withdrawals: ",
    );
  });
});
