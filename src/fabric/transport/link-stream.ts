/**
 * One link's stream, whichever side opened it: frames in as they come, frames out one at a time, and an orderly end. It does no I/O itself:
 * it is told what comes, and given the stream as a port. What is said on it, the greeting first, is decided in `links/links.ts`.
 */
import type { CallResult } from "../../grpc/client/client-call.ts";
import type { MethodCall } from "../../grpc/server/method.ts";
import { framed, PREFIX_BYTES } from "../../grpc/wire/message-reader.ts";
import { CODES, WaymarkError } from "../../lib/errors.ts";
import { decodeLinkFrame, encodeLinkFrame, encodeRecords } from "../wire/codec.ts";
import type { FabricCallRequest, LinkFrame, PeerIdentity } from "../wire/messages.ts";
import type { TransportLimits } from "./limits.ts";

/** Whom a stream tells. */
export interface LinkEvents {
  received(frame: LinkFrame): void;
  /** The next frame to send; undefined when there is none now. */
  pull(): LinkFrame | undefined;
  /** Called once, last. */
  closed(detail: string): void;
}

/** A stream, and the connection that it has for itself. */
export interface LinkPort {
  /** Sends a frame that has its prefix. `taken` is called when the peer's window and the socket took all of it. */
  send(frame: Uint8Array, taken: () => void): void;
  /** Ends our direction after what was sent. */
  end(): void;
  /** Closes the connection after so many ms, whatever is still on its way. */
  cut(afterMs: number): void;
  /** Gives no messages until `resume`. */
  pause(): void;
  resume(): void;
}

export interface StreamClock {
  /** By the stall-aware clock, for what judges the peer. */
  readonly patientMs: () => number;
  readonly monoMs: () => number;
  /** Runs when this turn of the event loop is over. */
  readonly defer: (act: () => void) => void;
}

export interface LinkStreamParts {
  readonly port: LinkPort;
  readonly events: LinkEvents;
  readonly limits: Pick<TransportLimits, "stuckMs" | "drainMs" | "goodbyeMs">;
  readonly traffic: WireTraffic;
  readonly clock: StreamClock;
}

/** A link is read for so long in one turn, and to the end of the frame that it is at. */
const TURN_MS = 5;

export class LinkStream {
  readonly #parts: LinkStreamParts;
  #state: "open" | "draining" | "ended" | "closed" = "open";
  /** Since when the one frame in flight waits to be taken. */
  #sendingSinceMs: number | undefined;
  /** When it began to drain, and then when it ended. */
  #closingMs = 0;
  /** When it was read first in this turn of the event loop. */
  #turnMonoMs: number | undefined;
  #isPaused = false;
  /** It is not read before. */
  #restUntilMs: number | undefined;
  #isEndedByPeer = false;

  constructor(parts: LinkStreamParts) {
    this.#parts = parts;
  }

  /** Whether the peer ended it, in good order or by being gone. */
  get isEndedByPeer(): boolean {
    return this.#isEndedByPeer;
  }

