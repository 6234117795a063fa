/** Decides whether this node may serve reads of the mesh, and how old its data is (semantics.md, Watch 7). */

import type { LostOrigins } from "../catalog/replica/lost-origins.ts";
import { isStamp, stampOf } from "../lib/hlc.ts";
import { NEVER, type OptionsOf, type Time } from "../lib/machine.ts";
import type { DataFreshness, ReplicationAge } from "./data-freshness.ts";
import type { FabricNews } from "./part.ts";

/** Constants that are not settings. */
export const READINESS_FIXED = {
  /** For this time after a peer refused this node, the node does not start to serve alone. It retries the peer well within this time. */
  refusedMs: 30_000,
  /** A peer that is in sync sends something at least this often. */
  quietMs: 4000,
  /**
   * This is the time after the join timeout at which a node serves its data in two cases: all nodes are starting and one of them cannot be reached,
   * or the node has many unresponsive seeds and has not tried all of them.
   */
  catchUpTimeoutMs: 30_000,
} as const;

export interface ReadinessOptions extends OptionsOf<typeof READINESS_FIXED> {
  /** A node whose seeds do not answer serves alone after this time. It continues to call the seeds. */
  readonly joinTimeoutMs: number;
}

export interface ReadyState {
  readonly isReady: boolean;
  readonly reason: "alone" | "joining" | "refused" | "catching_up" | "caught_up";
  readonly detail: string;
  /**
   * How old this node's data may be: the time since this node last had everything that its slowest peer had, or 0 without peers. On a node that is
   * not ready, or that serves alone from a snapshot, it is the age of the snapshot. Without a snapshot, it is the time since 1970.
   */
  readonly ageMs: number;
  /** Whether the node is ready and has been in sync with every peer within the last `quietMs`. Features that need a complete view require this. */
  readonly isInStep: boolean;
}

/** The linked peers that this node has caught up with, that is, it has everything that they had when their link came up. */
export interface CaughtUp {
  readonly count: number;
  /** The peers that were ready when they sent their hello. */
  readonly readyCount: number;
  /** The number of peers to catch up with. */
  readonly wantedCount: number;
}

type JoinState =
  | { readonly kind: "joining"; readonly deadlineMonoMs: number }
  | { readonly kind: "catching_up" }
  /** Final states. Changes that arrive after this time are live changes, even on a node that was alone. */
  | { readonly kind: "alone" | "caught_up" };

/** The address from which this node was refused, and the reason. */
export interface JoinRejection {
  readonly address: string;
  readonly why: string;
}

export interface ReadinessParts {
  readonly hasSeeds: boolean;
  /**
   * Monotonic time (ms) at which the snapshot that the node started with was current, often before this process started. Undefined without a
   * snapshot.
   */
  readonly asOfMonoMs: number | undefined;
  readonly freshness: DataFreshness;
  /** Whether this node has records that could change on other nodes. A snapshot without such records has no age. */
  readonly mayBeBehind: () => boolean;
}

export class FabricReadiness {
  readonly #options: ReadinessOptions;
  readonly #parts: ReadinessParts;
  #state: JoinState | undefined;
  #startMonoMs = 0;
  /** The total length of pauses since `#startMonoMs`. Pauses do not count towards timeouts. */
  #postponedMs = 0;
  #areSeedsTried = false;
  #hasPeers = false;
  /** The most recent case in which a peer refused this node. */
  #refusal: (JoinRejection & { readonly untilMonoMs: number }) | undefined;
  /** From this time on, the peers that this node has caught up with are sufficient. */
  #dueMonoMs = NEVER;

  constructor(options: ReadinessOptions, parts: ReadinessParts) {
    this.#options = options;
    this.#parts = parts;
  }

