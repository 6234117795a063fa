/**
 * What clusters tell each other in place of entries: summaries of services, and beacons, with which a cluster says that it lives
 * (docs/design/summaries.md). These are the plain values; `codec.ts` knows their bytes.
 */
import { SCOPE, type Scope } from "../catalog/entry/scope.ts";
import type { Kind } from "../catalog/record/record.ts";

/** How far a summary may be shown: ZONE, REGION or GLOBAL. Only GLOBAL crosses regions. */
export type Channel = Exclude<Scope, 0 | 1>;

/** The health of a service, with its numbers on the wire (`waymark.catalog.v1.HealthBand`). */
export const BAND = { HEALTHY: 1, DEGRADED: 2, CRITICAL: 3 } as const;
export type Band = (typeof BAND)[keyof typeof BAND];

/** The identity of a summary: one service of one cluster, on one channel. */
export interface SummaryKey {
  /** Identifier of the cluster that the summary is about. */
  readonly source: string;
  /** SERVICE, FUNCTION, TOPIC, QUEUE or CACHE. */
  readonly kind: Kind;
  readonly namespace: string;
  readonly serviceId: string;
  readonly channel: Channel;
}

/** What a cluster says of one of its services, before it is numbered and signed. */
export interface SummaryFacts extends SummaryKey {
  /** Regions in which the service has endpoints, sorted. */
  readonly regions: readonly string[];
  readonly endpointCount: number;
  readonly band: Band;
  /** 10th and 90th percentile of the reported latencies in ms, each rounded to a power of two. 0 and 0 when none was reported. */
  readonly latency: { readonly minMs: number; readonly maxMs: number };
  /** The policy set under which it was exported: its author's label, its number, and the pattern of the rule. Empty or 0 without one. */
  readonly policyVersion: string;
  readonly policyNumber: number;
  readonly policyRule: string;
  /** The end of the cutover window that lets it out, in ms since 1970. It binds every reader. Undefined without one. */
  readonly notAfterWallMs: number | undefined;
  /** Its rule has windows: it is not shown once its source is lost. */
  readonly noStale: boolean;
  /** The source no longer exports the service. */
  readonly withdrawn: boolean;
}

/** The policy under which something is said of a service: its label, its number, and the pattern of the rule that decides, empty without one. */
export type SaidUnder = Pick<SummaryFacts, "noStale" | "policyNumber" | "policyRule" | "policyVersion">;

/** A summary as it is signed. */
export interface Summary extends SummaryFacts {
  /** 1 + the highest known of the key; a new key starts at the Unix time in seconds. At most 2^52. */
  readonly version: number;
  /** Identifier of the node that made it. */
  readonly exporter: string;
  readonly keyId: string;
  readonly ttlMs: number;
  readonly generatedWallMs: number;
  /** Stands for the key where it may not be named. Only the cluster can make it; 64 bits, never 0. */
  readonly tag: bigint;
}

/** A node at which a cluster accepts calls from others. */
export interface IngressNode {
  readonly urls: readonly string[];
  readonly scope: Scope;
  readonly capabilities: readonly string[];
  readonly tags: readonly string[];
}

/** A summary that its source took back, as beacons name it: neighbours hear of it that may not know the service. */
export interface Withdrawal {
  readonly tag: bigint;
  readonly version: number;
}

/** A cluster says that it lives, which confirms all its summaries for `ttlMs`. */
export interface Beacon {
  readonly source: string;
  readonly region: string;
  readonly version: number;
  readonly exporter: string;
  readonly keyId: string;
  readonly ttlMs: number;
  readonly generatedWallMs: number;
  /** At most 32. */
  readonly ingress: readonly IngressNode[];
  /** Some of those that the source remembers, at most 100, in turn. */
  readonly withdrawals: readonly Withdrawal[];
}

/** Signed bytes as they were made. Nobody encodes them again. */
export interface Sealed {
  /** The text that was signed, without the context. */
  readonly signed: Uint8Array;
  /** 64 bytes of Ed25519. Empty when it is not signed. */
  readonly signature: Uint8Array;
  /** Border links that it has passed. */
  readonly hops: number;
}

/** Why a summary or beacon is not taken. */
export const SUMMARY_REFUSALS = [
  "unsigned",
  "unknown_key",
  "bad_signature",
  "stale",
  "future",
  "older",
  "not_owner",
  "echo",
  "conflict",
  "limit",
] as const;
export type SummaryRefusal = (typeof SUMMARY_REFUSALS)[number];

/** How long readers may keep a summary of this channel: `ttlMs` on GLOBAL, and half as long on each narrower one. */
export function channelTtlMs(ttlMs: number, channel: Channel): number {
  return Math.ceil(ttlMs / 2 ** (SCOPE.GLOBAL - channel));
}

/** The highest version. It leaves room for arithmetic, as seqs do. */
export const MAX_VERSION: number = 2 ** 52;
/** The most nodes that a beacon names. */
export const MAX_INGRESS = 32;
/** The most regions that a summary names. */
export const MAX_REGIONS = 64;
/** Most border links that a summary passes. */
export const MAX_HOPS = 8;
