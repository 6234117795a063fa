/** What is exchanged on the links that are up: replication and the policy. */
import type { Relation } from "../../catalog/entry/scope.ts";
import type { Time } from "../../lib/machine.ts";
import type { FabricOutput, LinkId } from "../io-types.ts";
import { type Others, POLICY_FIRST, POLICY_FROM, type PolicySource } from "../policy-sources.ts";
import type { PolicyExchange } from "../policy-sync.ts";
import type { CaughtUp } from "../readiness.ts";
import { LinkReplication, type ReplicationOutput } from "../replication/link-replication.ts";
import type { Replicator } from "../replication/replicator.ts";
import type { Hello, LinkFrame, PolicyFrame, ReplicationFrame } from "../wire/messages.ts";

/** Capability in the hello of a node that had caught up, or was the first, when it greeted. */
export const READY = "ready";

/** Capability in the hello of a node that asks for what it is offered: the news of others is not passed on to it. */
export const OFFERS = "offers";

/** Capability in the hello of a node that passes on heartbeats. */
export const HEARTBEATS = "heartbeats";

/** What became known by a link, for the rest of the room. */
export type ChannelNews =
  /** We lack nothing of what the peer had then. */
  | { readonly kind: "inStep"; readonly nodeId: string; readonly monoMs: number }
  /** The peer broke the protocol. */
  | { readonly kind: "badFrame"; readonly link: LinkId; readonly detail: string };

/** Of a link that came up. */
export interface Greeted {
  readonly hello: Hello;
  readonly relation: Relation;
  readonly greetedMonoMs: number;
}

export interface Session {
  readonly link: LinkId;
  readonly hello: Hello;
  readonly replication: LinkReplication;
}

interface OwnSession extends Session {
  /** The shell was told that there is something to send, and has not found nothing since. */
  isAwake: boolean;
  dueMonoMs: number;
  /** Whose turn it is to send. */
  isPolicyTurn: boolean;
}

/** A link that has not taken what is due is looked at again after so long. */
const STALLED_MS = 100;
/** What a link does at its time may move the vector, and so be news for others; the rest waits for the next input. */
const MAX_PASSES = 2;
/** News of others is looked at by all links at most so often: each visit to twenty links costs more than a record. */
const LOOK_MS = 20;
const NEVER = Number.POSITIVE_INFINITY;

export class Multiplexer {
  readonly #replicator: Replicator;
  readonly #policy: PolicyExchange;
  readonly #sourceOf: (clusterId: string) => PolicySource;
  readonly #all = new Map<LinkId, OwnSession>();
  #lastMonoMs = 0;
  #isAnyDue = true;
  /** Something came over these, or they were found to have nothing to send. */
  readonly #touched = new Set<OwnSession>();
  /** No link is due before. */
  #dueMonoMs = 0;
  #seenOrder = -1;
  #seenHorizon = 0;
  #lookMonoMs = 0;

  /** `sourceOf`: what a cluster's nodes are to this one when they offer a policy. */
  constructor(shared: Replicator, policy: PolicyExchange, sourceOf: (clusterId: string) => PolicySource = () => "accepted") {
    this.#replicator = shared;
    this.#policy = policy;
    this.#sourceOf = sourceOf;
  }

  get all(): Iterable<Session> {
    return this.#all.values();
  }

