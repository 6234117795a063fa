/**
 * The state machine of the fabric. It passes each input to its parts (`parts.ts`) and reports the fabric's state to the rest of the node.
 * It has no rules of its own.
 */
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
  /** Replication of the summary replica. Undefined on a node without a summary replica. */
  readonly summaries: FabricRooms["summaries"];
  readonly policy: FabricRooms["policy"];
  readonly policySources: FabricRooms["policySources"];
  /** Closed only while this node has no peer. */
  readonly seal: FabricRooms["seal"];
  readonly foreignPeers: FabricRooms["foreignPeers"];
  readonly lifecycle: FabricRooms["lifecycle"];
  readonly leaving: FabricRooms["leaving"];
  readonly calls: FabricRooms["calls"];
  /** Whether this node may serve reads of the mesh, and how old its data is. */
  readonly readiness: FabricRooms["readiness"];
  /** Links to other regions and all frames that are sent on them. No other part has access to them. */
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

  /** Switches to these tokens. Links that are up stay up. Peers that were refused, or that refused this node, are retried on the next input. */
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

  /** Returns the next frame for a link (`FabricMachine`). */
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

  /** Returns the nodes that are excluded from the reported age of the data. */
  unreachable(time: Time): UnreachableNodes | undefined {
    return this.#rooms.freshness.unreachable(time);
  }

  /** Returns whether old tombstones may be collected. They must not be collected while the node's clock is off. */
  mayCollect(time: Time): boolean {
    const { isInStep } = this.readiness.read(time);
    const inputs = { isInStep, isAnybodyAway: this.lifecycle.isAnybodyAway, isClockOff: this.membership.clock(time).isOff };
    return this.#collecting.mayCollect({ ...inputs, lost: this.#rooms.parts.replica.lost }, time);
  }

  /** Whether readers may be notified that their view is complete. False while an origin's records are being shown or hidden in slices. */
  get isWhole(): boolean {
    return this.readiness.isReady && !this.lifecycle.isSettling;
  }

  /** Whether there is another node of this cluster. Nodes of other clusters do not take over this node's entries. */
  get hasClusterPeers(): boolean {
    return this.membership.listed().some(({ clusterId }) => clusterId === this.#rooms.peerAuth.clusterId);
  }

  /** Returns whether everything has been sent after `stop`. */
  isStopped(time: Time): boolean {
    return this.#stopping.isOver(time);
  }

  /** Returns all links, for display. */
  links(): readonly LinkState[] {
    return [...this.#rooms.links.rows].map((row) => ({ ...row, isCaughtUp: this.exchanges.find(row.link)?.isCaughtUp === true }));
  }

  /** Returns the hello of the peer of a link that is up. */
  helloOf(link: LinkId): Hello | undefined {
    return this.#rooms.multiplexer.helloOf(link);
  }

  /** Returns how many links, calls, and data items from other nodes this node has refused since its start. */
  refused() {
    return {
      /** Links whose peer is not trusted or broke the protocol. */
      peer: this.#rooms.links.refusedCount,
      /** Links above the allowed number. */
      link: this.#rooms.links.tooManyCount,
      /** Border links whose node does not belong to a configured border, or that exceed the allowed number. */
      border: this.borders.refused.links,
      /** Calls from unknown callers. */
      call: this.calls.refusedCount,
      /** Frames and version vector entries of an origin that this node rejects. */
      origin: this.replication.stats.refusedOrigins,
      /** Malformed policy heads, and policy versions that do not match their head. */
      policy: this.policy.refusedCount,
      /** Skipped frames that no channel handles: frames from newer peers, or for a channel that is not open on their link. */
      unknownFrame: this.#rooms.multiplexer.skippedCount + this.borders.refused.frames,
    } as const;
  }
}
