/**
 * When the members of the own cluster are written down, for the next start (semantics.md, Tombstones). The snapshot would not do: it is
 * written once a minute, or never.
 */
import type { Roster } from "../../fabric/freshness.ts";
import { rosterFile } from "../../fabric/snapshot/codec.ts";
import type { OwnerOfFile } from "../../lib/blocks.ts";
import { NEVER, type Time } from "../../lib/machine.ts";

/** A write that failed is tried again after this. */
const RETRY_MS = 1000;

/** One file is written at a time. What changes meanwhile is in the next one. */
export class RosterFile {
  readonly #roster: Pick<Roster, "version" | "list">;
  readonly #self: OwnerOfFile;
  /** The version of the roster that is on disk or on its way there. */
  #version = 0;
  #isWriting = false;
  #againMonoMs: number | undefined;

  constructor(roster: Pick<Roster, "version" | "list">, { nodeId, clusterId }: OwnerOfFile) {
    this.#roster = roster;
    this.#self = { nodeId, clusterId };
  }

  /** Whether the members are to be written now. `written` answers it. */
  isDue({ monoMs }: Time): boolean {
    if (this.#isWriting || this.#roster.version === this.#version || monoMs < (this.#againMonoMs ?? 0)) return false;
    this.#version = this.#roster.version;
    this.#isWriting = true;
    this.#againMonoMs = undefined;
    return true;
  }

  /** The members as they are now. */
  bytes(): Uint8Array {
    return rosterFile(this.#self, this.#roster.list());
  }

  /** The file is on disk, or could not be written. */
  written(isWritten: boolean, { monoMs }: Time): void {
    this.#isWriting = false;
    if (isWritten) return;
    this.#version = -1;
    this.#againMonoMs = monoMs + RETRY_MS;
  }

  nextDeadlineMs(): number {
    return this.#againMonoMs ?? NEVER;
  }
}
