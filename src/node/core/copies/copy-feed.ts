/**
 * Feeds one read worker from the main thread of a node. The feed contains every change of the replica, of the policy in force and of the load of own
 * entries, in order, so that the worker answers readers as the main thread would.
 */

import type { ChangeMessage } from "../../../catalog/copy/change-codec.ts";
import { ReplicaFeed } from "../../../catalog/copy/replica-feed.ts";
import type { LoadView } from "../../../catalog/entry/view.ts";
import type { KeyText } from "../../../catalog/record/record.ts";
import type { Replica } from "../../../catalog/replica/replica.ts";
import type { Fanout, FanoutObserver } from "../../../discovery/fanout.ts";
import type { ChangeNumber, SwitchObserver, SwitchQueue } from "../../../discovery/policy-switch-queue.ts";
import type { LoadObserver, LoadReports } from "../../../discovery/registrar/load-reports.ts";
import type { Policy, PolicySource } from "../../../policy/set/verdict.ts";

/** Messages other than changes of the replica. `CopyFeed` writes the fields of each message in the order in which `CopyRooms` reads them. */
export const MARK = {
  /** This policy is now in force. */
  POLICY: 1,
  /** A policy change begins. */
  BEGIN: 2,
  /** All records now reflect the new policy. */
  SHOW: 3,
  /** The latest load report of an own entry. */
  LOAD: 4,
  /** The load report of an own entry was removed. */
  UNLOAD: 5,
  /** All watches must check for changes, or must end. */
  ALL_WATCHES: 6,
  END_WATCHES: 7,
  /** This part of the watches must have ended, because the node is drained. */
  DRAIN_WATCHES: 8,
} as const;

/** A policy as plain values. */
export type PlainPolicy = Pick<Policy, "checksum" | "isPending" | "number" | "set">;

/** The parts of the main thread that a worker copies. */
export interface FeedRooms {
  readonly replica: Replica;
  readonly policies: PolicySource;
  readonly registrar: { readonly loads: Pick<LoadReports, "followers" | "list"> };
  readonly fanout: Pick<Fanout, "drainShare" | "followers" | "isEnding">;
  readonly switches: Pick<SwitchQueue, "followers" | "isBusy" | "onFollowed">;
}

/** Opens the feed of one read worker. The feed follows the parts until it is closed. `onNews`: see `CopyFeed`. */
export function openCopyFeed(rooms: FeedRooms, onNews: () => void): CopyFeed {
  return new CopyFeed(rooms, onNews);
}

export class CopyFeed implements FanoutObserver, LoadObserver, SwitchObserver {
  readonly #rooms: FeedRooms;
  readonly #onNews: () => void;
  readonly #feed: ReplicaFeed;
  /** The policy that was last sent to the worker. */
  #policy: Policy | undefined;
  /** Loads that have not been sent yet, while the copy is being made. */
  #loads: Generator<readonly [KeyText, LoadView], undefined> | undefined;
  /** The last policy change that was sent to the worker, the last one that the worker has shown, and the last one that its watches have received. */
  readonly #changes: { begun: ChangeNumber; shown: ChangeNumber; delivered: ChangeNumber } = { begun: 0, shown: 0, delivered: 0 };

  /**
   * Follows the parts until `close`. `onNews` is called when a message without a catalog change is pending, because nothing else triggers `take` in
   * this case.
   */
  constructor(rooms: FeedRooms, onNews: () => void) {
    const { replica, registrar, fanout, switches } = rooms;
    this.#rooms = rooms;
    this.#onNews = onNews;
    this.#loads = registrar.loads.list();
    const isHeldUp = () => this.#loads !== undefined || switches.isBusy;
    this.#feed = new ReplicaFeed({ replica, isHeldUp, onWrite: () => this.#sendPolicy() });
    this.#sendPolicy();
    if (fanout.isEnding) this.#mark(MARK.END_WATCHES);
    if (fanout.drainShare > 0) this.drains(fanout.drainShare);
    registrar.loads.followers.add(this);
    fanout.followers.add(this);
    switches.followers.add(this);
  }

  /** Ends the feed because the worker is gone. Policy changes no longer wait for the worker. */
  close(): void {
    const { registrar, fanout, switches } = this.#rooms;
    this.#feed.close();
    registrar.loads.followers.delete(this);
    fanout.followers.delete(this);
    switches.followers.delete(this);
    switches.onFollowed();
  }

  /** Whether the messages returned by `take` so far give the worker all data that this thread had at that time. */
  get isWhole(): boolean {
    return this.#feed.isWhole;
  }

  /** Approximate number of pending bytes for `take`. */
  get waitingBytes(): number {
    return this.#feed.waitingBytes;
  }

  /** Like `ReplicaFeed.take`. While the copy is being made, the message also contains loads, at most about `maxCount`. */
  take(maxCount: number): ChangeMessage {
    this.#sendLoads(maxCount);
    return this.#feed.take(maxCount);
  }

  // ---- changes of policy ----
  /** Must be called when the worker reports that it has shown this policy change and queued it for its watches. */
  shown(change: ChangeNumber): void {
    this.#changes.shown = change;
    this.#rooms.switches.onFollowed();
  }

  /** Must be called when the worker reports that all watches except slow ones have received this policy change. */
  delivered(change: ChangeNumber): void {
    this.#changes.delivered = change;
  }

  get isShown(): boolean {
    return this.#changes.shown >= this.#changes.begun;
  }

  get isAcknowledged(): boolean {
    return this.#changes.delivered >= this.#changes.begun;
  }

  begins(change: ChangeNumber): void {
    // A copy that is still being made will include the change when the copy is complete, so the worker need not report the change.
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
    this.#sendLoad(key, load);
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

  drains(share: number): void {
    this.#mark(MARK.DRAIN_WATCHES).numbers(share);
    this.#onNews();
  }

  #mark(mark: number): ReturnType<ReplicaFeed["mark"]> {
    this.#sendPolicy();
    return this.#feed.mark(mark);
  }

  /** Sends the policy before any change made under it, because a policy takes effect as soon as it is in force. */
  #sendPolicy(): void {
    const { policy } = this.#rooms.policies;
    if (policy === this.#policy) return;
    this.#policy = policy;
    const { set, number, checksum, isPending } = policy;
    this.#feed.mark(MARK.POLICY).value({ set, number, checksum, isPending } satisfies PlainPolicy);
  }

  #sendLoad(key: KeyText, { activeClients, errorRate, latencyMs, utilization, observedWallMs }: LoadView): void {
    const out = this.#mark(MARK.LOAD);
    out.text(key);
    out.numbers(activeClients, errorRate, latencyMs, utilization, observedWallMs);
  }

  #sendLoads(maxCount: number): void {
    for (let count = 0; this.#loads !== undefined && count < maxCount; count++) {
      const next = this.#loads.next();
      if (next.done === true) this.#loads = undefined;
      else this.#sendLoad(...next.value);
    }
  }
}
