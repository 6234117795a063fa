/** How old what a resolver holds may be (semantics.md, Resolver 9). Only the monotonic clock counts, so a change of the wall clock changes no age. */
import type { UnreachableNodes } from "../catalog/unreachable-nodes.ts";
import type { Time } from "../lib/machine.ts";

/** An upstream sends a bookmark each second. After so long without a message it may be gone. */
export const SILENT_MS = 3000;

/** What a copy on disk says of its age. */
export interface SavedAge {
  readonly ageMs: number;
  readonly savedWallMs: number;
}

export class UpstreamFreshness {
  /** The age that was last stated for all that is held. */
  #statedAgeMs = Number.POSITIVE_INFINITY;
  #statedMonoMs = 0;
  /** The nodes that the stated age does not include. */
  unreachable: UnreachableNodes | undefined;
  /** When the upstream last said something, in monotonic ms. */
  heardMonoMs = Number.NEGATIVE_INFINITY;
  /** When it last said more than single changes. */
  #wentOnMonoMs = Number.NEGATIVE_INFINITY;

  /** The upstream said something: only single changes, or a part of a snapshot, or that nothing is missing. */
  heard({ monoMs }: Pick<Time, "monoMs">, { isChangesOnly }: { readonly isChangesOnly: boolean }): void {
    this.heardMonoMs = monoMs;
    if (!isChangesOnly) this.#wentOnMonoMs = monoMs;
  }

  /** For how many ms of the time since then the upstream has said nothing but single changes. */
  changesOnlyMs(sinceMonoMs: number, { monoMs }: Pick<Time, "monoMs">): number {
    return monoMs - Math.max(sinceMonoMs, this.#wentOnMonoMs);
  }

  /**
   * The upstream stated the age of its data, in a message after which all that is held is as it is there. Until such a message another upstream changes no
   * age: what is held is still what the one before told.
   */
  stated(ageMs: number, { monoMs }: Pick<Time, "monoMs">, unreachable?: UnreachableNodes): void {
    this.unreachable = unreachable;
    this.#statedAgeMs = ageMs;
    this.#statedMonoMs = monoMs;
  }

  /** What is held comes from a copy on disk. A wall clock that was set back since then leaves the time in between unknown, and with it the age. */
  restore({ ageMs, savedWallMs }: SavedAge, { monoMs, wallMs }: Time): void {
    this.stated(wallMs < savedWallMs ? Number.POSITIVE_INFINITY : ageMs + wallMs - savedWallMs, { monoMs });
  }

  /** Age of what is held, in ms. Infinite while it is unknown. */
  ageMs({ monoMs }: Pick<Time, "monoMs">): number {
    return this.#statedAgeMs + monoMs - this.#statedMonoMs;
  }

  /** Whether the upstream has been silent for so long that answers are stale. */
  isSilent({ monoMs }: Pick<Time, "monoMs">): boolean {
    return monoMs - this.heardMonoMs > SILENT_MS;
  }
}
