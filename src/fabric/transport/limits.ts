/** What a peer, and all peers together, may make the fabric's sockets hold, and for how long. None of it is a setting. */
import { LINKS_FIXED } from "../links/options.ts";
import type { IncomingCallLimits } from "./incoming-calls.ts";
import type { IncomingLinkLimits } from "./incoming-links.ts";

export interface TransportLimits extends IncomingLinkLimits, IncomingCallLimits {
  /** A quiet connection is pinged after this. */
  readonly keepaliveTimeMs: number;
  /** A ping unanswered for so long ends the connection. */
  readonly keepaliveTimeoutMs: number;
  /** Connections that others opened. */
  readonly maxConnections: number;
  /** Those of them that showed nothing that counts here: the oldest goes when another comes, so that strangers keep no peer out. */
  readonly maxUnprovenConnections: number;
  readonly maxStreamsPerConnection: number;
  /** To open a link: TCP, TLS, HTTP/2 and the other side's consent. */
  readonly openTimeoutMs: number;
  /** Connections for calls of ours. */
  readonly maxChannels: number;
  /** Calls of ours that wait for an answer. */
  readonly maxCalls: number;
  /** A connection for calls of ours is closed after so long without one; one that others opened after twice as long. */
  readonly idleMs: number;
}

export const TRANSPORT_LIMITS: TransportLimits = {
  keepaliveTimeMs: 10_000,
  keepaliveTimeoutMs: 5_000,
  stuckMs: 30_000,
  drainMs: 5_000,
  goodbyeMs: 1_000,
  maxConnections: 2_048,
  maxUnprovenConnections: 512,
  maxStreamsPerConnection: 64,
  maxIncomingLinks: 512,
  helloTimeoutMs: LINKS_FIXED.helloTimeoutMs,
  openTimeoutMs: 5_000,
  maxIncomingCalls: 1_024,
  maxStrangerCalls: 64,
  answerTimeoutMs: 10_000,
  maxMessageBytes: 4_194_304,
  maxStrangerBytes: 4_096,
  maxBufferedBytes: 67_108_864,
  maxChannels: 64,
  maxCalls: 256,
  idleMs: 30_000,
};

/** Bytes that a peer may send on a stream before we took them: two frames of records. */
export const WINDOW_BYTES = 524_288;

/** Of every HTTP/2 connection between nodes, at either end. */
const CONNECTION = {
  maxSendBytes: 2 ** 32 - 1,
  maxSessionMemoryMiB: 16,
  maxHeaderPairs: 32,
  maxHeaderListBytes: 16_384,
  streamWindowBytes: WINDOW_BYTES,
  connectionWindowBytes: WINDOW_BYTES,
} as const;

/** A connection that we opened. */
export function clientLimits({ maxMessageBytes, maxCalls, keepaliveTimeMs, keepaliveTimeoutMs }: TransportLimits) {
  const received = { maxReceiveBytes: maxMessageBytes, maxBufferedBytes: 2 * maxMessageBytes };
  return { ...CONNECTION, ...received, maxCalls, keepaliveTimeMs, keepaliveTimeoutMs };
}

/** The listener. Nodes open few streams and reset hardly any, so that less is allowed than to other clients. */
export function serverLimits(limits: TransportLimits) {
  const { maxConnections, maxStreamsPerConnection, maxMessageBytes, maxBufferedBytes, keepaliveTimeMs, keepaliveTimeoutMs } = limits;
  return {
    ...CONNECTION,
    maxReceiveBytes: maxMessageBytes,
    maxBufferedBytes,
    maxStreams: maxConnections * maxStreamsPerConnection,
    maxStreamsPerConnection,
    burstStreams: maxStreamsPerConnection,
    // Calls and links have shorter times of their own, which end with a status.
    requestTimeoutMs: 2 * Math.max(limits.answerTimeoutMs, limits.helloTimeoutMs),
    streamResetBurst: 100,
    streamResetPerSecond: 20,
    maxInvalidFrames: 10,
    keepaliveTimeMs,
    keepaliveTimeoutMs,
    idleTimeoutMs: 2 * limits.idleMs,
    // The connections of nodes last.
    maxConnectionAgeMs: 0,
    maxConnectionAgeGraceMs: 0,
  };
}
