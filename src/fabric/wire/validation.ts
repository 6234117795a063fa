/** What a field of a message from another node may be: names, addresses, counts, numbers. Everything else is refused by its field. */
import { isName, quoted } from "../../catalog/entry/names.ts";
import { isSeq } from "../../catalog/record/codec.ts";
import { NODE_BOUNDS, POLICY_BOUNDS } from "../../lib/bounds.ts";
import { invalid } from "../../lib/errors.ts";
import { WORST_SCORE } from "../membership/suspicion.ts";
import type { HandOverFrame, VectorEntry } from "./messages.ts";

/** Bounds of what nodes say to each other; each is passed by no honest node of the same settings. */
export interface MessageBounds {
  /** Of ids, roles, transports, capabilities, in characters. */
  readonly maxIdLength: number;
  readonly maxAddressLength: number;
  /** Of a program version, in characters. */
  readonly maxVersionLength: number;
  /** Of a cluster token, in characters. */
  readonly maxTokenLength: number;
  /** Of what a farewell tells people, in characters; more is cut. */
  readonly maxDetailLength: number;
  /** Each of protocol versions, transports, roles, capabilities, as far as they are read; `update-rules.ts` says how many are taken. */
  readonly maxListItems: number;
  /** Clusters that a hello names as those whose policy is taken; the setting `policy.accept_from` has as many. */
  readonly maxPolicyFrom: number;
  readonly maxLabels: number;
  readonly maxLabelKeyLength: number;
  /** In characters. */
  readonly maxLabelValueLength: number;
  /** Updates in a probe. */
  readonly maxUpdates: number;
  /** Members in a push–pull. */
  readonly maxMembers: number;
  readonly maxVectorEntries: number;
  /** Node ids in a `linked`, origins in a `digests`. */
  readonly maxOrigins: number;
  readonly maxRecords: number;
  /** Of the records of a frame, unless it has one alone: the most that any version sends. */
  readonly maxRecordsBytes: number;
  /** Numbers in a `handOver`. */
  readonly maxOffered: number;
  readonly maxPolicyPartBytes: number;
  readonly maxPolicyBytes: number;
  /** Longest wait one may ask of another, in ms. */
  readonly maxTimeoutMs: number;
}

export const MESSAGE_BOUNDS: MessageBounds = {
  maxIdLength: NODE_BOUNDS.maxIdLength,
  maxPolicyFrom: NODE_BOUNDS.maxPolicyFrom,
  maxAddressLength: NODE_BOUNDS.maxAddressLength,
  maxVersionLength: NODE_BOUNDS.maxVersionLength,
  maxTokenLength: 1_024,
  maxDetailLength: 256,
  maxListItems: 64,
  maxLabels: NODE_BOUNDS.maxLabels,
  maxLabelKeyLength: NODE_BOUNDS.maxLabelKeyLength,
  maxLabelValueLength: NODE_BOUNDS.maxLabelValueLength,
  maxUpdates: 256,
  maxMembers: 10_000,
  maxVectorEntries: 10_000,
  maxOrigins: 256,
  maxRecords: 16_384,
  maxRecordsBytes: 65_536,
  maxOffered: 1_024,
  maxPolicyPartBytes: 262_144,
  maxPolicyBytes: POLICY_BOUNDS.maxVersionBytes,
  maxTimeoutMs: 60_000,
};

const PRINTABLE = /^[\x20-\x7e]*$/;
// A host as a name, an IPv4 literal, or an IPv6 literal in brackets.
const ADDRESS = /^(?:[A-Za-z0-9._-]{1,253}|\[(?=[^\]]{1,253}\])[0-9A-Fa-f:.]+(?:%[A-Za-z0-9._-]+)?\]):(\d{1,5})$/;

/** 1 to 64 of the alphabet of names. */
export function idField(text: string, field: string, bounds: MessageBounds): string {
  if (!isName(text, bounds.maxIdLength)) throw invalid(field, `${quoted(text)} must be 1 to ${bounds.maxIdLength} of [A-Za-z0-9._:/@+-]`);
  return text;
}

/** An id, or empty where nobody is meant. */
export function optionalIdField(text: string, field: string, bounds: MessageBounds): string {
  return text === "" ? text : idField(text, field, bounds);
}

