/** Links that other nodes open. A stream becomes a link with its first frame. Until then, it may buffer only a small amount of data. */
import type { MethodCall, RequestReceiver, RequestStreamMethod } from "../../grpc/server/method.ts";
import type { AssemblyBounds } from "../../grpc/wire/message-reader.ts";
import { StatusError } from "../../grpc/wire/status.ts";
import { CODES } from "../../lib/errors.ts";
import { pathOf } from "../wire/call-codec.ts";
import type { PeerIdentity } from "../wire/messages.ts";
import { placesOf } from "./border-gate.ts";
import type { CallingPeer, ServiceParts } from "./link-stream.ts";
import { type LinkEvents, LinkStream } from "./link-stream.ts";

export interface LinkedEvents extends LinkEvents {
  /** Called once, before all other events. */
  opened(): void;
}

export interface IncomingLinkEvents {
  /** Called when another node has opened a link and its first frame has arrived. Returns the receiver of the link's further events. */
  linked(stream: LinkStream, identity: PeerIdentity): LinkedEvents;
}

/** The first frame is a hello, so it is small. */
const MAX_FIRST_BYTES = 16_384;

/** Memory limits of one link. They are small until its hello has arrived, because the peer is unknown until then. */
class LinkBounds implements AssemblyBounds {
  hasHello = false;
  readonly #shared: AssemblyBounds;

  constructor(shared: AssemblyBounds) {
    this.#shared = shared;
  }

  get maxMessageBytes(): number {
    return this.hasHello ? this.#shared.maxMessageBytes : MAX_FIRST_BYTES;
  }

  get maxBufferedBytes(): number {
    return this.#shared.maxBufferedBytes;
  }

  get bufferedBytes(): number {
    return this.#shared.bufferedBytes;
  }

  set bufferedBytes(bytes: number) {
    this.#shared.bufferedBytes = bytes;
  }
}

export class IncomingLinks {
  readonly method: RequestStreamMethod;
  readonly #parts: ServiceParts<IncomingLinkEvents>;
  readonly #shared: AssemblyBounds;
  readonly #bounds = new WeakMap<MethodCall, LinkBounds>();
  /** Links that have not received their first frame, and their deadlines for it. */
  readonly #silent = new Map<LinkStream, number>();
  /** All links, each with the border quota that it uses. */
  readonly #all = new Map<LinkStream, string | undefined>();
  #isStopping = false;

  constructor(parts: ServiceParts<IncomingLinkEvents>) {
    const { maxMessageBytes, maxBufferedBytes } = parts.limits;
    this.#parts = parts;
    this.#shared = { maxMessageBytes, maxBufferedBytes, bufferedBytes: 0 };
    this.method = {
      path: pathOf("link"),
      kind: "bidi_streaming",
      boundsFor: (call) => this.#boundsOf(call),
      open: (call) => this.#open(call),
    };
  }

  get size(): number {
    return this.#all.size;
  }

  /** Buffered bytes of frames that have not fully arrived. */
  get bufferedBytes(): number {
    return this.#shared.bufferedBytes;
  }

  /** Checks timeouts, using the stall-aware clock. Called about four times per second. */
  check(dueMs: number): void {
    for (const [link, untilMs] of this.#silent) if (dueMs > untilMs) link.destroy("no hello arrived in time");
    for (const link of this.#all.keys()) link.check(dueMs);
  }

  /** Called when this node is stopping. From then on, links that fail are not reported as refused. */
  stop(): void {
    this.#isStopping = true;
  }

  #boundsOf(call: MethodCall): LinkBounds {
    const bounds = this.#bounds.get(call) ?? new LinkBounds(this.#shared);
    this.#bounds.set(call, bounds);
    return bounds;
  }

  #open(call: MethodCall): RequestReceiver {
    const { limits, traffic, clock, peerOf } = this.#parts;
    const peer = peerOf(call);
    const { identity, cut, whyCut } = peer;
    this.#makeRoom(identity);
    const bounds = this.#boundsOf(call);
    const port = {
      send: (frame: Uint8Array, accepted: () => void) =>
        void call.writeFrame(frame, (error) => (error ?? undefined) === undefined && accepted()),
      end: () => {
        call.end();
        // This ends both directions of the call, because the peer's direction is no longer needed.
        clock.defer(() => link.halfClosed());
      },
      cut,
      pause: () => call.pause(),
      resume: () => call.resume(),
    };
    const link = new LinkStream({ port, events: this.#eventsOf(() => link, peer, bounds), limits, traffic, clock });
    this.#all.set(link, placesOf(identity));
    this.#silent.set(link, clock.stallAwareMs() + limits.helloTimeoutMs);
    call.onCancelled(() => link.lost(whyCut() ?? "stream closed"));
    call.sendMetadata();
    return {
      message: (bytes) => link.message(bytes),
      halfClosed: () => link.halfClosed(),
      failed: (error) => link.failed(error),
    };
  }

  /**
   * If the maximum number of links is reached, closes the link that has been silent longest, because unknown peers can open links faster than silent
   * links time out.
   */
  #makeRoom(identity: PeerIdentity): void {
    const { limits, events } = this.#parts;
    const { address, border = "" } = identity;
    const places = placesOf(identity);
    if (places !== undefined && this.#countOf(places) >= limits.maxLinksOfBorder) {
      events.refused(`too many links for border ${border}`, address);
      throw new StatusError({ code: CODES.RESOURCE_EXHAUSTED, message: "too many links" });
    }
    const [silent] = this.#silent.keys();
    if (this.#all.size >= limits.maxIncomingLinks) silent?.destroy("closed before it sent a hello, to make room for a new link");
    if (this.#all.size < limits.maxIncomingLinks) return;
    events.refused("too many links", address);
    throw new StatusError({ code: CODES.RESOURCE_EXHAUSTED, message: "too many links" });
  }

  #countOf(places: string): number {
    let count = 0;
    for (const each of this.#all.values()) count += Number(each === places);
    return count;
  }

  #eventsOf(link: () => LinkStream, { identity, onHello: greeted }: CallingPeer, bounds: LinkBounds): LinkEvents {
    const { events } = this.#parts;
    let known: LinkedEvents | undefined;
    return {
      received: (frame) => {
        if (frame.kind === "hello") {
          bounds.hasHello = true;
          greeted(frame.hello.clusterToken);
        }
        if (known === undefined) {
          this.#silent.delete(link());
          known = events.linked(link(), identity);
          known.opened();
        }
        known.received(frame);
      },
      pull: () => known?.pull(),
      closed: (detail) => {
        this.#all.delete(link());
        this.#silent.delete(link());
        // A peer that closed the link itself, or that connected while this node was stopping, was not refused.
        if (known !== undefined) known.closed(detail);
        else if (!link().isEndedByPeer && !this.#isStopping) events.refused(`link: ${detail}`, identity.address);
      },
    };
  }
}
