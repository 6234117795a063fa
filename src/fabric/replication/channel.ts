/** Replication as a channel of the links: it opens a `LinkReplication` on each, and knows when all of them have news. */
import { NEVER, type Time } from "../../lib/machine.ts";
import type { LinkId } from "../io-types.ts";
import type { Greeted, LinkChannel, SharedNews } from "../links/channel.ts";
import type { ReplicationFrame } from "../wire/messages.ts";
import { LinkReplication } from "./link-replication.ts";
import type { ReplicationPeer } from "./peer-progress.ts";
import type { Replicator } from "./replicator.ts";

/** All links look at the news of others at most this often: each visit to twenty links costs more than a record. */
const LOOK_MS = 20;

export class ReplicationChannel implements LinkChannel<ReplicationFrame> {
  readonly kinds = ["vector", "records", "linked", "digests"] as const;
  readonly speaks = "in turn";
  readonly shared: SharedNews;
  readonly #replicator: Replicator;
  readonly #isHeld: (link: LinkId) => boolean;
  readonly #unlikeHello: Partial<ReplicationPeer>;
  readonly #all = new Map<LinkId, LinkReplication>();

  /**
   * `isHeld`: whether a peer gets no records for now, because it must get the policy first. `unlikeHello`: facts of every peer that are not as its
   * hello says.
   */
  constructor(replicator: Replicator, isHeld: (link: LinkId) => boolean, unlikeHello: Partial<ReplicationPeer> = {}) {
    this.#unlikeHello = unlikeHello;
    this.#replicator = replicator;
    this.#isHeld = isHeld;
    this.shared = new VectorNews(replicator);
  }

  /** The exchange of a link that is up. */
  find(link: LinkId): LinkReplication | undefined {
    return this.#all.get(link);
  }

  /** The highest number of an origin that a linked peer has, or has heard of and refused. 0 when there is none. */
  heardOf(id: string): number {
    let heard = 0;
    for (const replication of this.#all.values()) heard = Math.max(heard, replication.heardOf(id));
    return heard;
  }

  open(link: LinkId, { hello, relation, greetedMonoMs }: Greeted, time: Time): LinkReplication {
    const { nodeId, generation, clusterId, region } = hello;
    this.#replicator.partial.greeted(nodeId, `${generation} ${hello.version}`, time);
    const peer = { nodeId, generation, clusterId, region, relation, ...this.#unlikeHello };
    const how = { greetedMonoMs, isHeld: () => this.#isHeld(link) };
    const replication = new LinkReplication(this.#replicator, peer, time, how);
    this.#all.set(link, replication);
    this.#tellLinked();
    return replication;
  }

  closed(link: LinkId): void {
    this.find(link)?.close();
    this.#all.delete(link);
    this.#tellLinked();
  }

  #tellLinked(): void {
    this.#replicator.setLinked([...this.#all.values()].map(({ peer }) => peer.nodeId));
  }
}

/** The vector moved: by this node's own news, which goes at once, or by the news of others. */
class VectorNews implements SharedNews {
  readonly #replicator: Replicator;
  #seenOrder = -1;
  #seenHorizon = 0;
  #lookMonoMs = 0;

  constructor(replicator: Replicator) {
    this.#replicator = replicator;
  }

  get order(): number {
    return this.#replicator.vector.order;
  }

  tick(time: Time): void {
    if (time.monoMs >= this.#replicator.edgeDueMonoMs) this.#replicator.changed(time);
  }

  isDue({ monoMs }: Time): boolean {
    return this.order !== this.#seenOrder && (monoMs >= this.#lookMonoMs || this.#replicator.horizon !== this.#seenHorizon);
  }

  looked({ monoMs }: Time): void {
    this.#seenOrder = this.order;
    this.#seenHorizon = this.#replicator.horizon;
    this.#lookMonoMs = monoMs + LOOK_MS;
  }

  nextDeadlineMs(linkCount: number): number {
    const look = linkCount === 0 || this.order === this.#seenOrder ? NEVER : this.#lookMonoMs;
    return Math.min(this.#replicator.edgeDueMonoMs, look);
  }
}
