/**
 * When the members of the own cluster are written down, for the next start (semantics.md, Tombstones). The snapshot would not do: it is
 * written once a minute, or never.
 */
import type { MemberRoster } from "../../fabric/data-freshness.ts";
import { rosterFile } from "../../fabric/snapshot/codec.ts";
import type { FileOwner } from "../../lib/blocks.ts";
import { NEVER, type Time } from "../../lib/machine.ts";
import type { NodeHandlers, NodeOutput, NodePart } from "../core-io.ts";

/** A write that failed is tried again after this. */
const RETRY_MS = 1000;

/** A node that has joined others. */
interface JoinedFabric {
  readonly fabric: { readonly lifecycle: { readonly roster: Pick<MemberRoster, "version" | "list"> } };
  readonly facts: FileOwner;
}

/** One file is written at a time. What changes meanwhile is in the next one. */
export class RosterFile implements NodePart {
  /** Undefined for a node that stands alone. */
  readonly #joined: () => JoinedFabric | undefined;
  /** The version of the roster that is on disk or on its way there. */
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
