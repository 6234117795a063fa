/** Whether this node may answer for the mesh, and how old what it would say is (semantics.md, Watch 7). */
import type { Time } from "../lib/machine.ts";

export interface ReadinessOptions {
  /** With seeds of which none answers, a node serves alone after so long; it goes on trying. */
  readonly joinTimeoutMs: number;
  /** A peer in step speaks at least so often; silence up to here is no age. */
  readonly quietMs: number;
  /** When all are starting, and somebody cannot be linked to, a node serves what it has after so long beyond the join timeout. */
  readonly catchUpTimeoutMs: number;
}

export const READINESS_DEFAULTS: ReadinessOptions = { joinTimeoutMs: 5000, quietMs: 4000, catchUpTimeoutMs: 30_000 };

export interface ReadyState {
  readonly isReady: boolean;
  readonly reason: "alone" | "joining" | "catching_up" | "caught_up";
  readonly detail: string;
  /**
   * How old what is held here may be: 0 while every peer that a link is wanted to has told within the last `quietMs` that there is nothing
   * of its that we lack; else the longest time since one did. Of a node that is not ready, or alone with a snapshot, the age of what it started with.
   */
  readonly ageMs: number;
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

export class Readiness {
  readonly #options: ReadinessOptions;
  readonly #hasSeeds: boolean;
  readonly #startAgeMs: number;
  #state: State | undefined;
  #startMonoMs = 0;
  /** When what is caught up with by then is enough. */
  #dueMonoMs: number | undefined;
  /** Peers a link is wanted to, and when each was last in step; before that, since when it is wanted. */
  readonly #inStepMonoMs = new Map<string, number>();

  /** `startAgeMs`: how old the snapshot is that the node started with. */
  constructor(options: ReadinessOptions, { hasSeeds, startAgeMs }: { readonly hasSeeds: boolean; readonly startAgeMs: number }) {
    this.#options = options;
    this.#hasSeeds = hasSeeds;
    this.#startAgeMs = startAgeMs;
  }

  /** At every tick. `hasPeers`: somebody is known whom to catch up with. */
  tick(hasPeers: boolean, time: Time): void {
    const { monoMs } = time;
    if (this.#state === undefined) {
      this.#startMonoMs = monoMs;
      this.#state = this.#hasSeeds ? { kind: "joining", deadlineMonoMs: monoMs + this.#options.joinTimeoutMs } : { kind: "alone" };
    }
    switch (this.#state.kind) {
      case "joining":
        if (hasPeers) this.#state = { kind: "catching_up" };
        else if (monoMs >= this.#state.deadlineMonoMs) this.#state = { kind: "alone" };
        return;
      case "catching_up":
        if (!hasPeers) this.#state = { kind: "joining", deadlineMonoMs: monoMs + this.#options.joinTimeoutMs };
        return;
      case "alone":
      case "caught_up":
    }
  }

  /** From now on links are wanted to these. */
  want(nodeIds: readonly string[], time: Time): void {
    const wanted = new Set(nodeIds);
    for (const nodeId of this.#inStepMonoMs.keys()) if (!wanted.has(nodeId)) this.#inStepMonoMs.delete(nodeId);
    for (const nodeId of wanted) if (!this.#inStepMonoMs.has(nodeId)) this.#inStepMonoMs.set(nodeId, time.monoMs);
  }

  /** The peer has just said that we lack nothing of what it has. */
  inStep(nodeId: string, time: Time): void {
    if (this.#inStepMonoMs.has(nodeId)) this.#inStepMonoMs.set(nodeId, time.monoMs);
  }

  /**
   * With whom this node has caught up. One that was ready is enough. When all are starting, nobody is, and what each brings counts:
   * then all must have been heard, and everybody had the time to join.
   */
  caughtUpWith({ readyCount, count, wantedCount }: CaughtUp, time: Time): void {
    this.#dueMonoMs = undefined;
    if (count === 0 || this.hasCaughtUp) return;
    const { joinTimeoutMs, catchUpTimeoutMs } = this.#options;
    const waitMs = readyCount > 0 ? 0 : joinTimeoutMs + (count >= wantedCount ? 0 : catchUpTimeoutMs);
    const dueMonoMs = this.#startMonoMs + waitMs;
    if (time.monoMs >= dueMonoMs) this.#state = { kind: "caught_up" };
    else this.#dueMonoMs = dueMonoMs;
  }

  /** Whether it has ever been in step with a peer. */
  get hasCaughtUp(): boolean {
    return this.#state?.kind === "caught_up";
  }

  get isReady(): boolean {
    return this.#state?.kind === "alone" || this.#state?.kind === "caught_up";
  }

  nextDeadlineMs(): number | undefined {
    if (this.#state === undefined) return 0;
    if (this.#state.kind === "joining") return this.#state.deadlineMonoMs;
    return this.hasCaughtUp ? undefined : this.#dueMonoMs;
  }

  // HOT: asked at every answer.
  read(time: Time): ReadyState {
    const { isReady } = this;
    const reason = this.#state?.kind ?? "joining";
    const behind: string[] = [];
    let behindMs = 0;
    for (const [nodeId, monoMs] of this.#inStepMonoMs) {
      const silentMs = time.monoMs - monoMs;
      if (silentMs <= this.#options.quietMs) continue;
      behind.push(nodeId);
      behindMs = Math.max(behindMs, silentMs);
    }
    // Alone with what others told long ago is not fresher for serving it.
    const isCurrent = reason === "caught_up" || (reason === "alone" && this.#startAgeMs === 0);
    const startedMs = this.#state === undefined ? 0 : time.monoMs - this.#startMonoMs;
    return { isReady, reason, detail: detailOf(reason, behind), ageMs: isCurrent ? behindMs : this.#startAgeMs + startedMs };
  }
}

/** Names told in a detail. */
const MAX_NAMES = 5;

function detailOf(reason: ReadyState["reason"], behind: readonly string[]): string {
  switch (reason) {
    case "joining":
      return "no seed has answered yet";
    case "catching_up":
      return "has not caught up with any peer yet";
    case "alone":
    case "caught_up":
      if (behind.length === 0) return reason === "alone" ? "started alone" : "in step with all peers";
      return `not in step with ${behind.slice(0, MAX_NAMES).join(", ")}${behind.length > MAX_NAMES ? ` and ${behind.length - MAX_NAMES} more` : ""}`;
  }
}
