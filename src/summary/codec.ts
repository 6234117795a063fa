/**
 * Between bytes and what clusters sign: summaries, beacons, announcements of keys. What comes from outside is checked here, once, and refused with
 * `invalid_argument`. Signed bytes are read and passed on as they are, and never made again from what was read.
 */
import { SERVICE_SUMMARY_TAG } from "../../gen/waymark/discovery/v1/summary_tags.ts";
import {
  type BeaconFields,
  decodeSealedRecord,
  decodeServiceSummary,
  encodeSealedRecord,
  encodeServiceSummary,
  type IngressNodeFields,
  type KeyAnnouncementFields,
  decodeBeacon as readBeacon,
  decodeKeyAnnouncement as readKeyAnnouncement,
  type ServiceSummaryFields,
  encodeBeacon as writeBeacon,
} from "../../gen/waymark/fabric/v1/fabric_codec.ts";
import {
  checkBeacon,
  checkIngressNode,
  checkKeyAnnouncement,
  checkSealed,
  checkSealedRecord,
  checkServiceSummary,
} from "../../gen/waymark/fabric/v1/fabric_rules.ts";
import { FieldProblems, PROTOCOL_BOUNDS } from "../catalog/entry/names.ts";
import { SCOPE, type Scope } from "../catalog/entry/scope.ts";
import { KIND, type Kind } from "../catalog/record/record.ts";
import { assert, invalid } from "../lib/errors.ts";
import { timeMs, timeOf, WireReader } from "../lib/protowire.ts";
import { type KeyAnnouncement, readAnnouncement } from "../signing/codec.ts";
import {
  BAND,
  type Band,
  type Beacon,
  type Channel,
  type IngressNode,
  MAX_INGRESS,
  MAX_REGIONS,
  MAX_VERSION,
  type Sealed,
  type Summary,
  type Withdrawal,
} from "./summary.ts";

/** Most bytes of a signed summary. */
const MAX_SUMMARY_BYTES = 4_096;
/** Most bytes of a signed beacon or announcement: with a signature they fit into a record (`StoredRecord`). */
export const MAX_BEACON_BYTES = 32_000;
/** Most items of lists, as the contract says. */
const MAX_URLS = 8;
const MAX_WORDS = 64;
const SIGNATURE_BYTES = 64;
const KEY_ID = { pattern: /^[0-9a-f]{16}$/, rule: "16 hexadecimal digits in lower case" };
/** End of the year 9999, as of a Timestamp. */
const MAX_WALL_MS = 253_402_300_799_999;

/** Signed bytes, and what they say. */
export type Opened =
  | { readonly what: "summary"; readonly sealed: Sealed; readonly summary: Summary }
  | { readonly what: "beacon"; readonly sealed: Sealed; readonly beacon: Beacon }
  | { readonly what: "key"; readonly sealed: Sealed; readonly key: KeyAnnouncement };

/** Reads signed bytes, of which their sender says what they are. The signature is not verified here. */
export function opened(what: Opened["what"], sealed: Sealed): Opened {
  checkOuter(sealed);
  switch (what) {
    case "summary":
      return { what, sealed, summary: decodeSummary(sealed.signed) };
    case "beacon":
      return { what, sealed, beacon: decodeBeacon(sealed.signed) };
    case "key":
      return { what, sealed, key: decodeAnnouncement(sealed.signed) };
  }
}

/** The bytes of a record of the summary replica. */
export function encodeRecord(what: Opened["what"], value: Sealed): Uint8Array {
  checkOuter(value);
  return encodeSealedRecord({ content: { case: what, value } });
}

/** Reads the bytes of a record of the summary replica. What is read has views into them. */
export function decodeRecord(bytes: Uint8Array): Opened {
  const record = decodeSealedRecord(bytes);
  const { content } = checked(record, checkSealedRecord);
  if (content.case === undefined) throw invalid("content", "is missing");
  return opened(content.case, content.value);
}

/** The sealed bytes of a record that is held, which was read before. Nothing is checked again. */
export function sealedOf(bytes: Uint8Array): Sealed {
  const { content } = decodeSealedRecord(bytes);
  assert(content.case !== undefined, "a record of the summary replica is empty");
  return content.value;
}

/** The summary in a record that is held. */
export function summaryIn(bytes: Uint8Array): Summary {
  return decodeSummary(sealedOf(bytes).signed);
}

/** Its tag alone. HOT: once a change. */
export function tagIn(bytes: Uint8Array): bigint {
  const reader = new WireReader(sealedOf(bytes).signed);
  let tag = 0n;
  while (!reader.isDone()) {
    const field = reader.tag();
    if (field === SERVICE_SUMMARY_TAG.tag) tag = reader.fixed64();
    else reader.skip(field);
  }
  return tag;
}

