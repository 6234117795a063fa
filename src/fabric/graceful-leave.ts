/** The frames exchanged between a leaving node and the nodes that may take over its static entries (semantics.md, Stop). */

import { NEVER, type Time } from "../lib/machine.ts";
import type { Borders } from "./borders/borders.ts";
import { eventOutput, type FabricInput, type FabricOutput, type LinkId, type StopInput } from "./io-types.ts";
import type { ChannelSession, LinkChannel, LinkGreeting } from "./links/channel.ts";
import type { Links } from "./links/links.ts";
import type { LinksPart } from "./links/links-part.ts";
import type { Multiplexer } from "./links/multiplexer.ts";
import type { PeerAuthFacts } from "./links/peer-auth.ts";
import type { Membership } from "./membership/membership.ts";
import type { FabricOptions } from "./options.ts";
import type { FabricHandlers, FabricPart } from "./part.ts";
import type { PolicyExchange } from "./policy-sync.ts";
import type { Replicator } from "./replication/replicator.ts";
import type { HandOverFrame, Hello } from "./wire/messages.ts";

interface LeavingPeer {
  readonly link: LinkId;
  readonly hello: Hello;
  readonly frames: HandOverFrame[];
  isLeaving: boolean;
  /** Number of times that the peer refused to take over entries. */
  refusals: number;
}

const LEAVING: HandOverFrame = { kind: "handOver", seqs: [], isRefused: false };
const REFUSED: HandOverFrame = { kind: "handOver", seqs: [], isRefused: true };

export class GracefulLeave implements LinkChannel<HandOverFrame> {
  readonly kinds = ["handOver"] as const;
  /** The offer is sent last, so that the peer already has the offered records. */
  readonly speaks = "last";
  readonly #clusterId: string;
  readonly #isReady: () => boolean;
  readonly #isAllSent: (link: LinkId) => boolean;
  readonly #peers = new Map<LinkId, LeavingPeer>();
  #isLeaving = false;

  readonly handle: FabricHandlers = {
    leaving: (input, _, out) => this.announce(input, out),
    offer: (input, _, out) => this.announce(input, out),
  };

  /**
   * `isAllSent`: whether the peer of a link has received all of this node's changes. It is called only when the other channels have nothing to send
   * on the link.
   */
  constructor(clusterId: string, isReady: () => boolean, isAllSent: (link: LinkId) => boolean = () => true) {
    this.#clusterId = clusterId;
    this.#isReady = isReady;
    this.#isAllSent = isAllSent;
  }

