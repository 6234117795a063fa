/** Tells of the times that namespaces were fetched whole again by themselves, for the audit; few records however often that happens (semantics.md, Resolver 21). */
import { MINUTE_MS } from "../../lib/duration.ts";
import { NEVER } from "../../lib/machine.ts";

/**
 * Why namespaces that were there were fetched whole again. `operator`: by a call. `digest`: count or digest differed from the upstream's. `gap`: an upstream
 * could not go on from our place. `policy`: the policy of the upstream changed, and it sent what that concerns anew.
 */
export const RESYNC_REASONS = ["operator", "digest", "gap", "policy"] as const;
export type ResyncReason = (typeof RESYNC_REASONS)[number];
/** A call tells the audit itself. */
export type OwnReason = Exclude<ResyncReason, "operator">;

/** Namespaces are, or were, fetched whole again from this upstream. */
export interface ResyncOrder {
  readonly kind: "resynced";
  readonly reason: OwnReason;
  readonly upstream: string;
  /** Each with all that are below it. */
  readonly prefixes: readonly string[];
  /** How often it happened for this reason since that was told before, with this time. */
  readonly times: number;
}

/** A list of orders, to which these are appended. */
export interface ResyncOrders {
  push(order: ResyncOrder): unknown;
}

interface ResyncNote {
  readonly prefixes: readonly string[];
  readonly times: number;
  /** Undefined until the end of the input that brought it. */
  readonly upstream: string | undefined;
}

/** The first of each reason is told at once. Those of the minute after that are told together at its end, with the prefixes of the last one. */
export class ResyncNotes {
  readonly #notes = new Map<OwnReason, ResyncNote>();
  readonly #quietUntilMonoMs = new Map<OwnReason, number>();

  note(reason: OwnReason, prefixes: readonly string[]): void {
    this.#notes.set(reason, { prefixes, times: (this.#notes.get(reason)?.times ?? 0) + 1, upstream: undefined });
  }

  /** `upstream`: from which everything comes that was noted since the last call. */
  tell(upstream: string, monoMs: number, out: ResyncOrders): void {
    for (const [reason, note] of this.#notes) {
      const noted = { ...note, upstream: note.upstream ?? upstream };
      this.#notes.set(reason, noted);
      if (monoMs < (this.#quietUntilMonoMs.get(reason) ?? 0)) continue;
      this.#quietUntilMonoMs.set(reason, monoMs + MINUTE_MS);
      this.#notes.delete(reason);
      out.push({ kind: "resynced", reason, ...noted });
    }
  }

  nextDeadlineMs(): number {
    let dueMonoMs = NEVER;
    for (const reason of this.#notes.keys()) dueMonoMs = Math.min(dueMonoMs, this.#quietUntilMonoMs.get(reason) ?? 0);
    return dueMonoMs;
  }
}
