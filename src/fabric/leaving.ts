/** The frames of a node that leaves, and of the nodes that may take over its static entries (semantics.md, Stop). */

import { NEVER, type Time } from "../lib/machine.ts";
import { eventOutput, type FabricInput, type FabricOutput, type LinkId } from "./io-types.ts";
import type { ChannelSession, Greeted, LinkChannel } from "./links/channel.ts";
import type { FabricHandlers } from "./part.ts";
import type { HandOverFrame, Hello } from "./wire/messages.ts";

interface Peer {
  readonly link: LinkId;
  readonly hello: Hello;
  readonly frames: HandOverFrame[];
  isLeaving: boolean;
  /** How often the peer refused. */
  refusals: number;
}

const LEAVING: HandOverFrame = { kind: "handOver", seqs: [], isRefused: false };
const REFUSED: HandOverFrame = { kind: "handOver", seqs: [], isRefused: true };

export class Leaving implements LinkChannel<HandOverFrame> {
  readonly kinds = ["handOver"] as const;
  /** So the offered records are at the peer before the offer. */
  readonly speaks = "last";
  readonly #clusterId: string;
  readonly #isReady: () => boolean;
  readonly #isAllSent: (link: LinkId) => boolean;
  readonly #peers = new Map<LinkId, Peer>();
  #isLeaving = false;

  readonly handle: FabricHandlers = {
    leaving: (input, _, out) => this.announce(input, out),
    offer: (input, _, out) => this.announce(input, out),
  };

  /** `isAllSent`: whether the peer of a link, on which the other channels have nothing to send, got all news of this node. */
  constructor(clusterId: string, isReady: () => boolean, isAllSent: (link: LinkId) => boolean = () => true) {
    this.#clusterId = clusterId;
    this.#isReady = isReady;
    this.#isAllSent = isAllSent;
  }

  open(link: LinkId, { hello }: Pick<Greeted, "hello">, _time: Time, out: FabricOutput[]): ChannelSession<HandOverFrame> | undefined {
    if (hello.clusterId !== this.#clusterId) return undefined;
    const peer: Peer = { link, hello, frames: [], isLeaving: false, refusals: 0 };
    this.#peers.set(link, peer);
    if (this.#isLeaving) this.#say(peer, LEAVING, out);
    const hasWork = () => peer.frames.length > 0 && this.#isAllSent(link);
    return {
      next: () => (hasWork() ? peer.frames.shift() : undefined),
      receive: (frame, _, received) => {
        this.#heard(peer, frame, received);
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

  /** Linked nodes of this cluster that did not announce that they are leaving, how often each refused, and whether it runs checks. */
  takers(): readonly { readonly nodeId: string; readonly refusals: number; readonly runsChecks: boolean }[] {
    return [...this.#peers.values()]
      .filter(({ isLeaving }) => !isLeaving)
      .map(({ hello: { nodeId, runsChecks }, refusals }) => ({ nodeId, refusals, runsChecks }));
  }

  announce(input: Extract<FabricInput, { kind: "leaving" | "offer" }>, out: FabricOutput[]): void {
    const isNew = input.kind === "offer" || !this.#isLeaving;
    this.#isLeaving = true;
    const frame = input.kind === "leaving" ? LEAVING : ({ kind: "handOver", seqs: input.seqs, isRefused: false } as const);
    for (const peer of this.#peers.values())
      if (isNew && (input.kind === "leaving" || peer.hello.nodeId === input.nodeId)) this.#say(peer, frame, out);
  }

  #heard(peer: Peer, { seqs, isRefused }: HandOverFrame, out: FabricOutput[]): void {
    const { nodeId, generation } = peer.hello;
    if (isRefused) peer.refusals += 1;
    else if (seqs.length === 0) {
      if (!peer.isLeaving) out.push(eventOutput("member_leaving", "info", { nodeId }));
      peer.isLeaving = true;
    } else if (this.#isLeaving || !this.#isReady()) this.#say(peer, REFUSED, out);
    else out.push({ kind: "offered", nodeId, generation, seqs });
  }

  #say(peer: Peer, frame: HandOverFrame, out: FabricOutput[]): void {
    peer.frames.push(frame);
    out.push({ kind: "send", link: peer.link });
  }
}
