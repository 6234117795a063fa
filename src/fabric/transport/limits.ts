/** What a peer, and all peers together, may make the fabric's sockets hold, and for how long. None of it is a setting. */
import { CONNECTION_LIMITS, type ConnectionLimits } from "../../grpc/server/connection-limits.ts";
import type { OptionsOf } from "../../lib/machine.ts";
import { LINKS_FIXED } from "../links/options.ts";

export const TRANSPORT_LIMITS = {
  /** A quiet connection is pinged after this. */
  keepaliveTimeMs: 10_000,
  /** A ping unanswered for so long ends the connection. */
  keepaliveTimeoutMs: 5_000,
  /** A peer that takes nothing of a frame for so long loses the link. */
  stuckMs: 30_000,
  /** For what is still to be sent when a link is closed. */
  drainMs: 5_000,
  /** From our half-close to the end of the stream, and from there to the end of the connection. */
  goodbyeMs: 1_000,
  /** Connections that others opened. */
  maxConnections: 2_048,
  /** Those of them that showed nothing that counts here: the oldest goes when another comes, so that strangers keep no peer out. */
  maxUnprovenConnections: 512,
  /** Those by the gates of borders, which leave the rest to members, and those by one gate: two regions have four links at most. */
  maxBorderConnections: 256,
  maxConnectionsOfBorder: 16,
  maxStreamsPerConnection: 64,
  /** Links that others opened. */
  maxIncomingLinks: 512,
  /** Those of them by the gate of one border. */
  maxLinksOfBorder: 16,
  /** From the opening of a link by another node to its first frame. */
  helloTimeoutMs: LINKS_FIXED.helloTimeoutMs,
  /** To open a link: TCP, TLS, HTTP/2 and the other side's consent. */
  openTimeoutMs: 5_000,
  /** Calls of others that wait for our answer; those of strangers are counted apart. */
  maxIncomingCalls: 1_024,
  /** Calls of strangers that have not wholly arrived. */
  maxStrangerCalls: 64,
  /** Longest a call of another may take, its arrival included. */
  answerTimeoutMs: 10_000,
  /** Largest message received. */
  maxMessageBytes: 4_194_304,
  /** Largest of a stranger: enough to say who it is. */
  maxStrangerBytes: 4_096,
  /** Of messages that have not wholly arrived. */
  maxBufferedBytes: 67_108_864,
  /** Connections for calls of ours. */
  maxChannels: 64,
  /** Calls of ours that wait for an answer. */
  maxCalls: 256,
  /** A connection for calls of ours is closed after so long without one; one that others opened after twice as long. */
  idleMs: 30_000,
} as const;

export type TransportLimits = OptionsOf<typeof TRANSPORT_LIMITS>;

/** Bytes that a peer may send on a stream before we took them: two frames of records. */
const WINDOW_BYTES = 524_288;

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

/** Limits of one connection to the listener. Nodes open few streams and rarely reset one, so the limits are lower than for other clients. */
export const PEER_LIMITS: ConnectionLimits = { ...CONNECTION_LIMITS, unreadBytes: WINDOW_BYTES, resetBurst: 100, resetsPerSecond: 20 };

/** The listener. */
export function serverLimits(limits: TransportLimits) {
  const { maxConnections, maxStreamsPerConnection, maxMessageBytes, maxBufferedBytes, keepaliveTimeMs, keepaliveTimeoutMs } = limits;
  return {
    ...CONNECTION,
    maxReceiveBytes: maxMessageBytes,
    maxBufferedBytes,
    maxStreams: maxConnections * maxStreamsPerConnection,
    maxStreamsPerConnection,
    // Calls and links have shorter times of their own, which end with a status.
    requestTimeoutMs: 2 * Math.max(limits.answerTimeoutMs, limits.helloTimeoutMs),
    maxInvalidFrames: 10,
    keepaliveTimeMs,
    keepaliveTimeoutMs,
    idleTimeoutMs: 2 * limits.idleMs,
    // The connections of nodes last.
    maxConnectionAgeMs: 0,
    maxConnectionAgeGraceMs: 0,
  };
}