/** The text to sign. Throws `invalid_argument` for a summary that nobody would take. */
export function encodeSummary(summary: Summary): Uint8Array {
  const { latency, notAfterWallMs } = summary;
  const fields: ServiceSummaryFields = {
    namespace: summary.namespace,
    serviceId: summary.serviceId,
    regions: summary.regions,
    endpointCount: summary.endpointCount,
    healthBand: summary.band,
    ...((latency.minMs > 0 || latency.maxMs > 0) && { latencyBandMs: { min: latency.minMs, max: latency.maxMs } }),
    ttl: timeOf(summary.ttlMs),
    generatedAt: timeOf(summary.generatedWallMs),
    policyVersion: summary.policyVersion,
    sourceCluster: summary.source,
    scope: summary.channel,
    signature: NOTHING,
    keyId: summary.keyId,
    kind: summary.kind,
    version: summary.version,
    exporter: summary.exporter,
    ...(notAfterWallMs !== undefined && { notAfter: timeOf(notAfterWallMs) }),
    noStale: summary.noStale,
    withdrawn: summary.withdrawn,
    stale: false,
    signedBytes: NOTHING,
    policyNumber: summary.policyNumber,
    policyRule: summary.policyRule,
    tag: summary.tag,
  };
  return within(encodeServiceSummary(checked(fields, summaryFaults)), MAX_SUMMARY_BYTES);
}

export function decodeSummary(signed: Uint8Array): Summary {
  const fields = checked(decodeServiceSummary(within(signed, MAX_SUMMARY_BYTES)), summaryFaults);
  return {
    source: fields.sourceCluster,
    ...keyPartsOf({ ...fields, channel: fields.scope }),
    regions: fields.regions,
    endpointCount: fields.endpointCount,
    band: fields.healthBand as Band, // `summaryFaults` looks at it.
    latency: { minMs: fields.latencyBandMs?.min ?? 0, maxMs: fields.latencyBandMs?.max ?? 0 },
    policyVersion: fields.policyVersion,
    policyNumber: fields.policyNumber,
    policyRule: fields.policyRule,
    notAfterWallMs: fields.notAfter === undefined ? undefined : timeMs(fields.notAfter),
    noStale: fields.noStale,
    withdrawn: fields.withdrawn,
    version: fields.version,
    exporter: fields.exporter,
    keyId: fields.keyId,
    ttlMs: timeMs(fields.ttl),
    generatedWallMs: timeMs(fields.generatedAt),
    tag: fields.tag,
  };
}

/** The text to sign. Throws `invalid_argument` for a beacon that nobody would take; see `fitting`. */
export function encodeBeacon(beacon: Beacon): Uint8Array {
  return within(writeBeacon(checked(fieldsOfBeacon(beacon), beaconFaults)), MAX_BEACON_BYTES);
}

export function decodeBeacon(signed: Uint8Array): Beacon {
  const fields = checked(readBeacon(within(signed, MAX_BEACON_BYTES)), beaconFaults);
  const { sourceCluster: source, generatedAtMs: generatedWallMs, region, version, exporter, keyId, ttlMs } = fields;
  const ingress = fields.ingress.map(({ scope, ...rest }): IngressNode => ({ ...rest, scope: scope as Scope })); // The contract's rules look at it.
  const withdrawals: readonly Withdrawal[] = fields.withdrawals;
  return { source, region, version, exporter, keyId, ttlMs, generatedWallMs, ingress, withdrawals };
}

/** The beacon without what nobody would take of its ingress, and without the last withdrawals and ingress nodes for which it has no room. */
export function fitting(beacon: Beacon): Beacon {
  let { withdrawals } = beacon;
  let ingress = beacon.ingress.flatMap((node) => fittingNode(node) ?? []).slice(0, MAX_INGRESS);
  while (writeBeacon(fieldsOfBeacon({ ...beacon, ingress, withdrawals })).length > MAX_BEACON_BYTES) {
    // Withdrawals take turns, and those left out go first with the next beacon.
    if (withdrawals.length > 0) withdrawals = withdrawals.slice(0, withdrawals.length >> 1);
    else ingress = ingress.slice(0, ingress.length >> 1);
  }
  return { ...beacon, ingress, withdrawals };
}

/** The entry of a node may hold more, and longer, than others take in a beacon. Undefined of a node that has no URL for them. */
function fittingNode({ urls, scope, capabilities, tags }: IngressNode): IngressNode | undefined {
  const isTaken = (part: Partial<IngressNode>): boolean => {
    const problems = new FieldProblems(PROTOCOL_BOUNDS);
    checkIngressNode({ urls: [], scope, capabilities: [], tags: [], ...part }, problems);
    return problems.count === 0;
  };
  const first = <T>(items: readonly T[], max: number, isGood: (item: T) => boolean) => items.filter(isGood).slice(0, max);
  const node = {
    urls: first(urls, MAX_URLS, (url) => isTaken({ urls: [url] })),
    scope,
    capabilities: first(capabilities, MAX_WORDS, (word) => isTaken({ capabilities: [word] })),
    tags: first(tags, MAX_WORDS, (word) => isTaken({ tags: [word] })),
  };
  return node.urls.length === 0 ? undefined : node;
}

