/**
 * When the snapshot of what other nodes told is written, and how old its content is (semantics.md, Restart). A node that is ready writes one
 * at an interval, and one more as it stops.
 */
import type { Origin } from "../../catalog/record/stored-record.ts";
import type { Replica } from "../../catalog/replica/replica.ts";
import type { Fabric } from "../../fabric/fabric.ts";
import type { SnapshotOrigin } from "../../fabric/snapshot/codec.ts";
import { snapshotBlocks } from "../../fabric/snapshot/snapshot.ts";
import type { Time } from "../../lib/machine.ts";

export interface SnapshotScheduleOptions {
  /** Time between two snapshots. 0 means that none is ever written. */
  readonly intervalMs: number;
  /** There is a file that cannot be used. It is set aside before the first snapshot takes its place. */
  readonly isOtherThere: boolean;
  /** About the size of one block. Without it the format's own size counts. */
  readonly blockBytes?: number;
}

/** The order to write a snapshot. */
export interface KeepSnapshot {
  /** When the content was right. */
  readonly rightWallMs: number;
  /** What to write, to be read over several turns. Reading throws when the snapshot must not be written after all. Undefined: the file has this content already. */
  readonly blocks: Iterable<Uint8Array> | undefined;
  /** The existing file is to be kept under another name. */
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
  /** The content of the file, in short. While nothing differs from it there is nothing to write. */
  #written = "";
  /** The content, in short, of the file that is being written. */
  #writing: string | undefined;
  /** When the content was right as the goodbye was said. Defined while the last snapshot is still to be written. */
  #lastWallMs: number | undefined;

  constructor(parts: SnapshotParts, options: SnapshotScheduleOptions) {
    this.#parts = parts;
    this.#options = options;
    this.#isOtherThere = options.isOtherThere;
  }

  begin({ monoMs }: Time): void {
    if (this.#options.intervalMs > 0) this.#nextMonoMs = monoMs + this.#options.intervalMs;
  }

  /** To be called after each input. Returns what is to be written now; `kept` answers it. */
  due(time: Time): KeepSnapshot | undefined {
    if (this.#writing !== undefined || time.monoMs < this.#nextMonoMs) return undefined;
    const lastWallMs = this.#lastWallMs;
    this.#nextMonoMs = lastWallMs === undefined ? time.monoMs + this.#options.intervalMs : Number.POSITIVE_INFINITY;
    this.#lastWallMs = undefined;
    const rightWallMs = lastWallMs ?? this.#rightWallMs(time);
    return rightWallMs === undefined ? undefined : this.#write(rightWallMs, time);
  }

  /** The goodbye is said. One more snapshot is to be written, with the age that its content has now. */
  last(time: Time): void {
    this.#lastWallMs = this.#options.intervalMs === 0 ? undefined : this.#rightWallMs(time);
    this.#nextMonoMs = this.#lastWallMs === undefined ? Number.POSITIVE_INFINITY : time.monoMs;
  }

  /** Whether the last snapshot is written, or none is to be. */
  get isOver(): boolean {
    return this.#writing === undefined && this.#lastWallMs === undefined;
  }

  /** The file holds what was ordered, or it is as before and is written whole the next time. */
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
    const said = [...starts.map(({ nodeId, boot, address }) => `${nodeId} ${boot} ${address}`), stateText(replica, stateOf)].join("\n");
    this.#writing = said;
    const setsAside = this.#isOtherThere;
    this.#isOtherThere = false;
    if (said === this.#written) return { rightWallMs, blocks: undefined, setsAside };
    const header = { nodeId: replica.self.nodeId, clusterId, savedWallMs: rightWallMs, starts, sourceAges: [] };
    return { rightWallMs, blocks: snapshotBlocks(replica, header, stateOf, this.#options.blockBytes), setsAside };
  }

  /**
   * When the content was right, as far as others told. Restored records keep their age while there is no node to catch up with. Undefined while
   * that is not known, or records are being dropped.
   */
  #rightWallMs(time: Time): number | undefined {
    const { fabric, replica } = this.#parts;
    if (!fabric.readiness.isReady || replica.isForgetting) return undefined;
    return Math.max(0, Math.round(time.wallMs - fabric.readiness.read(time).ageMs));
  }
}

/** A text that changes whenever a snapshot would. */
function stateText(replica: Replica, stateOf: (origin: Origin) => SnapshotOrigin): string {
  const others = [...replica.origins.values()].filter((origin) => origin !== replica.self);
  // The time since when is left out, because it comes from another clock and wavers.
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
