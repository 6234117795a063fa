/** What is exchanged on the links that are up: replication and the policy. */
import type { Relation } from "../catalog/scope.ts";
import type { Time } from "../lib/machine.ts";
import type { FabricOutput, LinkId } from "./fabric.ts";
import type { Hello, LinkFrame, PolicyFrame, ReplicationFrame } from "./messages.ts";
import type { PolicyExchange } from "./policy-exchange.ts";
import { LinkReplication, type ReplicationOutput } from "./replication.ts";
import type { ReplicationShared } from "./replication-shared.ts";

/** What became known by a link, for the rest of the room. */
export type SessionNews =
  /** The peer has just said that we lack nothing of what it has. */
  | { readonly kind: "inStep"; readonly nodeId: string }
  /** The peer broke the protocol. */
  | { readonly kind: "badFrame"; readonly link: LinkId; readonly detail: string };

export interface Session {
  readonly link: LinkId;
  readonly hello: Hello;
  readonly replication: LinkReplication;
}

interface OwnSession extends Session {
  /** The shell was told that there is something to send, and has not found nothing since. */
  isAwake: boolean;
  /** Whose turn it is to send. */
  isPolicyTurn: boolean;
}

/** A link that has not taken what is due is looked at again after so long. */
const STALLED_MS = 100;
const NEVER = Number.POSITIVE_INFINITY;

export class Sessions {
  readonly #shared: ReplicationShared;
  readonly #policy: PolicyExchange;
  readonly #all = new Map<LinkId, OwnSession>();
  #lastMonoMs = 0;

  constructor(shared: ReplicationShared, policy: PolicyExchange) {
    this.#shared = shared;
    this.#policy = policy;
  }

  get all(): Iterable<Session> {
    return this.#all.values();
  }

  /** Highest number of an origin that a linked peer told; 0 when none did. */
  toldOf(id: string): number {
    let told = 0;
    for (const { replication } of this.#all.values()) told = Math.max(told, replication.toldOf(id));
    return told;
  }

  find(link: LinkId): Session | undefined {
    return this.#all.get(link);
  }

  /** Those of whose news all is here that they had when the link came up, the policy too: without it we would show what the cluster hides. */
  caughtUpWith(): readonly Hello[] {
    const up = [...this.#all.values()];
    return up.filter(({ link, replication }) => replication.isCaughtUp && this.#policy.isSettledWith(link)).map(({ hello }) => hello);
  }

  open(link: LinkId, hello: Hello, relation: Relation, time: Time): void {
    const { nodeId, generation, clusterId, region } = hello;
    const replication = new LinkReplication(this.#shared, { nodeId, generation, clusterId, region, relation }, time);
    this.#all.set(link, { link, hello, replication, isAwake: false, isPolicyTurn: true });
    this.#policy.opened(link, time);
    this.#tellLinked();
  }

  close(link: LinkId): void {
    this.#all.get(link)?.replication.close();
    this.#all.delete(link);
    this.#policy.closed(link);
    this.#tellLinked();
  }

  /** The next frame of a link; undefined when there is nothing now. */
  next(link: LinkId, time: Time): LinkFrame | undefined {
    const session = this.#all.get(link);
    if (session === undefined) return undefined;
    const { replication, isPolicyTurn } = session;
    // In turns, the policy first: without it a newcomer is not ready, and a large one must not hold up what is new.
    session.isPolicyTurn = !isPolicyTurn;
    const frame = isPolicyTurn
      ? (this.#policy.next(link, time) ?? replication.next(time))
      : (replication.next(time) ?? this.#policy.next(link, time));
    if (frame === undefined) session.isAwake = false;
    return frame;
  }

  receive(link: LinkId, frame: ReplicationFrame | PolicyFrame, time: Time, out: FabricOutput[]): readonly SessionNews[] {
    const session = this.#all.get(link);
    if (session === undefined) return [];
    switch (frame.kind) {
      case "policyHead":
      case "policyWanted":
      case "policyPart":
        this.#policy.receive(link, frame, time, out);
        return [];
      case "vector":
      case "records":
      case "linked":
      case "digests": {
        const said: ReplicationOutput[] = [];
        session.replication.receive(frame, time, said);
        const news = this.#pass(session, said, out);
        if (session.replication.isCaughtUp && session.replication.lag(time).behindSeqs === 0)
          news.push({ kind: "inStep", nodeId: session.hello.nodeId });
        return news;
      }
    }
  }

  /** What is due. `isStopping`: every link is to be pulled once more, so that its goodbye can follow. */
  tick(time: Time, { isStopping }: { readonly isStopping: boolean }, out: FabricOutput[]): readonly SessionNews[] {
    const news: SessionNews[] = [];
    this.#lastMonoMs = time.monoMs;
    if (time.monoMs >= (this.#shared.edgeDueMonoMs ?? NEVER)) this.#shared.changed(time);
    for (const session of this.#all.values()) {
      const { replication, link } = session;
      if (time.monoMs >= (replication.nextDeadlineMs() ?? NEVER)) {
        const said: ReplicationOutput[] = [];
        replication.tick(time, said);
        news.push(...this.#pass(session, said, out));
      }
      if (session.isAwake || !(isStopping || replication.hasWork(time) || this.#policy.hasWork(link))) continue;
      session.isAwake = true;
      out.push({ kind: "send", link });
    }
    return news;
  }

  nextDeadlineMs(): number | undefined {
    let next = this.#shared.edgeDueMonoMs ?? NEVER;
    // A peer that does not read leaves what is due undone: looked at again, but not all the time.
    for (const { replication, isAwake } of this.#all.values())
      next = Math.min(next, Math.max(replication.nextDeadlineMs() ?? NEVER, this.#lastMonoMs + (isAwake ? STALLED_MS : 1)));
    return next === NEVER ? undefined : next;
  }

  #pass({ link, hello }: OwnSession, said: readonly ReplicationOutput[], out: FabricOutput[]): SessionNews[] {
    const news: SessionNews[] = [];
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
    this.#shared.setLinked([...this.#all.values()].map(({ hello }) => hello.nodeId));
  }
}
