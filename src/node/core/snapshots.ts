/**
 * When what other nodes told is written down for a warm start, and how old it is (semantics.md, Restart): now and then by a node that is ready,
 * and once more as it stops.
 */
import type { Origin } from "../../catalog/record/stored-record.ts";
import type { Replica } from "../../catalog/replica/replica.ts";
import type { Fabric } from "../../fabric/fabric.ts";
import { standingOf } from "../../fabric/origin-lifecycle-parts.ts";
import { snapshotBlocks } from "../../fabric/snapshot/snapshot.ts";
import type { Time } from "../../lib/machine.ts";

export interface SnapshotOptions {
  /** Between two of them; 0: none is ever written. */
  readonly intervalMs: number;
  /** A file is there that is of no use: it is set aside before the first own one takes its place. */
  readonly isOtherThere: boolean;
  /** About the size of one block; as the format has it unless given. */
  readonly blockBytes?: number;
}

/** An order to write. */
export interface KeepSnapshot {
  /** When what is held was right. */
  readonly rightWallMs: number;
  /** What to write, to be read over several turns; throws when what is held must not be written after all. Undefined: the file says it already. */
  readonly blocks: Iterable<Uint8Array> | undefined;
  /** The file that is there is to be kept under another name. */
  readonly setsAside: boolean;
}

export interface SnapshotParts {
  readonly replica: Replica;
  readonly fabric: Pick<Fabric, "isReady" | "lifecycle" | "membership" | "readiness">;
  readonly clusterId: string;
}

export class Snapshots {
  readonly #replica: Replica;
  readonly #fabric: SnapshotParts["fabric"];
  readonly #clusterId: string;
  readonly #options: SnapshotOptions;
  #isOtherThere: boolean;
  #nextMonoMs = Number.POSITIVE_INFINITY;
  /** What the file says: nothing new, nothing to write. */
  #written = "";
  /** What the file will say that is being written. */
  #writing: string | undefined;
  /** When what was held was right, as the goodbye was said; the last snapshot is still to be written. */
  #lastWallMs: number | undefined;

  constructor({ replica, fabric, clusterId }: SnapshotParts, options: SnapshotOptions) {
    this.#replica = replica;
    this.#fabric = fabric;
    this.#clusterId = clusterId;
    this.#options = options;
    this.#isOtherThere = options.isOtherThere;
  }

  begin({ monoMs }: Time): void {
    if (this.#options.intervalMs > 0) this.#nextMonoMs = monoMs + this.#options.intervalMs;
  }

  /** To be asked after each input: what is to be written now. The answer is `kept`. */
  due(time: Time): KeepSnapshot | undefined {
    if (this.#writing !== undefined || time.monoMs < this.#nextMonoMs) return undefined;
    const lastWallMs = this.#lastWallMs;
    this.#nextMonoMs = lastWallMs === undefined ? time.monoMs + this.#options.intervalMs : Number.POSITIVE_INFINITY;
    this.#lastWallMs = undefined;
    const rightWallMs = lastWallMs ?? this.#rightWallMs(time);
    return rightWallMs === undefined ? undefined : this.#write(rightWallMs, time);
  }

  /** The goodbye is said: what others told until now is written once more, with the age that it has now. */
  last(time: Time): void {
    this.#lastWallMs = this.#options.intervalMs === 0 ? undefined : this.#rightWallMs(time);
    this.#nextMonoMs = this.#lastWallMs === undefined ? Number.POSITIVE_INFINITY : time.monoMs;
  }

  /** Whether the last one is done, or none is to be written. */
  get isOver(): boolean {
    return this.#writing === undefined && this.#lastWallMs === undefined;
  }

  /** The file says what was ordered; or it stands as it was, and is written whole the next time. */
  kept(isKept: boolean): void {
    this.#written = isKept ? (this.#writing ?? "") : "";
    this.#writing = undefined;
  }

  nextDeadlineMs(): number {
    return this.#writing === undefined ? this.#nextMonoMs : Number.POSITIVE_INFINITY;
  }

  #write(rightWallMs: number, time: Time): KeepSnapshot {
    const replica = this.#replica;
    const starts = this.#fabric.membership.acceptedStarts();
    const stateOf = (origin: Origin) => standingOf(this.#fabric.lifecycle, origin, time);
    const said = [...starts.map(({ nodeId, boot, address }) => `${nodeId} ${boot} ${address}`), stateText(replica, stateOf)].join("\n");
    this.#writing = said;
    const setsAside = this.#isOtherThere;
    this.#isOtherThere = false;
    if (said === this.#written) return { rightWallMs, blocks: undefined, setsAside };
    const header = { nodeId: replica.self.nodeId, clusterId: this.#clusterId, savedWallMs: rightWallMs, starts };
    return { rightWallMs, blocks: snapshotBlocks(replica, header, stateOf, this.#options.blockBytes), setsAside };
  }

  /** As far as others told. What was restored keeps its age while nobody is there to catch up with. Undefined while nobody knows, or records are being dropped. */
  #rightWallMs(time: Time): number | undefined {
    if (!this.#fabric.isReady || this.#replica.isForgetting) return undefined;
    return Math.max(0, Math.round(time.wallMs - this.#fabric.readiness(time).ageMs));
  }
}

/** Changes whenever a snapshot would. */
function stateText(replica: Replica, stateOf: (origin: Origin) => ReturnType<typeof standingOf>): string {
  const others = [...replica.origins.values()].filter((origin) => origin !== replica.self);
  // Since when is left out: it comes from another clock, and wavers.
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
