/** Reports automatic resyncs for the audit log, using few records even if resyncs are frequent (semantics.md, Resolver 21). */
import { MINUTE_MS } from "../../lib/duration.ts";
import { NEVER } from "../../lib/machine.ts";

/**
 * The reason why complete namespaces were fetched again. `operator` means that an operator requested it. `digest` means that the count or digest
 * differed from the upstream. `gap` means that an upstream could not resume from the cursor. `policy` means that the upstream's policy changed and
 * the upstream sent the affected namespaces again.
 */
export const RESYNC_REASONS = ["operator", "digest", "gap", "policy"] as const;
export type ResyncReason = (typeof RESYNC_REASONS)[number];
/** All reasons except calls, which are audited by their handlers. */
export type OwnReason = Exclude<ResyncReason, "operator">;

/** Reports that namespaces are being or were fetched again from this upstream. */
export interface ResyncOrder {
  readonly kind: "resynced";
  readonly reason: OwnReason;
  readonly upstream: string;
  /** Prefixes, each including the namespaces below it. */
  readonly prefixes: readonly string[];
  /** Number of resyncs for this reason since the last report, including this one. */
  readonly times: number;
}

/** A list to which orders are appended. */
export interface ResyncOrders {
  push(order: ResyncOrder): unknown;
}

interface ResyncNote {
  readonly prefixes: readonly string[];
  readonly times: number;
  /** Undefined until the input that caused the resync has been processed. */
  readonly upstream: string | undefined;
}

/**
 * Collects resyncs. The first resync for each reason is reported immediately. Resyncs during the following minute are reported together at its end,
 * with the prefixes of the last resync.
 */
export class ResyncNotes {
  readonly #notes = new Map<OwnReason, ResyncNote>();
  readonly #quietUntilMonoMs = new Map<OwnReason, number>();

  note(reason: OwnReason, prefixes: readonly string[]): void {
    this.#notes.set(reason, { prefixes, times: (this.#notes.get(reason)?.times ?? 0) + 1, upstream: undefined });
  }

  /** Reports the resyncs that are due. `upstream` is the source of all resyncs recorded since the last call. */
  report(upstream: string, monoMs: number, out: ResyncOrders): void {
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
