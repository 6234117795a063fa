/**
 * Tracks an upper bound for the age of a resolver's followed entries (semantics.md, Resolver 9). Uses only the monotonic clock, so wall-clock changes
 * do not affect the age.
 */
import type { UnreachableNodes } from "../catalog/unreachable-nodes.ts";
import type { Time } from "../lib/machine.ts";

/** An upstream sends a bookmark every second. After this time without a message, the upstream is considered silent. */
export const SILENT_MS = 3000;

/** Age of a copy on disk, and the time at which it was saved. */
export interface SavedAge {
  readonly ageMs: number;
  readonly savedWallMs: number;
}

export class UpstreamFreshness {
  /** Age of all followed entries, as last reported. */
  #statedAgeMs = Number.POSITIVE_INFINITY;
  #statedMonoMs = 0;
  /** Nodes that are excluded from the reported age. */
  unreachable: UnreachableNodes | undefined;
  /** Monotonic time of the upstream's last message. */
  lastMessageMonoMs = Number.NEGATIVE_INFINITY;
  /** Monotonic time of the upstream's last message other than single changes. */
  #lastProgressMonoMs = Number.NEGATIVE_INFINITY;

  /** Records a message from the upstream. `isChangesOnly` is false for a part of a snapshot and for a bookmark. */
  heard({ monoMs }: Pick<Time, "monoMs">, { isChangesOnly }: { readonly isChangesOnly: boolean }): void {
    this.lastMessageMonoMs = monoMs;
    if (!isChangesOnly) this.#lastProgressMonoMs = monoMs;
  }

  /** Returns for how long, in ms, the upstream has sent only single changes, counted from `sinceMonoMs` at the earliest. */
  changesOnlyMs(sinceMonoMs: number, { monoMs }: Pick<Time, "monoMs">): number {
    return monoMs - Math.max(sinceMonoMs, this.#lastProgressMonoMs);
  }

  /**
   * Records the age that the upstream reported in a message. After this message, all followed entries match the upstream. After the upstream changes,
   * the age remains unchanged until such a message, because the entries still come from the previous upstream.
   */
  stated(ageMs: number, { monoMs }: Pick<Time, "monoMs">, unreachable?: UnreachableNodes): void {
    this.unreachable = unreachable;
    this.#statedAgeMs = ageMs;
    this.#statedMonoMs = monoMs;
  }

  /** Restores the age from a copy on disk. If the wall clock was set back since the copy was saved, the age is unknown. */
  restore({ ageMs, savedWallMs }: SavedAge, { monoMs, wallMs }: Time): void {
    this.stated(wallMs < savedWallMs ? Number.POSITIVE_INFINITY : ageMs + wallMs - savedWallMs, { monoMs });
  }

  /** Returns the age of the followed entries, in ms. Infinite while the age is unknown. */
  ageMs({ monoMs }: Pick<Time, "monoMs">): number {
    return this.#statedAgeMs + monoMs - this.#statedMonoMs;
  }

  /** Returns whether the upstream has been silent for more than `SILENT_MS`, so that answers are stale. */
  isSilent({ monoMs }: Pick<Time, "monoMs">): boolean {
    return monoMs - this.lastMessageMonoMs > SILENT_MS;
  }
}