/** `host:port` with a port from 1. */
export function addressField(text: string, field: string, bounds: MessageBounds): string {
  const port = text.length <= bounds.maxAddressLength ? Number(ADDRESS.exec(text)?.[1] ?? 0) : 0;
  if (port < 1 || port > 65_535) throw invalid(field, `${quoted(text)} must be host:port, an IPv6 host in brackets`);
  return text;
}

/** Printable ASCII of at most `maxLength` characters; may be empty. */
export function textField(text: string, field: string, maxLength: number): string {
  if (text.length > maxLength || !PRINTABLE.test(text))
    throw invalid(field, `${quoted(text)} must be at most ${maxLength} printable ASCII characters`);
  return text;
}

/** What a peer says to people: cut, and without surprises for a terminal; never a reason to refuse. */
export function detailField(text: string, bounds: MessageBounds): string {
  return text.slice(0, bounds.maxDetailLength).replaceAll(/[^\x20-\x7e]/g, "?");
}

/** At most 2^53 - 1. */
export function numberField(value: bigint, field: string): number {
  const number = Number(value);
  if (!Number.isSafeInteger(number)) throw invalid(field, `${value} must be at most 2^53 - 1`);
  return number;
}

/**
 * Whether somebody can count on from what an entry of a vector says. One that says more says nothing, and the rest of its frame counts:
 * an older node passes on what it was told.
 */
export function isCountable({ generation, seq, floor, lackingThrough = 0 }: VectorEntry): boolean {
  return isSeq(generation) && isSeq(seq) && isSeq(floor) && isSeq(lackingThrough);
}

/** Throws when there are more than `max`. */
export function checkCount(count: number, field: string, max: number): void {
  if (count > max) throw invalid(field, `${count} are more than ${max}`);
}

export function idsField(
  texts: readonly string[],
  field: string,
  bounds: MessageBounds,
  max: number = bounds.maxListItems,
): readonly string[] {
  checkCount(texts.length, field, max);
  for (const text of texts) idField(text, field, bounds);
  return texts;
}

export function versionsField(versions: readonly number[], field: string, bounds: MessageBounds): readonly number[] {
  checkCount(versions.length, field, bounds.maxListItems);
  return versions;
}

export function labelsField(
  labels: Readonly<Record<string, string>>,
  field: string,
  bounds: MessageBounds,
): Readonly<Record<string, string>> {
  const keys = Object.keys(labels);
  checkCount(keys.length, field, bounds.maxLabels);
  for (const key of keys) {
    if (!isName(key, bounds.maxLabelKeyLength))
      throw invalid(field, `key ${quoted(key)} must be 1 to ${bounds.maxLabelKeyLength} of [A-Za-z0-9._:/@+-]`);
    const value = labels[key] ?? "";
    if (value.length > bounds.maxLabelValueLength)
      throw invalid(field, `value of ${key} is longer than ${bounds.maxLabelValueLength} characters`);
  }
  return labels;
}

/** A version that counts further is at our worst. */
export function healthScoreField(score: number): number {
  return Math.min(score, WORST_SCORE);
}

/** Lower-case hex of a SHA-256, or empty. */
export function checksumField(text: string, field: string): string {
  if (text !== "" && !/^[0-9a-f]{64}$/.test(text)) throw invalid(field, `${quoted(text)} must be 64 lower-case hex digits`);
  return text;
}

interface PlaceFields {
  readonly clusterId: string;
  readonly region: string;
  readonly zone: string;
  readonly address: string;
  readonly version: string;
}

/** Where a node is and what it runs, as hellos and updates say it. */
export function placeFields({ clusterId, region, zone, address, version }: PlaceFields, of: string, bounds: MessageBounds): PlaceFields {
  return {
    clusterId: idField(clusterId, `${of}.cluster_id`, bounds),
    region: idField(region, `${of}.region`, bounds),
    zone: optionalIdField(zone, `${of}.zone`, bounds),
    address: addressField(address, `${of}.address`, bounds),
    version: textField(version, `${of}.version`, bounds.maxVersionLength),
  };
}

export function handOverOf(
  { seqs, refused }: { readonly seqs: readonly bigint[]; readonly refused: boolean },
  bounds: MessageBounds,
): HandOverFrame {
  checkCount(seqs.length, "hand_over.seqs", bounds.maxOffered);
  return { kind: "handOver", seqs: seqs.map((seq) => numberField(seq, "hand_over.seqs")), isRefused: refused };
}