/** What the signed bytes of `src/signing/codec.ts` announce. */
export function decodeAnnouncement(signed: Uint8Array): KeyAnnouncement {
  checked(readKeyAnnouncement(within(signed, MAX_BEACON_BYTES)), announcementFaults);
  const announcement = readAnnouncement(signed);
  if (announcement === undefined) throw invalid("key", "contradicts itself");
  return announcement;
}

const NOTHING = new Uint8Array();

function checkOuter(sealed: Sealed): void {
  checked(sealed, (value, problems) => {
    checkSealed(value, problems);
    checkSignature(value.signature, "signature", problems);
  });
}

function within(signed: Uint8Array, maxBytes: number): Uint8Array {
  if (signed.length > maxBytes) throw invalid("signed_text", `has ${signed.length} bytes, at most ${maxBytes}`);
  return signed;
}

/** Gives back what breaks no rule. Throws `invalid_argument` naming the fields of what does. */
function checked<Message>(message: Message, faultsOf: (message: Message, problems: FieldProblems) => void): Message {
  const problems = new FieldProblems(PROTOCOL_BOUNDS);
  faultsOf(message, problems);
  problems.throwIfAny();
  return message;
}

function summaryFaults(fields: ServiceSummaryFields, problems: FieldProblems): void {
  checkServiceSummary(fields, problems);
  keyFaults({ ...fields, channel: fields.scope }, "scope", problems);
  problems.items(fields.regions.length, MAX_REGIONS, "regions");
  problems.range(fields.healthBand, BAND.HEALTHY, BAND.CRITICAL, "health_band");
  if (timeMs(fields.ttl) < 1) problems.add("ttl", "must be at least 1 ms");
  if (fields.signature.length > 0) problems.add("signature", "is no part of what is signed");
  if (fields.signedBytes.length > 0) problems.add("signed_bytes", "is no part of what is signed");
  if (fields.stale) problems.add("stale", "is no part of what is signed");
  if (fields.tag === 0n) problems.add("tag", "is missing");
}

function beaconFaults(fields: BeaconFields, problems: FieldProblems): void {
  checkBeacon(fields, problems);
  problems.items(fields.ingress.length, MAX_INGRESS, "ingress");
  for (const [i, { urls, capabilities, tags }] of fields.ingress.entries()) {
    problems.items(urls.length, MAX_URLS, `ingress[${i}].urls`);
    problems.items(capabilities.length, MAX_WORDS, `ingress[${i}].capabilities`);
    problems.items(tags.length, MAX_WORDS, `ingress[${i}].tags`);
  }
  problems.items(fields.withdrawals.length, 100, "withdrawals");
  problems.range(fields.version, 1, MAX_VERSION, "version");
  problems.range(fields.generatedAtMs, 0, MAX_WALL_MS, "generated_at_ms");
  if (fields.ttlMs < 1) problems.add("ttl_ms", "must be at least 1 ms");
  for (const [i, { tag, version }] of fields.withdrawals.entries()) {
    if (tag === 0n) problems.add(`withdrawals[${i}].tag`, "is missing");
    problems.range(version, 1, MAX_VERSION, `withdrawals[${i}].version`);
  }
}

function announcementFaults(fields: KeyAnnouncementFields, problems: FieldProblems): void {
  checkKeyAnnouncement(fields, problems);
  problems.pattern(fields.keyId, KEY_ID, "key_id");
  problems.pattern(fields.signedBy, KEY_ID, "signed_by");
  checkSignature(fields.holderSignature, "holder_signature", problems);
  problems.range(fields.notBeforeMs, 1, MAX_WALL_MS, "not_before_ms");
}

function checkSignature({ length }: Uint8Array, field: string, problems: FieldProblems): void {
  if (length !== 0 && length !== SIGNATURE_BYTES) problems.add(field, `has ${length} bytes, must have 64 or none`);
}

interface KeyFields {
  readonly kind: number;
  readonly namespace: string;
  readonly serviceId: string;
  readonly channel: number;
}

/** Beyond the contract's rules: what is summarised, and how far that may be shown. */
function keyFaults({ kind, channel, version }: KeyFields & { readonly version: number }, field: string, problems: FieldProblems): void {
  problems.range(kind, KIND.SERVICE, KIND.CACHE, "kind");
  problems.range(channel, SCOPE.ZONE, SCOPE.GLOBAL, field);
  problems.range(version, 1, MAX_VERSION, "version");
}

function keyPartsOf({ kind, namespace, serviceId, channel }: KeyFields) {
  return { kind: kind as Kind, namespace, serviceId, channel: channel as Channel }; // `keyFaults` looks at them.
}

function fieldsOfBeacon(beacon: Beacon): BeaconFields {
  const { source: sourceCluster, generatedWallMs: generatedAtMs, region, version, exporter, keyId, ttlMs, ingress, withdrawals } = beacon;
  return {
    sourceCluster,
    region,
    generatedAtMs,
    version,
    exporter,
    keyId,
    ttlMs,
    ingress: ingress satisfies readonly IngressNodeFields[],
    withdrawals,
  };
}