  open(link: LinkId, { hello }: Pick<LinkGreeting, "hello">, _time: Time, out: FabricOutput[]): ChannelSession<HandOverFrame> | undefined {
    if (hello.clusterId !== this.#clusterId) return undefined;
    const peer: LeavingPeer = { link, hello, frames: [], isLeaving: false, refusals: 0 };
    this.#peers.set(link, peer);
    if (this.#isLeaving) this.#send(peer, LEAVING, out);
    const hasWork = () => peer.frames.length > 0 && this.#isAllSent(link);
    return {
      next: () => (hasWork() ? peer.frames.shift() : undefined),
      receive: (frame, _, received) => {
        this.#receive(peer, frame, received);
        return [];
      },
      hasWork,
      tick: () => {},
      nextDeadlineMs: () => NEVER,
      isCaughtUp: true,
    };
  }

  closed(link: LinkId): void {
    this.#peers.delete(link);
  }

  /**
   * Returns the linked nodes of this cluster that have not announced that they are leaving. Each has the number of its refusals and whether it runs
   * checks.
   */
  takers(): readonly { readonly nodeId: string; readonly refusals: number; readonly runsChecks: boolean }[] {
    return [...this.#peers.values()]
      .filter(({ isLeaving }) => !isLeaving)
      .map(({ hello: { nodeId, runsChecks }, refusals }) => ({ nodeId, refusals, runsChecks }));
  }

  announce(input: Extract<FabricInput, { kind: "leaving" | "offer" }>, out: FabricOutput[]): void {
    const isNew = input.kind === "offer" || !this.#isLeaving;
    this.#isLeaving ||= input.kind === "leaving";
    const frame = input.kind === "leaving" ? LEAVING : ({ kind: "handOver", seqs: input.seqs, isRefused: false } as const);
    for (const peer of this.#peers.values())
      if (isNew && (input.kind === "leaving" || peer.hello.nodeId === input.nodeId)) this.#send(peer, frame, out);
  }

  #receive(peer: LeavingPeer, { seqs, isRefused }: HandOverFrame, out: FabricOutput[]): void {
    const { nodeId, generation } = peer.hello;
    if (isRefused) peer.refusals += 1;
    else if (seqs.length === 0) {
      if (!peer.isLeaving) out.push(eventOutput("member_leaving", "info", { nodeId }));
      peer.isLeaving = true;
    } else if (this.#isLeaving || !this.#isReady()) this.#send(peer, REFUSED, out);
    else out.push({ kind: "offered", nodeId, generation, seqs });
  }

  #send(peer: LeavingPeer, frame: HandOverFrame, out: FabricOutput[]): void {
    peer.frames.push(frame);
    out.push({ kind: "send", link: peer.link });
  }
}

/** How the fabric stops: within a time limit, it sends a goodbye on each link once all of this node's changes have been sent (semantics.md, Stop). */
interface StoppingParts {
  readonly links: Links;
  readonly linksPart: Pick<LinksPart, "end">;
  readonly multiplexer: Pick<Multiplexer, "helloOf">;
  readonly borders: Pick<Borders, "size" | "stop">;
  readonly membership: Pick<Membership, "find" | "isQuiet">;
  readonly membershipPart: { give(input: { readonly kind: "leave" }, time: Time, out: FabricOutput[]): void };
  readonly policy: Pick<PolicyExchange, "isBehind">;
  readonly replication: Pick<Replicator, "edgeDueMonoMs">;
  readonly peerAuth: Pick<PeerAuthFacts, "nodeId">;
}

export class GracefulStop implements FabricPart {
  readonly #options: Pick<FabricOptions, "heldGoodbyeMs" | "stopTimeoutMs">;
  readonly #parts: StoppingParts;
  #stop: { readonly reason: "leave" | "restart"; readonly deadlineMonoMs: number; readonly heldUntilMonoMs: number } | undefined;

  constructor(options: Pick<FabricOptions, "heldGoodbyeMs" | "stopTimeoutMs">, parts: StoppingParts) {
    this.#options = options;
    this.#parts = parts;
  }

  readonly handle: FabricHandlers = { stop: (input, time, out) => this.#begin(input, time, out) };

  /** Sends a goodbye on a link if all of this node's changes have been sent on it. */
  farewell(link: LinkId, time: Time, out: FabricOutput[]): void {
    const { replication, multiplexer, policy, linksPart } = this.#parts;
    if (this.#stop === undefined || replication.edgeDueMonoMs !== NEVER || multiplexer.helloOf(link) === undefined) return;
    if (policy.isBehind(link) && time.monoMs < this.#stop.heldUntilMonoMs) return;
    linksPart.end({ link, reason: this.#stop.reason, detail: "" }, time, out);
  }

  /** Returns whether everything has been sent after `stop`. */
  isOver(time: Time): boolean {
    const { links, borders, membership, peerAuth } = this.#parts;
    if (this.#stop === undefined) return false;
    if (time.monoMs >= this.#stop.deadlineMonoMs) return true;
    if (links.size > 0 || borders.size > 0) return false;
    if (this.#stop.reason === "restart" && membership.find(peerAuth.nodeId)?.keepsEntries !== true) return true;
    return membership.isQuiet;
  }

  #begin({ reason, withinMs = this.#options.stopTimeoutMs }: StopInput, time: Time, out: FabricOutput[]): void {
    if (this.#stop !== undefined) return;
    const { links, linksPart, borders, membershipPart } = this.#parts;
    const heldUntilMonoMs = time.monoMs + Math.min(this.#options.heldGoodbyeMs, withinMs / 2);
    this.#stop = { reason, deadlineMonoMs: time.monoMs + this.#options.stopTimeoutMs, heldUntilMonoMs };
    links.stop(reason);
    for (const { link, state } of links.rows) if (state !== "up") linksPart.end({ link, reason, detail: "" }, time, out);
    borders.stop(reason, time, out);
    if (reason === "leave") membershipPart.give({ kind: "leave" }, time, out);
  }
}
