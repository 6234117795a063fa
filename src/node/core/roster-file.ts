/**
 * Decides when the members of this node's cluster are written to disk for the next start (semantics.md, Tombstones). The snapshot is not sufficient,
 * because it is written only every minute, or never.
 */
import type { MemberRoster } from "../../fabric/data-freshness.ts";
import { rosterFile } from "../../fabric/snapshot/codec.ts";
import type { FileOwner } from "../../lib/file-blocks.ts";
import { NEVER, type Time } from "../../lib/machine.ts";
import type { NodeHandlers, NodeOutput, NodePart } from "../core-io.ts";

/** Delay before a failed write is retried, in ms. */
const RETRY_MS = 1000;

/** A node that has joined others. */
interface JoinedFabric {
  readonly fabric: { readonly lifecycle: { readonly roster: Pick<MemberRoster, "version" | "list"> } };
  readonly facts: FileOwner;
}

/** Writes one file at a time. Changes that occur in the meantime are part of the next write. */
export class RosterFile implements NodePart {
  /** Undefined on a standalone node. */
  readonly #joined: () => JoinedFabric | undefined;
  /** Version of the roster that is on disk or is being written. */
  #version = 0;
  #isWriting = false;
  #againMonoMs: number | undefined;

  readonly handle: NodeHandlers = {
    rosterKept: ({ isKept }, { monoMs }) => {
      this.#isWriting = false;
      if (isKept) return;
      this.#version = -1;
      this.#againMonoMs = monoMs + RETRY_MS;
    },
  };

  constructor(joined: () => JoinedFabric | undefined) {
    this.#joined = joined;
  }

  look({ monoMs }: Time, out: NodeOutput[]): void {
    const joined = this.#joined();
    if (joined === undefined) return;
    const { fabric, facts } = joined;
    const { roster } = fabric.lifecycle;
    if (this.#isWriting || roster.version === this.#version || monoMs < (this.#againMonoMs ?? 0)) return;
    this.#version = roster.version;
    this.#isWriting = true;
    this.#againMonoMs = undefined;
    out.push({ kind: "keepRoster", bytes: rosterFile({ nodeId: facts.nodeId, clusterId: facts.clusterId }, roster.list()) });
  }

  nextDeadlineMs(): number {
    return this.#againMonoMs ?? NEVER;
  }
}
