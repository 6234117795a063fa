/**
 * The stream of one link, opened by either side. It forwards received frames, sends frames one at a time, and closes in an orderly way. It does not
 * do any I/O itself: its owner delivers received messages and provides the stream as a port. `links/links.ts` determines which frames are exchanged,
 * starting with the hello.
 */
import type { CallResult } from "../../grpc/client/client-call.ts";
import type { MethodCall } from "../../grpc/server/method.ts";
import { framed, PREFIX_BYTES } from "../../grpc/wire/message-reader.ts";
import { CODES, WaymarkError } from "../../lib/errors.ts";
import { decodeLinkFrame, encodeLinkFrame, encodeRecords } from "../wire/codec.ts";
import type { FabricCallRequest, LinkFrame, PeerIdentity } from "../wire/messages.ts";
import type { TransportLimits } from "./limits.ts";

/** Receiver of a stream's events. */
export interface LinkEvents {
  received(frame: LinkFrame): void;
  /** Returns the next frame to send, or undefined when there is none now. */
  pull(): LinkFrame | undefined;
  /** Called once, as the last event. */
  closed(detail: string): void;
}

/** A stream, and the connection that is used only by this stream. */
export interface LinkPort {
  /** Sends a frame that includes its prefix. Calls `accepted` when the peer's window and the socket have accepted the whole frame. */
  send(frame: Uint8Array, accepted: () => void): void;
  /** Ends this node's direction after all sent frames. */
  end(): void;
  /** Closes the connection after this many ms, even if data is still in transit. */
  cut(afterMs: number): void;
  /** Stops delivering messages until `resume`. */
  pause(): void;
  resume(): void;
}

export interface StreamClock {
  /** Stall-aware time, which is used for all timeouts that concern the peer. */
  readonly stallAwareMs: () => number;
  readonly monoMs: () => number;
  /** Runs `act` at the end of the current turn of the event loop. */
  readonly defer: (act: () => void) => void;
}

export interface LinkStreamParts {
  readonly port: LinkPort;
  readonly events: LinkEvents;
  readonly limits: Pick<TransportLimits, "stuckMs" | "drainMs" | "goodbyeMs">;
  readonly traffic: WireTraffic;
  readonly clock: StreamClock;
}

/** In one turn of the event loop, a link is read for at most this long, plus the time for the rest of its current frame. */
const TURN_MS = 5;

export class LinkStream {
  readonly #parts: LinkStreamParts;
  #state: "open" | "draining" | "ended" | "closed" = "open";
  /** Time at which the frame in flight was sent. Undefined when no frame is in flight. */
  #sendingSinceMs: number | undefined;
  /** Time at which draining began or, once this node's direction has ended, time at which it ended. */
  #closingMs = 0;
  /** Time at which the link was first read in this turn of the event loop. */
  #turnMonoMs: number | undefined;
  #isPaused = false;
  /** The link is not read before this time. */
  #restUntilMs: number | undefined;
  #isEndedByPeer = false;

  constructor(parts: LinkStreamParts) {
    this.#parts = parts;
  }

  /** Whether the peer ended the link, with a half-close or by disconnecting. */
  get isEndedByPeer(): boolean {
    return this.#isEndedByPeer;
  }

