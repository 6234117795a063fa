/** Whether this node may answer for the mesh, and how old its data is (semantics.md, Watch 7). */

import type { LostOrigins } from "../catalog/replica/lost-origins.ts";
import { isStamp, stampOf } from "../lib/hlc.ts";
import { NEVER, type OptionsOf, type Time } from "../lib/machine.ts";
import type { DataFreshness, ReplicationAge } from "./data-freshness.ts";
import type { FabricNews } from "./part.ts";

/** What is not a setting. */
export const READINESS_FIXED = {
  /** A peer that turned this node away keeps it from serving alone for this time. The node tries again well within it. */
  refusedMs: 30_000,
  /** A peer in step sends something at least this often. */
  quietMs: 4000,
  /**
   * This long after the join timeout a node serves what it has, in two cases: all nodes are starting and one of them cannot be linked to; or
   * the node has many silent seeds and not all of them were tried.
   */
  catchUpTimeoutMs: 30_000,
} as const;

export interface ReadinessOptions extends OptionsOf<typeof READINESS_FIXED> {
  /** A node whose seeds do not answer serves alone after this time, and goes on trying. */
  readonly joinTimeoutMs: number;
}

export interface ReadyState {
  readonly isReady: boolean;
  readonly reason: "alone" | "joining" | "refused" | "catching_up" | "caught_up";
  readonly detail: string;
  /**
   * How old the data here may be: the time since this node last lacked nothing that the slowest peer had; 0 without peers. For a node that is
   * not ready, or alone with a snapshot, it is the age of the snapshot; without a snapshot it is the time since 1970.
   */
  readonly ageMs: number;
  /** Whether it is ready and was in step with every peer within the last `quietMs`. Whatever needs a whole view needs this. */
  readonly isInStep: boolean;
}

/** Linked peers of which this node has everything that they had when their link came up. */
export interface CaughtUp {
  readonly count: number;
  /** Those that were ready when they greeted. */
  readonly readyCount: number;
  /** Peers to catch up with. */
  readonly wantedCount: number;
}

type JoinState =
  | { readonly kind: "joining"; readonly deadlineMonoMs: number }
  | { readonly kind: "catching_up" }
  /** Final states: what is learned afterwards is news, also for a node that was alone. */
  | { readonly kind: "alone" | "caught_up" };

/** The address where this node was turned away, and why. */
export interface TurnedAway {
  readonly address: string;
  readonly why: string;
}

export interface ReadinessParts {
  readonly hasSeeds: boolean;
  /** Monotonic ms at which the snapshot that the node started with was right, often before this process began. Undefined without one. */
  readonly asOfMonoMs: number | undefined;
  readonly freshness: DataFreshness;
  /** Whether this node holds anything that may change elsewhere. A snapshot without such data has no age. */
  readonly mayBeBehind: () => boolean;
}

export class FabricReadiness {
  readonly #options: ReadinessOptions;
  readonly #parts: ReadinessParts;
  #state: JoinState | undefined;
  #startMonoMs = 0;
  /** Time since `#startMonoMs` that does not count against others. */
  #postponedMs = 0;
  #areSeedsHeard = false;
  #hasPeers = false;
  /** The last time that this node was turned away. */
  #refusal: (TurnedAway & { readonly untilMonoMs: number }) | undefined;
  /** From then on the peers that this node has caught up with are enough. */
  #dueMonoMs = NEVER;

  constructor(options: ReadinessOptions, parts: ReadinessParts) {
    this.#options = options;
    this.#parts = parts;
  }

