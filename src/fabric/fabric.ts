/** The machine of this room. It gives each input to its parts (`parts.ts`), and says for the rest of the node how things stand. It has no rules of its own. */
import type { UnreachableNodes } from "../catalog/unreachable-nodes.ts";
import type { Time } from "../lib/machine.ts";
import type { GracefulStop } from "./graceful-leave.ts";
import type { FabricInput, FabricMachine, FabricOutput, LinkId } from "./io-types.ts";
import type { LinkState } from "./links/link-state.ts";
import type { ClusterTokens } from "./links/peer-auth.ts";
import type { FabricOptions, FabricParts } from "./options.ts";
import { addParts, type FabricRooms, roomsOf } from "./parts.ts";
import { CollectionGate } from "./readiness.ts";
import type { Hello, LinkFrame } from "./wire/messages.ts";

export class Fabric implements FabricMachine {
  readonly membership: FabricRooms["membership"];
  readonly replication: FabricRooms["replication"];
  /** Replication on each link that is up. */
  readonly exchanges: FabricRooms["exchanges"];
  /** Replication of the summary replica. Undefined of a node without one. */
  readonly summaries: FabricRooms["summaries"];
  readonly policy: FabricRooms["policy"];
  readonly policySources: FabricRooms["policySources"];
  /** Closed only while this node has no peer. */
  readonly seal: FabricRooms["seal"];
  readonly foreignPeers: FabricRooms["foreignPeers"];
  readonly lifecycle: FabricRooms["lifecycle"];
  readonly leaving: FabricRooms["leaving"];
  readonly calls: FabricRooms["calls"];
  /** Whether this node may answer for the mesh, and how old its answers are. */
  readonly readiness: FabricRooms["readiness"];
  /** Links to other regions, and all that is said on them. Nothing of them is seen by any other part. */
  readonly borders: FabricRooms["borders"];
  readonly #rooms: FabricRooms;
  readonly #stopping: GracefulStop;
  readonly #collecting = new CollectionGate();

  constructor(options: FabricOptions, parts: FabricParts) {
    const rooms = roomsOf(options, parts);
    ({ membership: this.membership, replication: this.replication, exchanges: this.exchanges, summaries: this.summaries } = rooms);
    ({ policy: this.policy, policySources: this.policySources, seal: this.seal, foreignPeers: this.foreignPeers } = rooms);
    ({ lifecycle: this.lifecycle, leaving: this.leaving, calls: this.calls, borders: this.borders, readiness: this.readiness } = rooms);
    this.#rooms = rooms;
    this.#stopping = addParts(rooms);
  }

  /** Uses these tokens from now on. Links that are up stay. Peers that were refused, or refused this node, are tried again at the next input. */
  setTokens({ clusterToken, otherToken }: ClusterTokens): void {
    Object.assign(this.#rooms.peerAuth, { clusterToken, otherToken });
    this.#rooms.links.retryNow();
  }

  handle(input: FabricInput, time: Time, out: FabricOutput[]): void {
    const { list } = this.#rooms;
    if (!list.isBegun) list.begin(time, out);
    if (input.kind === "lagged") list.postpone(input.lagMs, time);
    list.handle(input, time, out);
  }

  /** The next frame for a link (`FabricMachine`). */
  pull(link: LinkId, time: Time, out: FabricOutput[]): LinkFrame | undefined {
    const { borders, links, multiplexer } = this.#rooms;
    if (borders.has(link)) return borders.pull(link, time);
    let frame = links.next(link) ?? multiplexer.next(link, time);
    if (frame === undefined) {
      this.#stopping.farewell(link, time, out);
      frame = links.next(link);
    }
    if (frame !== undefined) links.count(link, "sent");
    return frame;
  }

  nextDeadlineMs(): number {
    const { list } = this.#rooms;
    return list.isBegun ? list.nextDeadlineMs() : 0;
  }

  /** The nodes that the age of answers does not include. */
  unreachable(time: Time): UnreachableNodes | undefined {
    return this.#rooms.freshness.unreachable(time);
  }

  /** Whether old tombstones may be collected. They may not while the node's clock is off. */
  mayCollect(time: Time): boolean {
    const { isInStep } = this.readiness.read(time);
    const asked = { isInStep, isAnybodyAway: this.lifecycle.isAnybodyAway, isClockOff: this.membership.clock(time).isOff };
    return this.#collecting.mayCollect({ ...asked, lost: this.#rooms.parts.replica.lost }, time);
  }

  /** Whether readers may be told that they have everything. They may not while the records of an origin are being shown or hidden in slices. */
  get isWhole(): boolean {
    return this.readiness.isReady && !this.lifecycle.isSettling;
  }

  /** Whether there is another node of this cluster. Nodes of other clusters take over nothing from it. */
  get hasClusterPeers(): boolean {
    return this.membership.listed().some(({ clusterId }) => clusterId === this.#rooms.peerAuth.clusterId);
  }

  /** Whether nothing is left to be sent after `stop`. */
  isStopped(time: Time): boolean {
    return this.#stopping.isOver(time);
  }

  /** All links, for people. */
  links(): readonly LinkState[] {
    return [...this.#rooms.links.rows].map((row) => ({ ...row, isCaughtUp: this.exchanges.find(row.link)?.isCaughtUp === true }));
  }

  /** The hello of the peer of a link that is up. */
  helloOf(link: LinkId): Hello | undefined {
    return this.#rooms.multiplexer.helloOf(link);
  }

  /** Counts of what this node refused from others since its start. */
  refused() {
    return {
      /** Links whose peer is not trusted, or broke the protocol. */
      peer: this.#rooms.links.refusedCount,
      /** Links beyond as many as are allowed. */
      link: this.#rooms.links.tooManyCount,
      /** Border links whose node is not one of a border, or that are too many. */
      border: this.borders.refused.links,
      /** Calls of strangers. */
      call: this.calls.refusedCount,
      /** Frames and entries of vectors, of an origin not taken here. */
      origin: this.replication.stats.refusedOrigins,
      /** Heads that are none, and versions that are not what their head says. */
      policy: this.policy.refusedCount,
      /** Frames that no channel here receives, skipped: of newer peers, or of a channel that is not open on their link. */
      unknownFrame: this.#rooms.multiplexer.skippedCount + this.borders.refused.frames,
    } as const;
  }
}