  /** Called when there may be something to send. */
  wake(): void {
    if (this.#sendingSinceMs === undefined && (this.#state === "open" || this.#state === "draining")) this.#pump();
  }

  /** Sends the remaining frames, then half-closes and waits for the peer for at most `goodbyeMs`. */
  close(): void {
    if (this.#state !== "open") return;
    this.#state = "draining";
    this.#closingMs = this.#parts.clock.stallAwareMs();
    this.wake();
  }

  /** Stops reading for this time. Once the peer's window is full, frames wait in its queue. */
  rest(forMs: number): void {
    this.#restUntilMs = Math.max(this.#restUntilMs ?? 0, this.#parts.clock.stallAwareMs() + forMs);
    this.#pause();
  }

  /** Ends the link immediately. */
  destroy(detail: string): void {
    this.#reportClosed(detail);
    this.#parts.port.cut(0);
  }

  /** Checks timeouts, using the stall-aware clock. Called about four times per second. */
  check(dueMs: number): void {
    const { stuckMs, drainMs, goodbyeMs } = this.#parts.limits;
    if (this.#restUntilMs !== undefined && dueMs >= this.#restUntilMs) {
      this.#restUntilMs = undefined;
      this.#resume();
    }
    if (this.#sendingSinceMs !== undefined && dueMs - this.#sendingSinceMs > stuckMs) this.destroy("the peer stopped reading");
    else if (this.#state === "draining" && dueMs - this.#closingMs > drainMs)
      this.destroy("the peer did not read the goodbye frame in time");
    else if (this.#state === "ended" && dueMs - this.#closingMs > goodbyeMs) this.destroy("closed");
  }

  /** Handles a received message. */
  // HOT: runs once per frame.
  message(bytes: Uint8Array): void {
    if (this.#state === "closed") return;
    try {
      const frame = decodeLinkFrame(bytes);
      this.#parts.traffic.count("received", frame.kind, bytes.length);
      this.#parts.events.received(frame);
    } catch (thrown) {
      if (!(thrown instanceof WaymarkError)) throw thrown;
      this.failed(thrown);
    }
    this.#lookAtTurn();
  }

  /** Called when the peer has ended its direction and all of its messages have been delivered. */
  halfClosed(): void {
    if (this.#state === "closed") return;
    this.#isEndedByPeer = this.#state === "open";
    this.#parts.port.end();
    this.#reportClosed(this.#isEndedByPeer ? "the peer ended the link" : "closed");
  }

  /** Called when received bytes are not a valid frame. Sends a goodbye to the peer if possible. */
  failed({ message: detail }: { readonly message: string }): void {
    if (this.#state === "closed") return;
    if (this.#sendingSinceMs === undefined && this.#state !== "ended") {
      this.#parts.port.send(framed(encodeLinkFrame({ kind: "goodbye", reason: "bad_frame", detail })), () => {});
      this.#parts.port.end();
    }
    this.#reportClosed(`invalid frame: ${detail}`);
  }

  /** Called when an outgoing link's call has ended. */
  ended({ status, isFromServer, isMalformed }: Pick<CallResult, "status" | "isFromServer" | "isMalformed">): void {
    if (isFromServer && status.code === CODES.OK) this.halfClosed();
    else this.lost(isMalformed ? `invalid frame: ${status.message}` : status.message);
  }

  /** Called when the stream has been lost. */
  lost(detail: string): void {
    if (this.#state === "closed") return;
    this.#isEndedByPeer = this.#state === "open";
    this.destroy(detail);
  }

  /** A peer that sends thousands of small frames in a burst is read for only a few milliseconds per turn, so that other links get their turns. */
  #lookAtTurn(): void {
    const { clock } = this.#parts;
    const nowMs = clock.monoMs();
    if (this.#turnMonoMs === undefined) {
      this.#turnMonoMs = nowMs;
      clock.defer(() => this.#endTurn());
    } else if (nowMs - this.#turnMonoMs >= TURN_MS) this.#pause();
  }

  #endTurn(): void {
    this.#turnMonoMs = undefined;
    this.#resume();
  }

  #pause(): void {
    if (this.#isPaused) return;
    this.#isPaused = true;
    this.#parts.port.pause();
  }

  #resume(): void {
    if (!this.#isPaused || this.#restUntilMs !== undefined) return;
    this.#isPaused = false;
    this.#parts.port.resume();
  }

  #pump(): void {
    const { events, port, traffic, clock } = this.#parts;
    const frame = events.pull();
    if (frame === undefined) {
      if (this.#state === "draining") this.#end();
      return;
    }
    // Frames of records are sent on many links, so their prefix is cached with their encoding.
    const bytes = frame.kind === "records" ? encodeRecords(frame).framed : framed(encodeLinkFrame(frame));
    traffic.count("sent", frame.kind, bytes.length - PREFIX_BYTES);
    this.#sendingSinceMs = clock.stallAwareMs();
    // At most one message is in flight, regardless of the peer's speed.
    port.send(bytes, () => {
      this.#sendingSinceMs = undefined;
      this.wake();
    });
  }

  #end(): void {
    this.#state = "ended";
    this.#closingMs = this.#parts.clock.stallAwareMs();
    this.#parts.port.end();
  }

  /** Reports that the link is closed, and closes the connection, because neither side needs it any longer. */
  #reportClosed(detail: string): void {
    if (this.#state === "closed") return;
    this.#state = "closed";
    this.#sendingSinceMs = undefined;
    this.#parts.port.cut(this.#parts.limits.goodbyeMs);
    this.#parts.events.closed(detail);
  }
}

// Traffic between nodes, for the metrics: messages and bytes of links and calls, by direction and kind.

type TrafficDirection = "sent" | "received";
export type TrafficKind = LinkFrame["kind"] | FabricCallRequest["kind"];

export interface TrafficRow {
  readonly direction: TrafficDirection;
  readonly kind: TrafficKind;
  readonly frameCount: number;
  /** Number of bytes in encoded messages, without the framing of gRPC and HTTP/2. */
  readonly sizeBytes: number;
}

/** Counts traffic. It has one row for each direction and kind that has occurred. */
export class WireTraffic {
  readonly #rows = new Map<string, { direction: TrafficDirection; kind: TrafficKind; frameCount: number; sizeBytes: number }>();

  count(direction: TrafficDirection, kind: TrafficKind, sizeBytes: number): void {
    const key = `${direction} ${kind}`;
    let row = this.#rows.get(key);
    if (row === undefined) {
      row = { direction, kind, frameCount: 0, sizeBytes: 0 };
      this.#rows.set(key, row);
    }
    row.frameCount += 1;
    row.sizeBytes += sizeBytes;
  }

  rows(): readonly TrafficRow[] {
    return [...this.#rows.values()];
  }
}

// Types that the methods of `FabricService` share: the calling peer, and the dependencies of the handlers.

/** Header with the cluster token, for a call on a connection without a certificate. */
export const TOKEN_HEADER = "waymark-cluster-token";

/** The calling peer, and the connection of its call. */
export interface CallingPeer {
  readonly identity: PeerIdentity;
  /** Called when a hello with this cluster token arrived on a link. */
  readonly onHello: (clusterToken: string) => void;
  /** Closes the connection after this time in ms. */
  readonly cut: (afterMs: number) => void;
  /** The reason why this node closed the connection. Undefined if it did not close the connection. */
  readonly whyCut: () => string | undefined;
}

export interface ServiceParts<Events> {
  readonly limits: TransportLimits;
  readonly events: Events & {
    /** Called when a peer has been refused. */
    refused(why: string, address: string): void;
  };
  readonly traffic: WireTraffic;
  readonly clock: StreamClock;
  /** Throws if no more calls can be accepted. */
  readonly peerOf: (call: MethodCall) => CallingPeer;
}
