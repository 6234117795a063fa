/** Whether this node may answer for the mesh, and how old what it would say is (semantics.md, Watch 7). */
import { NEVER, type Time } from "../lib/machine.ts";
import type { Behind, Freshness } from "./freshness.ts";

export interface ReadinessOptions {
  /** With seeds of which none answers, a node serves alone after so long; it goes on trying. */
  readonly joinTimeoutMs: number;
  /** Who turned this node away keeps it from serving alone for so long; tried again well within that. */
  readonly refusedMs: number;
  /** A peer in step speaks at least so often. */
  readonly quietMs: number;
  /**
   * When all are starting, and somebody cannot be linked to, a node serves what it has after so long beyond the join timeout; and one with many
   * silent seeds, when not each of them has had its time.
   */
  readonly catchUpTimeoutMs: number;
}

/** What is not a setting. */
export const READINESS_FIXED = {
  refusedMs: 30_000,
  quietMs: 4000,
  catchUpTimeoutMs: 30_000,
} as const satisfies Partial<ReadinessOptions>;

export interface ReadyState {
  readonly isReady: boolean;
  readonly reason: "alone" | "joining" | "refused" | "catching_up" | "caught_up";
  readonly detail: string;
  /**
   * How old what is held here may be: the time since the slowest peer last told that we lack nothing of what it has; 0 without peers. Of a
   * node that is not ready, or alone with a snapshot, the age of what it started with; without a snapshot, the time since 1970.
   */
  readonly ageMs: number;
  /** Ready, and every peer has told so within the last `quietMs`: what asks for a whole view asks for this. */
  readonly isInStep: boolean;
}

/** Peers that are up, and all of whose news from when their link came up is here. */
export interface CaughtUp {
  readonly count: number;
  /** Of them, those that were ready when they greeted. */
  readonly readyCount: number;
  /** Those there are to catch up with. */
  readonly wantedCount: number;
}

type State =
  | { readonly kind: "joining"; readonly deadlineMonoMs: number }
  | { readonly kind: "catching_up" }
  /** For good: what is learned after this is news, also when it was alone. */
  | { readonly kind: "alone" | "caught_up" };

/** An address where this node was turned away, and why. */
export interface TurnedAway {
  readonly address: string;
  readonly why: string;
}

/** How this node was met at an address. */
export type Met = ({ readonly kind: "turnedAway" } & TurnedAway) | { readonly kind: "letIn"; readonly address: string };

export interface ReadinessParts {
  readonly hasSeeds: boolean;
  /** Monotonic ms at which the snapshot that the node started with was right, often before this process began. Undefined without one. */
  readonly asOfMonoMs: number | undefined;
  readonly freshness: Freshness;
  /** Whether this node holds anything that may change elsewhere. A snapshot without such data has no age. */
  readonly mayBeBehind: () => boolean;
}

export class Readiness {
  readonly #options: ReadinessOptions;
  readonly #hasSeeds: boolean;
  readonly #asOfMonoMs: number | undefined;
  #state: State | undefined;
  #startMonoMs = 0;
  /** Time since then that does not count for others. */
  #postponedMs = 0;
  #areSeedsHeard = false;
  #hasPeers = false;
  /** The last time that this node was turned away. */
  #refusal: (TurnedAway & { readonly untilMonoMs: number }) | undefined;
  /** From then on the peers that this node has caught up with are enough. */
  #dueMonoMs = NEVER;
  readonly #freshness: Freshness;
  readonly #mayBeBehind: () => boolean;

  constructor(options: ReadinessOptions, { hasSeeds, asOfMonoMs, freshness, mayBeBehind }: ReadinessParts) {
    this.#freshness = freshness;
    this.#mayBeBehind = mayBeBehind;
    this.#options = options;
    this.#hasSeeds = hasSeeds;
    this.#asOfMonoMs = asOfMonoMs;
  }