  /** There may be something to send. */
  wake(): void {
    if (this.#sendingSinceMs === undefined && (this.#state === "open" || this.#state === "draining")) this.#pump();
  }

  /** Sends what there still is, then half-closes and waits for the peer, at most `goodbyeMs`. */
  close(): void {
    if (this.#state !== "open") return;
    this.#state = "draining";
    this.#closingMs = this.#parts.clock.patientMs();
    this.wake();
  }

  /** Reads nothing for so long: what comes waits at the peer, as soon as its window is full. */
  rest(forMs: number): void {
    this.#restUntilMs = Math.max(this.#restUntilMs ?? 0, this.#parts.clock.patientMs() + forMs);
    this.#pause();
  }

  /** Ends it now. */
  destroy(detail: string): void {
    this.#tell(detail);
    this.#parts.port.cut(0);
  }

  /** Looks at its clocks, by stall-aware ms that are due; called about four times a second. */
  check(dueMs: number): void {
    const { stuckMs, drainMs, goodbyeMs } = this.#parts.limits;
    if (this.#restUntilMs !== undefined && dueMs >= this.#restUntilMs) {
      this.#restUntilMs = undefined;
      this.#resume();
    }
    if (this.#sendingSinceMs !== undefined && dueMs - this.#sendingSinceMs > stuckMs) this.destroy("peer takes nothing");
    else if (this.#state === "draining" && dueMs - this.#closingMs > drainMs) this.destroy("peer takes no farewell");
    else if (this.#state === "ended" && dueMs - this.#closingMs > goodbyeMs) this.destroy("closed");
  }

  /** A message came. */
  // HOT: once a frame.
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

  /** The peer sends nothing more, and all that it sent was given. */
  halfClosed(): void {
    if (this.#state === "closed") return;
    this.#isEndedByPeer = this.#state === "open";
    this.#parts.port.end();
    this.#tell(this.#isEndedByPeer ? "peer ended the link" : "closed");
  }

  /** What came is no frame: the peer is told so, if it can be. */
  failed({ message: detail }: { readonly message: string }): void {
    if (this.#state === "closed") return;
    if (this.#sendingSinceMs === undefined && this.#state !== "ended") {
      this.#parts.port.send(framed(encodeLinkFrame({ kind: "goodbye", reason: "bad_frame", detail })), () => {});
      this.#parts.port.end();
    }
    this.#tell(`bad frame: ${detail}`);
  }

  /** The call that the link is, of ours, is over. */
  ended({ status, isFromServer, isMalformed }: Pick<CallResult, "status" | "isFromServer" | "isMalformed">): void {
    if (isFromServer && status.code === CODES.OK) this.halfClosed();
    else this.lost(isMalformed ? `bad frame: ${status.message}` : status.message);
  }

  /** The stream is gone. */
  lost(detail: string): void {
    if (this.#state === "closed") return;
    this.#isEndedByPeer = this.#state === "open";
    this.destroy(detail);
  }

  /** A peer that sends thousands of small frames at once is read a few milliseconds at a time: others' turns come in between. */
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
    // Frames of records go to many links: framed once, as they are encoded once.
    const bytes = frame.kind === "records" ? encodeRecords(frame).framed : framed(encodeLinkFrame(frame));
    traffic.count("sent", frame.kind, bytes.length - PREFIX_BYTES);
    this.#sendingSinceMs = clock.patientMs();
    // One message in flight, whatever the peer does.
    port.send(bytes, () => {
      this.#sendingSinceMs = undefined;
      this.wake();
    });
  }

  #end(): void {
    this.#state = "ended";
    this.#closingMs = this.#parts.clock.patientMs();
    this.#parts.port.end();
  }

  /** The stream is of no more use to either side, and neither is its connection. */
  #tell(detail: string): void {
    if (this.#state === "closed") return;
    this.#state = "closed";
    this.#sendingSinceMs = undefined;
    this.#parts.port.cut(this.#parts.limits.goodbyeMs);
    this.#parts.events.closed(detail);
  }
}

// Messages and bytes between nodes, of links and calls, by direction and kind: numbers for the metrics.

type TrafficDirection = "sent" | "received";
export type TrafficKind = LinkFrame["kind"] | FabricCallRequest["kind"];

export interface TrafficRow {
  readonly direction: TrafficDirection;
  readonly kind: TrafficKind;
  readonly frameCount: number;
  /** Encoded messages, without gRPC's and HTTP/2's frames around them. */
  readonly sizeBytes: number;
}

/** Counts only; one row for each direction and kind there was. */
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

// What the methods of `FabricService` share: who calls them, and what their handlers are given.

/** The cluster token of a call, where no certificate says who makes it. */
export const TOKEN_HEADER = "waymark-cluster-token";

/** Who makes a call, and the connection it came on. */
export interface CallingPeer {
  readonly identity: PeerIdentity;
  /** Its hello came on a link, with this cluster token. */
  readonly greeted: (clusterToken: string) => void;
  /** Closes the connection after so many ms. */
  readonly cut: (afterMs: number) => void;
  /** Why the connection was cut here; undefined unless it was. */
  readonly whyCut: () => string | undefined;
}

export interface ServiceParts<Events> {
  readonly limits: TransportLimits;
  readonly events: Events & {
    /** A peer was turned away. */
    refused(why: string, address: string): void;
  };
  readonly traffic: WireTraffic;
  readonly clock: StreamClock;
  /** Throws where calls are not taken any more. */
  readonly peerOf: (call: MethodCall) => CallingPeer;
}
