/**
 * What the main thread of a node tells one read worker: everything that happens to its replica, to the policy in force and to the loads of its own
 * entries, in the order in which it happens, so that the worker's readers are answered as the node's own would be.
 */

import type { ChangeMessage } from "../../../catalog/copy/change-codec.ts";
import { ReplicaFeed } from "../../../catalog/copy/replica-feed.ts";
import type { LoadView } from "../../../catalog/entry/view.ts";
import type { KeyText } from "../../../catalog/record/record.ts";
import type { Replica } from "../../../catalog/replica/replica.ts";
import type { Fanout, FanoutObserver } from "../../../discovery/fanout.ts";
import type { LoadObserver, LoadReports } from "../../../discovery/registrar/load-reports.ts";
import type { ChangeNumber, SwitchObserver, SwitchQueue } from "../../../discovery/switch-queue.ts";
import type { Policy, PolicySource } from "../../../policy/set/verdict.ts";

/** What is told beside changes of the replica. The fields of each are in the order in which `CopyFeed` writes and `CopyRooms` reads them. */
export const MARK = {
  /** This policy is in force. */
  POLICY: 1,
  /** A change to the policy in force begins. */
  BEGIN: 2,
  /** All records follow it. */
  SHOW: 3,
  /** The last report about an own entry, */
  LOAD: 4,
  /** and that there is none any more. */
  UNLOAD: 5,
  /** All watches are to look again, or to end. */
  ALL_WATCHES: 6,
  END_WATCHES: 7,
} as const;

/** A policy as plain values. */
export type PlainPolicy = Pick<Policy, "checksum" | "isPending" | "number" | "set">;

/** The rooms of the main thread that a worker is told of. */
export interface FeedRooms {
  readonly replica: Replica;
  readonly policies: PolicySource;
  readonly registrar: { readonly loads: Pick<LoadReports, "followers" | "list"> };
  readonly fanout: Pick<Fanout, "followers" | "isEnding">;
  readonly switches: Pick<SwitchQueue, "followers" | "isBusy" | "onFollowed">;
}

/** The feed of one read worker. It follows the rooms until it is closed. `onNews`: as for `CopyFeed`. */
export function openCopyFeed(rooms: FeedRooms, onNews: () => void): CopyFeed {
  return new CopyFeed(rooms, onNews);
}

export class CopyFeed implements FanoutObserver, LoadObserver, SwitchObserver {
  readonly #rooms: FeedRooms;
  readonly #onNews: () => void;
  readonly #feed: ReplicaFeed;
  /** The policy that the worker was told. */
  #policy: Policy | undefined;
  /** While the copy is made: the loads that it was not told yet. */
  #loads: Generator<readonly [KeyText, LoadView], undefined> | undefined;
  /** The last changes of policy that the worker was told of, that it has shown, and of which its watches have heard. */
  readonly #changes: { begun: ChangeNumber; shown: ChangeNumber; heard: ChangeNumber } = { begun: 0, shown: 0, heard: 0 };

  /** Follows the rooms until `close`. `onNews`: something is to be told that no change of the catalog comes with, so that nobody else asks for it. */
  constructor(rooms: FeedRooms, onNews: () => void) {
    const { replica, registrar, fanout, switches } = rooms;
    this.#rooms = rooms;
    this.#onNews = onNews;
    this.#loads = registrar.loads.list();
    const isHeldUp = () => this.#loads !== undefined || switches.isBusy;
    this.#feed = new ReplicaFeed({ replica, isHeldUp, onSay: () => this.#sayPolicy() });
    this.#sayPolicy();
    if (fanout.isEnding) this.#mark(MARK.END_WATCHES);
    registrar.loads.followers.add(this);
    fanout.followers.add(this);
    switches.followers.add(this);
  }

  /** The worker is gone. Nobody waits for it any more. */
  close(): void {
    const { registrar, fanout, switches } = this.#rooms;
    this.#feed.close();
    registrar.loads.followers.delete(this);
    fanout.followers.delete(this);
    switches.followers.delete(this);
    switches.onFollowed();
  }

  /** Whether the worker has, with what was taken, everything that this thread had then. */
  get isWhole(): boolean {
    return this.#feed.isWhole;
  }

  /** Bytes that wait for `take`, about. */
  get waitingBytes(): number {
    return this.#feed.waitingBytes;
  }

  /** As `ReplicaFeed.take`. While the copy is made, of loads too about `maxCount` at most. */
  take(maxCount: number): ChangeMessage {
    this.#sayLoads(maxCount);
    return this.#feed.take(maxCount);
  }

  // ---- changes of policy ----
  /** The worker says that it has shown this change of policy, and noted for its watches what they are to be told. */
  shown(change: ChangeNumber): void {
    this.#changes.shown = change;
    this.#rooms.switches.onFollowed();
  }

  /** The worker says that all but its slow watches have heard of this change of policy. */
  heard(change: ChangeNumber): void {
    this.#changes.heard = change;
  }

  get isShown(): boolean {
    return this.#changes.shown >= this.#changes.begun;
  }

  get isHeard(): boolean {
    return this.#changes.heard >= this.#changes.begun;
  }

  begins(change: ChangeNumber): void {
    // A copy that is being made is whole only after the change, and then has nothing to tell of it.
    if (!this.isWhole) return;
    this.#changes.begun = change;
    this.#mark(MARK.BEGIN).numbers(change);
    this.#onNews();
  }

  shows(change: ChangeNumber): void {
    if (this.#changes.begun !== change) return;
    this.#mark(MARK.SHOW);
    this.#onNews();
  }

  // ---- loads and watches ----
  notes(key: KeyText, load: LoadView): void {
    this.#sayLoad(key, load);
    this.#onNews();
  }

  forgets(key: KeyText): void {
    this.#mark(MARK.UNLOAD).text(key);
  }

  readiesAll(): void {
    this.#mark(MARK.ALL_WATCHES);
    this.#onNews();
  }

  ends(): void {
    this.#mark(MARK.END_WATCHES);
    this.#onNews();
  }

  #mark(mark: number): ReturnType<ReplicaFeed["mark"]> {
    this.#sayPolicy();
    return this.#feed.mark(mark);
  }

  /** A policy decides from when it is in force, so it is told before anything that happens under it. */
  #sayPolicy(): void {
    const { policy } = this.#rooms.policies;
    if (policy === this.#policy) return;
    this.#policy = policy;
    const { set, number, checksum, isPending } = policy;
    this.#feed.mark(MARK.POLICY).value({ set, number, checksum, isPending } satisfies PlainPolicy);
  }

  #sayLoad(key: KeyText, { activeClients, errorRate, latencyMs, utilization, observedWallMs }: LoadView): void {
    const out = this.#mark(MARK.LOAD);
    out.text(key);
    out.numbers(activeClients, errorRate, latencyMs, utilization, observedWallMs);
  }

  #sayLoads(maxCount: number): void {
    for (let count = 0; this.#loads !== undefined && count < maxCount; count++) {
      const next = this.#loads.next();
      if (next.done === true) this.#loads = undefined;
      else this.#sayLoad(...next.value);
    }
  }
}