  /** Highest number of an origin that a linked peer has, or has heard of and refused; 0 when none does. */
  heardOf(id: string): number {
    let heard = 0;
    for (const { replication } of this.#all.values()) heard = Math.max(heard, replication.heardOf(id));
    return heard;
  }

  find(link: LinkId): Session | undefined {
    return this.#all.get(link);
  }

  /** Those of whose news all is here that they had when the link came up, the policy too: without it we would show what the cluster hides. */
  caughtUpWith(): readonly Hello[] {
    const up = [...this.#all.values()];
    return up.filter(({ link, replication }) => replication.isCaughtUp && this.#policy.isSettledWith(link)).map(({ hello }) => hello);
  }

  /**
   * The same in numbers: of this cluster only, as long as it has other members, because only they have all that this node must have. Without
   * them, of clusters whose policy is taken, as long as those have members: what they hide this node must not show.
   */
  caughtUp({ clusterId, ownCount, acceptedCount, maxLinks }: Others & { readonly maxLinks: number }): CaughtUp {
    const counts = (hello: Hello) =>
      ownCount > 0 ? hello.clusterId === clusterId : acceptedCount === 0 || this.#sourceOf(hello.clusterId) !== "foreign";
    const hellos = this.caughtUpWith().filter(counts);
    const readyCount = hellos.filter(({ capabilities }) => capabilities.includes(READY)).length;
    // Above that many, links are to some only.
    const wantedCount = Math.min(Math.max(1, ownCount), Math.ceil(maxLinks / 2));
    return { count: hellos.length, readyCount, wantedCount };
  }

  /** `greetedMonoMs`: when this node greeted on the link, at the earliest. */
  open(link: LinkId, { hello, relation, greetedMonoMs }: Greeted, time: Time): void {
    const { nodeId, generation, clusterId, region } = hello;
    this.#replicator.partial.greeted(nodeId, [generation, hello.version, ...hello.capabilities].join(" "), time);
    const takesOffers = hello.capabilities.includes(OFFERS);
    const takesHeartbeats = hello.capabilities.includes(HEARTBEATS);
    const peer = { nodeId, generation, clusterId, region, relation, takesOffers, takesHeartbeats };
    const replication = new LinkReplication(this.#replicator, peer, time, greetedMonoMs);
    this.#all.set(link, { link, hello, replication, isAwake: false, dueMonoMs: 0, isPolicyTurn: true });
    this.#dueMonoMs = 0;
    const takesAny = !hello.capabilities.includes(POLICY_FROM);
    const settles = hello.capabilities.includes(POLICY_FIRST);
    this.#policy.opened(link, { nodeId, clusterId, source: this.#sourceOf(clusterId), takesAny, settles });
    this.#tellLinked();
  }

  close(link: LinkId): void {
    const session = this.#all.get(link);
    session?.replication.close();
    if (session !== undefined) this.#touched.delete(session);
    this.#all.delete(link);
    this.#policy.closed(link);
    this.#tellLinked();
  }

  /** The next frame of a link; undefined when there is nothing now. */
  next(link: LinkId, time: Time): LinkFrame | undefined {
    const session = this.#all.get(link);
    if (session === undefined) return undefined;
    const { replication, isPolicyTurn } = session;
    replication.isHeld = this.#policy.isBehind(link);
    // In turns, the policy first: without it a newcomer is not ready, and a large one must not hold up what is new.
    session.isPolicyTurn = !isPolicyTurn;
    const frame = isPolicyTurn
      ? (this.#policy.next(link, time) ?? replication.next(time))
      : (replication.next(time) ?? this.#policy.next(link, time));
    if (frame === undefined) {
      session.isAwake = false;
      this.#touched.add(session);
      this.#plan(session);
    }
    return frame;
  }

  receive(link: LinkId, frame: ReplicationFrame | PolicyFrame, time: Time, out: FabricOutput[]): readonly ChannelNews[] {
    const session = this.#all.get(link);
    if (session === undefined) return [];
    this.#touched.add(session);
    switch (frame.kind) {
      case "policyHead":
      case "policyWanted":
      case "policySettled":
      case "policyPart":
        this.#policy.receive(link, frame, time, out);
        this.#isAnyDue = true;
        return [];
      case "vector":
      case "records":
      case "linked":
      case "digests": {
        const said: ReplicationOutput[] = [];
        session.replication.receive(frame, time, said);
        const news = this.#pass(session, said, out);
        const { inStepMonoMs } = session.replication;
        if (inStepMonoMs !== undefined) news.push({ kind: "inStep", nodeId: session.hello.nodeId, monoMs: inStepMonoMs });
        return news;
      }
    }
  }

  /** Something that every link may have to tell has changed. */
  wake(): void {
    this.#isAnyDue = true;
  }

  /** What is due. `isStopping`: every link is to be pulled once more, so that its goodbye can follow. */
  // HOT: after every input. A link is looked at when something came over it, when its time has come, or when the vector moved.
  tick(time: Time, { isStopping }: { readonly isStopping: boolean }, out: FabricOutput[]): readonly ChannelNews[] {
    const news: ChannelNews[] = [];
    this.#lastMonoMs = time.monoMs;
    if (time.monoMs >= (this.#replicator.edgeDueMonoMs ?? NEVER)) this.#replicator.changed(time);
    for (let pass = 0; pass < MAX_PASSES; pass++) {
      const { order } = this.#replicator.vector;
      const isAnyDue = this.#isAnyDue || isStopping || this.#hasNews(order, time);
      this.#isAnyDue = false;
      if (isAnyDue) {
        this.#seenOrder = order;
        this.#seenHorizon = this.#replicator.horizon;
        this.#lookMonoMs = time.monoMs + LOOK_MS;
      }
      for (const session of this.#toVisit(isAnyDue, time)) news.push(...this.#visit(session, { time, isStopping }, out));
      if (this.#replicator.vector.order === order) break;
    }
    return news;
  }

  /** Whether the vector moved, by our own news or a while ago. */
  #hasNews(order: number, { monoMs }: Time): boolean {
    return order !== this.#seenOrder && (monoMs >= this.#lookMonoMs || this.#replicator.horizon !== this.#seenHorizon);
  }

  #toVisit(isAnyDue: boolean, { monoMs }: Time): readonly OwnSession[] {
    if (!isAnyDue && monoMs < this.#dueMonoMs) {
      const touched = [...this.#touched];
      this.#touched.clear();
      return touched;
    }
    const visited: OwnSession[] = [];
    this.#dueMonoMs = NEVER;
    for (const session of this.#all.values()) {
      if (isAnyDue || monoMs >= session.dueMonoMs || this.#touched.has(session)) visited.push(session);
      else this.#dueMonoMs = Math.min(this.#dueMonoMs, session.dueMonoMs);
    }
    this.#touched.clear();
    return visited;
  }

  nextDeadlineMs(): number | undefined {
    const look = this.#replicator.vector.order === this.#seenOrder ? NEVER : this.#lookMonoMs;
    const next = Math.min(this.#replicator.edgeDueMonoMs ?? NEVER, this.#all.size === 0 ? NEVER : Math.min(look, this.#dueMonoMs));
    return next === NEVER ? undefined : next;
  }

  #visit(session: OwnSession, now: { readonly time: Time; readonly isStopping: boolean }, out: FabricOutput[]): readonly ChannelNews[] {
    const { replication, link } = session;
    const { time, isStopping } = now;
    let news: readonly ChannelNews[] = [];
    if (time.monoMs >= (replication.nextDeadlineMs() ?? NEVER)) {
      const said: ReplicationOutput[] = [];
      replication.tick(time, said);
      news = this.#pass(session, said, out);
    }
    replication.isHeld = this.#policy.isBehind(link);
    if (!session.isAwake && (isStopping || replication.hasWork(time) || this.#policy.hasWork(link))) {
      session.isAwake = true;
      out.push({ kind: "send", link });
    }
    this.#plan(session);
    return news;
  }

  /** When to look at it again. A peer that does not read leaves what is due undone: not all the time. */
  #plan(session: OwnSession): void {
    const { replication, isAwake } = session;
    session.dueMonoMs = Math.max(replication.nextDeadlineMs() ?? NEVER, this.#lastMonoMs + (isAwake ? STALLED_MS : 1));
    this.#dueMonoMs = Math.min(this.#dueMonoMs, session.dueMonoMs);
  }

  #pass({ link, hello }: OwnSession, said: readonly ReplicationOutput[], out: FabricOutput[]): ChannelNews[] {
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

  #tellLinked(): void {
    this.#isAnyDue = true;
    const hellos = [...this.#all.values()].map(({ hello }) => hello);
    this.#replicator.setLinked(hellos.map(({ nodeId }) => nodeId));
    // What other clusters pass on counts for no age.
    const ours = hellos.filter(({ clusterId }) => clusterId === this.#replicator.place.clusterId);
    this.#replicator.heartbeats.setPassedOn(ours.every(({ capabilities }) => capabilities.includes(HEARTBEATS)));
  }
}