  /** At every tick. `hasPeers`: somebody is known whom to catch up with. `areSeedsHeard`: each has been asked, and none may still answer. */
  tick({ hasPeers, areSeedsHeard }: { readonly hasPeers: boolean; readonly areSeedsHeard: boolean }, time: Time): void {
    const { monoMs } = time;
    this.#areSeedsHeard = areSeedsHeard;
    this.#hasPeers = hasPeers;
    if (this.#state === undefined) {
      this.#startMonoMs = monoMs;
      this.#state = this.#hasSeeds ? { kind: "joining", deadlineMonoMs: monoMs + this.#options.joinTimeoutMs } : { kind: "alone" };
    }
    switch (this.#state.kind) {
      case "joining":
        if (hasPeers) this.#state = { kind: "catching_up" };
        else if (monoMs >= this.#aloneMonoMs(this.#state)) this.#state = { kind: "alone" };
        return;
      case "catching_up":
        if (!hasPeers) this.#state = { kind: "joining", deadlineMonoMs: monoMs + this.#options.joinTimeoutMs };
        return;
      case "alone":
      case "caught_up":
    }
  }

  /**
   * With whom this node has caught up. One that was ready is enough. When all are starting, nobody is, and what each brings counts:
   * then all must have been heard, and everybody had the time to join.
   */
  caughtUpWith({ readyCount, count, wantedCount }: CaughtUp, time: Time): void {
    this.#dueMonoMs = NEVER;
    if (count === 0 || this.hasCaughtUp) return;
    const { joinTimeoutMs, catchUpTimeoutMs } = this.#options;
    const waitMs = readyCount > 0 ? 0 : joinTimeoutMs + (count >= wantedCount ? 0 : catchUpTimeoutMs);
    const dueMonoMs = this.#startMonoMs + this.#postponedMs + waitMs;
    if (time.monoMs >= dueMonoMs) this.#state = { kind: "caught_up" };
    else this.#dueMonoMs = dueMonoMs;
  }

  /**
   * Somebody is there. Who turns this node away shows that it is not alone, and that it lacks what it would be told there. Once the same one lets it
   * in, the refusal counts no more.
   */
  met(said: Met, { monoMs }: Time): void {
    switch (said.kind) {
      case "turnedAway":
        this.#refusal = { address: said.address, why: said.why, untilMonoMs: monoMs + this.#options.refusedMs };
        return;
      case "letIn":
        if (this.#refusal?.address === said.address) this.#refusal = undefined;
    }
  }

  /** Whether it has ever been in step with a peer. */
  get hasCaughtUp(): boolean {
    return this.#state?.kind === "caught_up";
  }

  /** This node stood still: its seeds have so much longer to answer. How old what it holds is does not change by that. */
  postpone(byMs: number): void {
    this.#postponedMs += byMs;
    if (this.#state?.kind === "joining") this.#state = { kind: "joining", deadlineMonoMs: this.#state.deadlineMonoMs + byMs };
    if (this.#refusal !== undefined) this.#refusal = { ...this.#refusal, untilMonoMs: this.#refusal.untilMonoMs + byMs };
    this.#dueMonoMs += byMs;
  }

  get isReady(): boolean {
    return this.#state?.kind === "alone" || this.#state?.kind === "caught_up";
  }

  nextDeadlineMs(): number {
    if (this.#state === undefined) return 0;
    if (this.#state.kind === "joining") return this.#aloneMonoMs(this.#state);
    return this.hasCaughtUp ? NEVER : this.#dueMonoMs;
  }

  // HOT: asked at every answer.
  read(time: Time): ReadyState {
    const { isReady } = this;
    const refusal = this.#refusal !== undefined && time.monoMs < this.#refusal.untilMonoMs ? this.#refusal : undefined;
    const kind = this.#state?.kind ?? "joining";
    const reason = kind === "joining" && refusal !== undefined ? "refused" : kind;
    const behind = this.#freshness.read(time, this.#options.quietMs);
    const isCurrent = this.#isCurrent;
    const ageMs = isCurrent ? behind.ageMs : time.monoMs - this.#begunMonoMs(time);
    const isInStep = isReady && isCurrent && behind.nodeIds.length === 0;
    return { isReady, reason, detail: detailOf(reason, behind, { refusal, hasPeers: this.#hasPeers }), ageMs, isInStep };
  }

  /**
   * Up to when all that a peer had, which is just heard of, may be taken to be here. Once this node has caught up, or is alone, the peer is taken
   * for a new one; before, it may have written since this node's snapshot was made.
   */
  knownMonoMs(time: Time): number {
    return this.#isCurrent ? time.monoMs : this.#begunMonoMs(time);
  }

  /** Alone with what others told long ago is not fresher for serving it. */
  get #isCurrent(): boolean {
    const kind = this.#state?.kind;
    return kind === "caught_up" || (kind === "alone" && (this.#asOfMonoMs === undefined || !this.#mayBeBehind()));
  }

  /** When the data that this node started with was right. An empty replica is right as of 1970: nobody knows when what it lacks was written. */
  #begunMonoMs({ monoMs, wallMs }: Time): number {
    return this.#asOfMonoMs ?? monoMs - wallMs;
  }

  /** When a node that nobody has let in serves alone. */
  #aloneMonoMs({ deadlineMonoMs }: State & { readonly kind: "joining" }): number {
    const dueMonoMs = this.#areSeedsHeard ? deadlineMonoMs : deadlineMonoMs + this.#options.catchUpTimeoutMs;
    return Math.max(dueMonoMs, this.#refusal?.untilMonoMs ?? dueMonoMs);
  }
}

/** Names told in a detail. */
const MAX_NAMES = 5;
/** What is told goes by who is there now, not only by how the node began. */
const ALONE = { true: "catching up with its first peers", false: "started alone" } as const;
const IN_STEP = { true: "in step with all peers", false: "alone now" } as const;

interface Around {
  readonly refusal: TurnedAway | undefined;
  readonly hasPeers: boolean;
}

function detailOf(reason: ReadyState["reason"], { nodeIds, otherNodeIds }: Behind, { refusal, hasPeers }: Around): string {
  switch (reason) {
    case "joining":
      return (
        "no seed has answered yet: a node must run at an address of fabric.seeds (--join), which names fabric ports; " +
        "without an answer this node serves alone after fabric.join_timeout"
      );
    case "refused":
      return `${refusalText(refusal)}: give this node the token, certificate, cluster and region that are taken there, or start it without seeds to run alone`;
    case "catching_up":
      return withRefusal("has not caught up with any peer yet", refusal);
    case "alone":
    case "caught_up":
      if (nodeIds.length > 0) return withRefusal(`not in step with ${named(nodeIds)}`, refusal);
      if (otherNodeIds.length > 0) return withRefusal(`in step with its cluster, not with ${named(otherNodeIds)} of others`, refusal);
      return withRefusal(reason === "alone" ? ALONE[`${hasPeers}`] : IN_STEP[`${hasPeers}`], refusal);
  }
}

function named(nodeIds: readonly string[]): string {
  const moreCount = nodeIds.length - MAX_NAMES;
  return `${nodeIds.slice(0, MAX_NAMES).join(", ")}${moreCount > 0 ? ` and ${moreCount} more` : ""}`;
}

/** What else is so is not less so, but whoever reads it is to know. */
function withRefusal(detail: string, refusal: TurnedAway | undefined): string {
  return refusal === undefined ? detail : `${detail}; ${refusalText(refusal)}`;
}

function refusalText(refusal: TurnedAway | undefined): string {
  return `turned away by ${refusal?.address ?? ""} (${refusal?.why ?? ""})`;
}
