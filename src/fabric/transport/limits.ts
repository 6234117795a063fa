/** Memory and time limits on the fabric's sockets, for each peer and for all peers together. None of them is a setting. */
import { CONNECTION_LIMITS, type ConnectionLimits } from "../../grpc/server/connection-limits.ts";
import type { OptionsOf } from "../../lib/machine.ts";
import { LINKS_FIXED } from "../links/options.ts";

export const TRANSPORT_LIMITS = {
  /** A connection is pinged after it has been idle for this long. */
  keepaliveTimeMs: 10_000,
  /** A connection is closed if a ping is not answered within this time. */
  keepaliveTimeoutMs: 5_000,
  /** A link is closed if its peer does not read any part of a frame for this long. */
  stuckMs: 30_000,
  /** Time for sending the remaining frames when a link is closed. */
  drainMs: 5_000,
  /** Maximum time from this node's half-close to the end of the stream, and from there to the end of the connection. */
  goodbyeMs: 1_000,
  /** Incoming connections. */
  maxConnections: 2_048,
  /**
   * Maximum number of unauthenticated connections among them. If there are more, the oldest one is closed, so that unknown peers cannot lock out
   * known peers.
   */
  maxUnprovenConnections: 512,
  /**
   * Maximum number of connections through the gates of all borders, and through the gate of one border. The remaining connections are reserved for
   * members. Two regions have at most four links.
   */
  maxBorderConnections: 256,
  maxConnectionsOfBorder: 16,
  maxStreamsPerConnection: 64,
  /** Incoming links. */
  maxIncomingLinks: 512,
  /** Maximum number of incoming links through the gate of one border. */
  maxLinksOfBorder: 16,
  /** Maximum time from the opening of an incoming link to its first frame. */
  helloTimeoutMs: LINKS_FIXED.helloTimeoutMs,
  /** Maximum time to open a link, including TCP, TLS, HTTP/2, and acceptance by the other side. */
  openTimeoutMs: 5_000,
  /** Maximum number of incoming calls that are waiting for this node's answer. Calls from unknown peers are counted separately. */
  maxIncomingCalls: 1_024,
  /** Maximum number of calls from unknown peers that have not fully arrived. */
  maxStrangerCalls: 64,
  /** Maximum duration of an incoming call, including the time for receiving it. */
  answerTimeoutMs: 10_000,
  /** Maximum size of a received message. */
  maxMessageBytes: 4_194_304,
  /** Maximum size of a message from an unknown peer, which is enough for the peer to identify itself. */
  maxStrangerBytes: 4_096,
  /** Maximum number of buffered bytes in messages that have not fully arrived. */
  maxBufferedBytes: 67_108_864,
  /** Maximum number of outgoing connections for calls. */
  maxChannels: 64,
  /** Maximum number of outgoing calls that are waiting for an answer. */
  maxCalls: 256,
  /** An outgoing connection for calls is closed after this time without a call. An incoming connection is closed after twice this time. */
  idleMs: 30_000,
} as const;

export type TransportLimits = OptionsOf<typeof TRANSPORT_LIMITS>;

/** Number of bytes that a peer may send on a stream before this node has read them, which is enough for two frames of records. */
const WINDOW_BYTES = 524_288;

/** Limits of every HTTP/2 connection between nodes, on both sides. */
const CONNECTION = {
  maxSendBytes: 2 ** 32 - 1,
  maxSessionMemoryMiB: 16,
  maxHeaderPairs: 32,
  maxHeaderListBytes: 16_384,
  streamWindowBytes: WINDOW_BYTES,
  connectionWindowBytes: WINDOW_BYTES,
} as const;

/** Limits of an outgoing connection. */
export function clientLimits({ maxMessageBytes, maxCalls, keepaliveTimeMs, keepaliveTimeoutMs }: TransportLimits) {
  const received = { maxReceiveBytes: maxMessageBytes, maxBufferedBytes: 2 * maxMessageBytes };
  return { ...CONNECTION, ...received, maxCalls, keepaliveTimeMs, keepaliveTimeoutMs };
}

/** Limits of one connection to the listener. Nodes open few streams and rarely reset them, so the limits are lower than for other clients. */
export const PEER_LIMITS: ConnectionLimits = { ...CONNECTION_LIMITS, unreadBytes: WINDOW_BYTES, resetBurst: 100, resetsPerSecond: 20 };

/** Limits of the listener. */
export function serverLimits(limits: TransportLimits) {
  const { maxConnections, maxStreamsPerConnection, maxMessageBytes, maxBufferedBytes, keepaliveTimeMs, keepaliveTimeoutMs } = limits;
  return {
    ...CONNECTION,
    maxReceiveBytes: maxMessageBytes,
    maxBufferedBytes,
    maxStreams: maxConnections * maxStreamsPerConnection,
    maxStreamsPerConnection,
    // Calls and links have shorter timeouts, which end them with a status.
    requestTimeoutMs: 2 * Math.max(limits.answerTimeoutMs, limits.helloTimeoutMs),
    maxInvalidFrames: 10,
    keepaliveTimeMs,
    keepaliveTimeoutMs,
    idleTimeoutMs: 2 * limits.idleMs,
    // Connections between nodes have no maximum age.
    maxConnectionAgeMs: 0,
    maxConnectionAgeGraceMs: 0,
  };
}
