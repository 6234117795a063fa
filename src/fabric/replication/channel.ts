/** Replication as a channel of the links: a `LinkReplication` each, and what all of them are looked at for. */
import type { Time } from "../../lib/machine.ts";
import type { FabricOutput, LinkId } from "../io-types.ts";
import type { ChannelNews, Greeted, LinkChannel, SharedNews } from "../links/channel.ts";
import type { Hello, ReplicationFrame } from "../wire/messages.ts";
import { LinkReplication, type ReplicationOutput } from "./link-replication.ts";
import type { Replicator } from "./replicator.ts";

/** Capability in the hello of a node that asks for what it is offered: the news of others is not passed on to it. */
const OFFERS = "offers";

/** Capability in the hello of a node that passes on heartbeats. */
const HEARTBEATS = "heartbeats";

/** News of others is looked at by all links at most so often: each visit to twenty links costs more than a record. */
const LOOK_MS = 20;
const NEVER = Number.POSITIVE_INFINITY;

interface Exchange {
  readonly hello: Hello;
  readonly replication: LinkReplication;
}

export class ReplicationChannel implements LinkChannel<ReplicationFrame> {
  readonly kinds = ["vector", "records", "linked", "digests"] as const;
  readonly capabilities = [OFFERS, HEARTBEATS];
  readonly speaks = "in turn";
  readonly shared: SharedNews;
  readonly #replicator: Replicator;
  readonly #isHeld: (link: LinkId) => boolean;
  readonly #all = new Map<LinkId, Exchange>();

  /** `isHeld`: whether a peer is given no records for now, because it is to have something else before. */
  constructor(replicator: Replicator, isHeld: (link: LinkId) => boolean) {
    this.#replicator = replicator;
    this.#isHeld = isHeld;
    this.shared = new VectorNews(replicator);
  }

  /** The exchange of a link that is up. */
  find(link: LinkId): LinkReplication | undefined {
    return this.#all.get(link)?.replication;
  }

  /** Highest number of an origin that a linked peer has, or has heard of and refused; 0 when none does. */
  heardOf(id: string): number {
    let heard = 0;
    for (const { replication } of this.#all.values()) heard = Math.max(heard, replication.heardOf(id));
    return heard;
  }

  opened(link: LinkId, { hello, relation, greetedMonoMs }: Greeted, time: Time): void {
    const { nodeId, generation, clusterId, region } = hello;
    this.#replicator.partial.greeted(nodeId, [generation, hello.version, ...hello.capabilities].join(" "), time);
    const takesOffers = hello.capabilities.includes(OFFERS);
    const takesHeartbeats = hello.capabilities.includes(HEARTBEATS);
    const peer = { nodeId, generation, clusterId, region, relation, takesOffers, takesHeartbeats };
    this.#all.set(link, { hello, replication: new LinkReplication(this.#replicator, peer, time, greetedMonoMs) });
    this.#tellLinked();
  }

  closed(link: LinkId): void {
    this.find(link)?.close();
    this.#all.delete(link);
    this.#tellLinked();
  }

  // HOT: once a frame.
  next(link: LinkId, time: Time): ReplicationFrame | undefined {
    const replication = this.find(link);
    if (replication === undefined) return undefined;
    replication.isHeld = this.#isHeld(link);
    return replication.next(time);
  }

  receive(link: LinkId, frame: ReplicationFrame, time: Time, out: FabricOutput[]): readonly ChannelNews[] {
    const exchange = this.#all.get(link);
    if (exchange === undefined) return [];
    const said: ReplicationOutput[] = [];
    exchange.replication.receive(frame, time, said);
    const news = pass(link, exchange, said, out);
    const { inStepMonoMs } = exchange.replication;
    if (inStepMonoMs !== undefined) news.push({ kind: "inStep", nodeId: exchange.hello.nodeId, monoMs: inStepMonoMs });
    return news;
  }

  hasWork(link: LinkId, time: Time): boolean {
    return this.find(link)?.hasWork(time) === true;
  }

  tick(link: LinkId, time: Time, out: FabricOutput[]): readonly ChannelNews[] {
    const exchange = this.#all.get(link);
    if (exchange === undefined) return [];
    const { replication } = exchange;
    const said: ReplicationOutput[] = [];
    if (time.monoMs >= replication.nextDeadlineMs()) replication.tick(time, said);
    replication.isHeld = this.#isHeld(link);
    return pass(link, exchange, said, out);
  }

  nextDeadlineMs(link: LinkId): number {
    return this.find(link)?.nextDeadlineMs() ?? NEVER;
  }

  isCaughtUp(link: LinkId): boolean {
    return this.find(link)?.isCaughtUp === true;
  }

  #tellLinked(): void {
    const hellos = [...this.#all.values()].map(({ hello }) => hello);
    this.#replicator.setLinked(hellos.map(({ nodeId }) => nodeId));
    // What other clusters pass on counts for no age.
    const ours = hellos.filter(({ clusterId }) => clusterId === this.#replicator.place.clusterId);
    this.#replicator.heartbeats.setPassedOn(ours.every(({ capabilities }) => capabilities.includes(HEARTBEATS)));
  }
}

/** The vector moved: by our own news, which goes at once, or by others'. */
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
    if (time.monoMs >= (this.#replicator.edgeDueMonoMs ?? NEVER)) this.#replicator.changed(time);
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
    return Math.min(this.#replicator.edgeDueMonoMs ?? NEVER, look);
  }
}

function pass(link: LinkId, { hello }: Exchange, said: readonly ReplicationOutput[], out: FabricOutput[]): ChannelNews[] {
  const news: ChannelNews[] = [];
  for (const output of said) {
    switch (output.kind) {
      case "changed":
      case "superseded":
      case "event":
        out.push(output);
        break;
      case "generationLost":
        out.push({ ...output, peerNodeId: hello.nodeId });
        break;
      case "badFrame":
        news.push({ kind: "badFrame", link, detail: output.reason });
    }
  }
  return news;
}