  /** At every tick. `hasPeers`: other members are known. `areSeedsHeard`: all seeds have been asked, and none may still answer. */
  tick({ hasPeers, areSeedsHeard }: { readonly hasPeers: boolean; readonly areSeedsHeard: boolean }, time: Time): void {
    const { monoMs } = time;
    this.#areSeedsHeard = areSeedsHeard;
    this.#hasPeers = hasPeers;
    if (this.#state === undefined) {
      this.#startMonoMs = monoMs;
      this.#state = this.#parts.hasSeeds ? { kind: "joining", deadlineMonoMs: monoMs + this.#options.joinTimeoutMs } : { kind: "alone" };
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
   * The peers that this node has caught up with. One that was ready is enough. When all nodes are starting, none is ready, and each may have
   * data of its own: then the node must catch up with all of them, after the time that joining takes.
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
   * A peer answered. One that turns this node away shows that the node is not alone, and that it lacks the peer's data. The refusal no longer
   * counts once the same peer lets the node in.
   */
  met(said: Extract<FabricNews, { readonly kind: "turnedAway" | "letIn" }>, { monoMs }: Time): void {
    switch (said.kind) {
      case "turnedAway":
        this.#refusal = { address: said.address, why: said.why, untilMonoMs: monoMs + this.#options.refusedMs };
        return;
      case "letIn":
        if (this.#refusal?.address === said.address) this.#refusal = undefined;
    }
  }

  /** Whether this node was ever in step with a peer. */
  get hasCaughtUp(): boolean {
    return this.#state?.kind === "caught_up";
  }

  /** This node stood still. Its seeds have that much longer to answer. The age of its data goes on. */
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
    const behind = this.#parts.freshness.read(time, this.#options.quietMs);
    const isCurrent = this.#isCurrent;
    const ageMs = isCurrent ? behind.ageMs : time.monoMs - this.#begunMonoMs(time);
    const isInStep = isReady && isCurrent && behind.nodeIds.length === 0;
    return { isReady, reason, detail: detailOf(reason, behind, { refusal, hasPeers: this.#hasPeers }), ageMs, isInStep };
  }

  /**
   * With whom of its cluster this node is in step, and was since that time: with all, or with every peer that is listed, or with less. The others count too
   * while so much of the cluster is missing that this node may be the one that is cut off.
   */
  inStepWith(time: Time, sinceMonoMs: number): "all" | "listed" | "less" {
    if (!this.isReady || !this.#isCurrent) return "less";
    const { nodeIds } = this.#parts.freshness.read(time, this.#options.quietMs, sinceMonoMs);
    if (nodeIds.length === 0) return "all";
    return nodeIds.every((nodeId) => this.#parts.freshness.isLost(nodeId)) ? "listed" : "less";
  }

  /**
   * For a peer that was just heard of: this node is taken to have everything that the peer wrote until this time. When this node has caught up, or
   * is alone, the peer counts as new. Before that, the peer may have written since this node's snapshot was made.
   */
  knownMonoMs(time: Time): number {
    return this.#isCurrent ? time.monoMs : this.#begunMonoMs(time);
  }

  /** A node that serves alone with an old snapshot is not fresher for that. */
  get #isCurrent(): boolean {
    const kind = this.#state?.kind;
    return kind === "caught_up" || (kind === "alone" && (this.#parts.asOfMonoMs === undefined || !this.#parts.mayBeBehind()));
  }

  /** How old the data is that this node started with. */
  startAgeMs(time: Time): number {
    return time.monoMs - this.#begunMonoMs(time);
  }

  /** When the data that this node started with was right. An empty replica is right as of 1970: nobody knows when what it lacks was written. */
  #begunMonoMs({ monoMs, wallMs }: Time): number {
    return this.#parts.asOfMonoMs ?? monoMs - wallMs;
  }

  /** When a node serves alone that no peer has let in. */
  #aloneMonoMs({ deadlineMonoMs }: JoinState & { readonly kind: "joining" }): number {
    const dueMonoMs = this.#areSeedsHeard ? deadlineMonoMs : deadlineMonoMs + this.#options.catchUpTimeoutMs;
    return Math.max(dueMonoMs, this.#refusal?.untilMonoMs ?? dueMonoMs);
  }
}

/** Most names in a detail. */
const MAX_NAMES = 5;
/** The text depends on the members that are there now, not only on how the node began. */
const ALONE = { true: "catching up with its first peers", false: "started alone" } as const;
const IN_STEP = { true: "in step with all peers", false: "alone now" } as const;

interface ReadinessContext {
  readonly refusal: TurnedAway | undefined;
  readonly hasPeers: boolean;
}

function detailOf(
  reason: ReadyState["reason"],
  { nodeIds, otherNodeIds }: ReplicationAge,
  { refusal, hasPeers }: ReadinessContext,
): string {
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

/** The state stays as it is, but its reader is to know of the refusal. */
function withRefusal(detail: string, refusal: TurnedAway | undefined): string {
  return refusal === undefined ? detail : `${detail}; ${refusalText(refusal)}`;
}

function refusalText(refusal: TurnedAway | undefined): string {
  return `turned away by ${refusal?.address ?? ""} (${refusal?.why ?? ""})`;
}

// When old tombstones may be collected: not while a node is away or cut off that may return with a record that only a tombstone ends (P6).
/** All nodes must have been in reach for this time, which is enough for many exchanges of vectors and for whole transfers. */
const TOGETHER_MS = 30_000;

interface ReadinessInputs extends Pick<ReadyState, "isInStep"> {
  readonly isAnybodyAway: boolean;
  readonly lost: LostOrigins;
  /** This node's clock differs from those of most others. A time that is long past for it may be still to come. */
  readonly isClockOff: boolean;
}

export class CollectionGate {
  /** Since when no node is away or out of step, as of the last call. */
  #togetherMonoMs: number | undefined;

  /** They may not before nodes that were away have had the time to hear of them. */
  mayCollect({ isInStep, isAnybodyAway, lost, isClockOff }: ReadinessInputs, { monoMs, wallMs }: Time): boolean {
    const isSomebodyBack = lost.takeBack();
    if (!isInStep || isAnybodyAway || isSomebodyBack) {
      this.#togetherMonoMs = undefined;
      return false;
    }
    this.#togetherMonoMs ??= monoMs;
    const may = monoMs - this.#togetherMonoMs >= TOGETHER_MS;
    // A node that was lost and came back has heard everything that it missed.
    if (may) lost.settle();
    return may && !isClockOff && isStamp(stampOf(wallMs));
  }
}
