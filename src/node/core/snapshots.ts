/**
 * Decides when the snapshot of other nodes' data is written, and how old its content is (semantics.md, Restart). A ready node writes snapshots one at
 * a time at an interval, and a last one when it stops.
 */
import type { Origin } from "../../catalog/record/stored-record.ts";
import type { Replica } from "../../catalog/replica/replica.ts";
import type { Fabric } from "../../fabric/fabric.ts";
import type { SnapshotOrigin } from "../../fabric/snapshot/codec.ts";
import { snapshotBlocks } from "../../fabric/snapshot/snapshot.ts";
import type { Time } from "../../lib/machine.ts";

export interface SnapshotScheduleOptions {
  /** Time between two snapshots, in ms. If 0, no snapshot is ever written. */
  readonly intervalMs: number;
  /** Whether there is an unusable snapshot file. That file is renamed before the first snapshot replaces it. */
  readonly isOtherThere: boolean;
  /** Approximate size of one block. The default is the block size of the format. */
  readonly blockBytes?: number;
}

/** The order to write a snapshot. */
export interface KeepSnapshot {
  /** When the content was up to date. */
  readonly rightWallMs: number;
  /**
   * Content to write, which may be read over several turns. Reading throws when the snapshot must not be written. Undefined if the file already has
   * this content.
   */
  readonly blocks: Iterable<Uint8Array> | undefined;
  /** Whether to keep the existing file under another name. */
  readonly setsAside: boolean;
}

export interface SnapshotParts {
  readonly replica: Replica;
  readonly fabric: Pick<Fabric, "lifecycle" | "membership" | "readiness">;
  readonly clusterId: string;
}

export class SnapshotScheduler {
  readonly #parts: SnapshotParts;
  readonly #options: SnapshotScheduleOptions;
  #isOtherThere: boolean;
  #nextMonoMs = Number.POSITIVE_INFINITY;
  /** Fingerprint of the file's content. Nothing is written while the content has the same fingerprint. */
  #written = "";
  /** Fingerprint of the content that is being written. */
  #writing: string | undefined;
  /** When the content was up to date at the departure announcement. Defined until the last snapshot has been written. */
  #lastWallMs: number | undefined;

  constructor(parts: SnapshotParts, options: SnapshotScheduleOptions) {
    this.#parts = parts;
    this.#options = options;
    this.#isOtherThere = options.isOtherThere;
  }

  begin({ monoMs }: Time): void {
    if (this.#options.intervalMs > 0) this.#nextMonoMs = monoMs + this.#options.intervalMs;
  }

  /** Must be called after each input. Returns the order to write a snapshot, if one is due; `kept` answers it. */
  due(time: Time): KeepSnapshot | undefined {
    if (this.#writing !== undefined || time.monoMs < this.#nextMonoMs) return undefined;
    const lastWallMs = this.#lastWallMs;
    this.#nextMonoMs = lastWallMs === undefined ? time.monoMs + this.#options.intervalMs : Number.POSITIVE_INFINITY;
    this.#lastWallMs = undefined;
    const rightWallMs = lastWallMs ?? this.#rightWallMs(time);
    return rightWallMs === undefined ? undefined : this.#write(rightWallMs, time);
  }

  /** Schedules the last snapshot, with the current age of its content. Called when the departure is announced. */
  last(time: Time): void {
    this.#lastWallMs = this.#options.intervalMs === 0 ? undefined : this.#rightWallMs(time);
    this.#nextMonoMs = this.#lastWallMs === undefined ? Number.POSITIVE_INFINITY : time.monoMs;
  }

  /** Whether the last snapshot has been written or is not needed. */
  get isOver(): boolean {
    return this.#writing === undefined && this.#lastWallMs === undefined;
  }

  /** Reports whether the ordered content was written. If it was not, the next snapshot is written in full. */
  kept(isKept: boolean): void {
    this.#written = isKept ? (this.#writing ?? "") : "";
    this.#writing = undefined;
  }

  nextDeadlineMs(): number {
    return this.#writing === undefined ? this.#nextMonoMs : Number.POSITIVE_INFINITY;
  }

  #write(rightWallMs: number, time: Time): KeepSnapshot {
    const { replica, fabric, clusterId } = this.#parts;
    const starts = fabric.membership.acceptedStarts();
    const stateOf = (origin: Origin) => fabric.lifecycle.standingOf(origin, time);
    const fingerprint = [...starts.map(({ nodeId, boot, address }) => `${nodeId} ${boot} ${address}`), stateText(replica, stateOf)].join(
      "\n",
    );
    this.#writing = fingerprint;
    const setsAside = this.#isOtherThere;
    this.#isOtherThere = false;
    if (fingerprint === this.#written) return { rightWallMs, blocks: undefined, setsAside };
    const header = { nodeId: replica.self.nodeId, clusterId, savedWallMs: rightWallMs, starts, sourceAges: [] };
    return { rightWallMs, blocks: snapshotBlocks(replica, header, stateOf, this.#options.blockBytes), setsAside };
  }

  /**
   * Returns when the content was up to date, as reported by other nodes. The age of restored records does not change while there is no node with
   * which to catch up. Undefined while this time is unknown or records are being dropped.
   */
  #rightWallMs(time: Time): number | undefined {
    const { fabric, replica } = this.#parts;
    if (!fabric.readiness.isReady || replica.isForgetting) return undefined;
    return Math.max(0, Math.round(time.wallMs - fabric.readiness.read(time).ageMs));
  }
}

/** Returns a text that changes whenever the content of the snapshot would change. */
function stateText(replica: Replica, stateOf: (origin: Origin) => SnapshotOrigin): string {
  const others = [...replica.origins.values()].filter((origin) => origin !== replica.self);
  // The absence time is left out, because it comes from another clock and fluctuates.
  const lines = others.map((origin) => {
    const { life, isOver = false } = stateOf(origin);
    return `${origin.id} ${origin.through} ${origin.floor} ${life} ${isOver}`;
  });
  const lost = replica.lost.list.map(({ nodeId, generation, through, mark }) => {
    const id = `${nodeId}/${generation}`;
    return `${id} ${through} ${mark} ${replica.lost.keysOf(id)?.through ?? 0}`;
  });
  return [`${replica.forgotten.size}`, ...lost, ...lines].join("\n");
}