  /** Runs at every tick. `hasPeers`: other members are known. `areSeedsTried`: all seeds have been asked, and no answer is pending. */
  tick({ hasPeers, areSeedsTried }: { readonly hasPeers: boolean; readonly areSeedsTried: boolean }, time: Time): void {
    const { monoMs } = time;
    this.#areSeedsTried = areSeedsTried;
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
   * Handles a change in the set of peers that this node has caught up with. One peer that was ready when it sent its hello is sufficient. When all
   * nodes are starting, none is ready and each may have its own data. In this case, the node must catch up with all of them, after the join timeout.
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
   * Handles a peer's answer. A peer that refuses this node shows that other nodes exist and that this node lacks the peer's data. The refusal expires
   * when the same peer accepts the node.
   */
  met(answer: Extract<FabricNews, { readonly kind: "turnedAway" | "letIn" }>, { monoMs }: Time): void {
    switch (answer.kind) {
      case "turnedAway":
        this.#refusal = { address: answer.address, why: answer.why, untilMonoMs: monoMs + this.#options.refusedMs };
        return;
      case "letIn":
        if (this.#refusal?.address === answer.address) this.#refusal = undefined;
    }
  }

  /** Whether this node has ever caught up with a peer. */
  get hasCaughtUp(): boolean {
    return this.#state?.kind === "caught_up";
  }

  /** Extends the deadlines of seeds and refusals by the length of a pause of this process. The age of the data includes the pause. */
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

  // HOT: runs for every response.
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
   * Returns the set of nodes with which this node has been in sync since that time: all nodes of its cluster, all peers that are still listed, or
   * fewer. Unlisted nodes are included while so much of the cluster is missing that this node may be the isolated one.
   */
  inStepWith(time: Time, sinceMonoMs: number): "all" | "listed" | "less" {
    if (!this.isReady || !this.#isCurrent) return "less";
    const { nodeIds } = this.#parts.freshness.read(time, this.#options.quietMs, sinceMonoMs);
    if (nodeIds.length === 0) return "all";
    return nodeIds.every((nodeId) => this.#parts.freshness.isLost(nodeId)) ? "listed" : "less";
  }

  /**
   * For a newly known peer, the time up to which this node is assumed to have everything that the peer wrote. After this node has caught up, or when
   * it is alone, the peer is treated as new. Before that, the peer may have written since this node's snapshot was made.
   */
  knownMonoMs(time: Time): number {
    return this.#isCurrent ? time.monoMs : this.#begunMonoMs(time);
  }

  /** Whether the data is current. A node that serves alone does not make an old snapshot current. */
  get #isCurrent(): boolean {
    const kind = this.#state?.kind;
    return kind === "caught_up" || (kind === "alone" && (this.#parts.asOfMonoMs === undefined || !this.#parts.mayBeBehind()));
  }

  /** Returns the age of the data that this node started with. */
  startAgeMs(time: Time): number {
    return time.monoMs - this.#begunMonoMs(time);
  }

  /**
   * Returns the time at which the data that this node started with was current. For an empty replica, this is 1970, because the age of the missing
   * records is unknown.
   */
  #begunMonoMs({ monoMs, wallMs }: Time): number {
    return this.#parts.asOfMonoMs ?? monoMs - wallMs;
  }

  /** Returns when a node that no peer has accepted starts serving alone. */
  #aloneMonoMs({ deadlineMonoMs }: JoinState & { readonly kind: "joining" }): number {
    const dueMonoMs = this.#areSeedsTried ? deadlineMonoMs : deadlineMonoMs + this.#options.catchUpTimeoutMs;
    return Math.max(dueMonoMs, this.#refusal?.untilMonoMs ?? dueMonoMs);
  }
}

/** Maximum number of node ids in a detail text. */
const MAX_NAMES = 5;
/** The text depends on the current members, not only on how the node started. */
const ALONE = { true: "catching up with its first peers", false: "running alone" } as const;
const IN_STEP = { true: "in sync with all peers", false: "no peers left" } as const;

interface ReadinessContext {
  readonly refusal: JoinRejection | undefined;
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
        "no seed has answered yet: set fabric.seeds (--join) to the fabric address of a running node; " +
        "without an answer, this node serves alone after fabric.join_timeout"
      );
    case "refused":
      return `${refusalText(refusal)}: give this node a token, certificate, cluster and region that the peer accepts, or start it without seeds to run alone`;
    case "catching_up":
      return withRefusal("not yet caught up with any peer", refusal);
    case "alone":
    case "caught_up":
      if (nodeIds.length > 0) return withRefusal(`not in sync with ${named(nodeIds)}`, refusal);
      if (otherNodeIds.length > 0)
        return withRefusal(`in sync with this cluster; not in sync with ${named(otherNodeIds)} of other clusters`, refusal);
      return withRefusal(reason === "alone" ? ALONE[`${hasPeers}`] : IN_STEP[`${hasPeers}`], refusal);
  }
}

function named(nodeIds: readonly string[]): string {
  const moreCount = nodeIds.length - MAX_NAMES;
  return `${nodeIds.slice(0, MAX_NAMES).join(", ")}${moreCount > 0 ? ` and ${moreCount} more` : ""}`;
}

/** Adds the latest refusal to a detail text. */
function withRefusal(detail: string, refusal: JoinRejection | undefined): string {
  return refusal === undefined ? detail : `${detail}; ${refusalText(refusal)}`;
}

function refusalText(refusal: JoinRejection | undefined): string {
  return `refused by ${refusal?.address ?? ""} (${refusal?.why ?? ""})`;
}

// Decides when old tombstones may be collected. They must not be collected while a node is down or unreachable that could return with a record that
// only a tombstone removes (P6).
/** All nodes must have been reachable for this time. This is enough time for many exchanges of version vectors and for full transfers. */
const TOGETHER_MS = 30_000;

interface ReadinessInputs extends Pick<ReadyState, "isInStep"> {
  readonly isAnybodyAway: boolean;
  readonly lost: LostOrigins;
  /** Whether this node's clock differs from most other clocks. If so, a time that its clock places far in the past may still be in the future. */
  readonly isClockOff: boolean;
}

export class CollectionGate {
  /** The time since which all nodes have been present and in sync, as of the last call. */
  #togetherMonoMs: number | undefined;

  /** Returns whether old tombstones may be collected. Returning nodes are first given time to receive them. */
  mayCollect({ isInStep, isAnybodyAway, lost, isClockOff }: ReadinessInputs, { monoMs, wallMs }: Time): boolean {
    const isSomebodyBack = lost.takeBack();
    if (!isInStep || isAnybodyAway || isSomebodyBack) {
      this.#togetherMonoMs = undefined;
      return false;
    }
    this.#togetherMonoMs ??= monoMs;
    const may = monoMs - this.#togetherMonoMs >= TOGETHER_MS;
    // A node that was lost and has returned has received everything that it missed.
    if (may) lost.settle();
    return may && !isClockOff && isStamp(stampOf(wallMs));
  }
}
