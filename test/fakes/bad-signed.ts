/** What a reader of signed bytes refuses: the name of the field, and the change of a good message. */
import { MAX_BEACON_BYTES } from "../../src/summary/codec.ts";

type Row = readonly [field: string, change: object];
const LONG = "x".repeat(129);

export const PLAIN_SUMMARY = {
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
  tag: 1n,
};

export const BAD_SUMMARIES: readonly Row[] = [
  ["namespace", { namespace: "Svc" }],
  ["namespace", { namespace: "" }],
  ["service_id", { serviceId: "x".repeat(1001) }],
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
  ["tag", { tag: 0n }],
  ["signed_text", { policyRule: "x".repeat(5_000) }],
];

const withdrawal = { tag: 1n, version: 1n };

export const BAD_BEACONS: readonly Row[] = [
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
  ["IngressNode.capabilities", { ingress: [{ capabilities: Array.from({ length: 65 }, (_, i) => `c${i}`) }] }],
  ["IngressNode.tags", { ingress: [{ tags: Array.from({ length: 65 }, (_, i) => `t${i}`) }] }],
  ["ingress[0].urls[0]", { ingress: [{ urls: ["https://a b"] }] }],
  ["ingress[0].scope", { ingress: [{ scope: 7 }] }],
  ["ingress[0].tags[0]", { ingress: [{ tags: [""] }] }],
  ["IngressNode.capabilities", { ingress: [{ capabilities: Array.from({ length: 65 }, () => "c") }] }],
  ["Beacon.withdrawals", { withdrawals: Array.from({ length: 101 }, () => withdrawal) }],
  ["withdrawals[1].tag", { withdrawals: [withdrawal, { ...withdrawal, tag: 0n }] }],
  ["withdrawals[0].version", { withdrawals: [{ ...withdrawal, version: 0n }] }],
  ["withdrawals[0].version", { withdrawals: [{ ...withdrawal, version: 2n ** 52n + 1n }] }],
  ["signed_text", { keyId: "x".repeat(MAX_BEACON_BYTES) }],
];

export const BAD_ANNOUNCEMENTS: readonly Row[] = [
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
];
