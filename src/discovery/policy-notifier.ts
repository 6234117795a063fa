/**
 * Performs the second half of a policy change, after all records follow the new policy: on a node or read worker, notifies each watch of changes in
 * the namespaces that the watch may see.
 */
import type { Replica } from "../catalog/replica/replica.ts";
import type { WatchReader } from "../catalog/watch/reader.ts";
import type { Policy, Viewer } from "../policy/set/verdict.ts";
import type { Fanout, WatchStream } from "./fanout.ts";
import { coveredIn, PolicyDiff } from "./policy-diff.ts";
import type { CatalogReads } from "./reads.ts";

export interface NotifierParts {
  readonly replica: Replica;
  readonly reads: CatalogReads;
  readonly fanout: Fanout;
}

export interface PolicyChange {
  readonly before: Policy;
  readonly after: Policy;
}

/** Cost of one watch, expressed in records, for the limit of a step. */
const RECORDS_A_WATCH = 16;

/** An instance is created when the change begins. Call `show` when all records follow the new policy, and then `step` until it returns true. */
export class PolicyNotifier {
  readonly #parts: NotifierParts;
  readonly #after: Policy;
  readonly #diff: PolicyDiff;
  #stage: "held" | "group" | "notify" = "held";
  /** Sorted copies of the namespaces with visible entries: at the start of the change, and after `show`. */
  readonly #before: readonly string[];
  #shown: readonly string[] = [];
  /** Number of entries of `#before` and `#shown` that have been grouped. */
  readonly #grouped = { held: 0, shown: 0 };
  #watchers: readonly WatchStream[] = [];
  #notifiedCount = 0;
  readonly #changedByReader = new Map<WatchReader, readonly string[]>();

  constructor(parts: NotifierParts, { before, after }: PolicyChange) {
    this.#parts = parts;
    this.#after = after;
    this.#diff = new PolicyDiff(before, after);
    this.#before = parts.replica.lookup.namespaces.list();
  }

  get isShown(): boolean {
    return this.#stage !== "held";
  }

  /** Shows everything that the new policy allows. New watches see these entries from now on. */
  show(): void {
    const { replica, reads, fanout } = this.#parts;
    reads.show(this.#after);
    this.#watchers = [...fanout.watchers()];
    this.#shown = replica.lookup.namespaces.list();
    this.#stage = "group";
  }

  /** Processes about `maxCount` namespaces, or watches of the same cost. Returns whether every watch has been notified. */
  step(maxCount: number): boolean {
    if (this.#stage === "group") {
      if (this.#groupSome(maxCount)) this.#stage = "notify";
      return false;
    }
    if (!this.#notifySome(maxCount)) return false;
    this.#parts.reads.settle(this.#after);
    return true;
  }

  #groupSome(maxCount: number): boolean {
    const at = this.#grouped;
    for (let n = 0; n < maxCount; n++) {
      const [held, shown] = [this.#before[at.held], this.#shown[at.shown]];
      if (held !== undefined && (shown === undefined || held <= shown)) {
        this.#diff.add(held, true);
        at.held += 1;
        if (held === shown) at.shown += 1;
      } else if (shown !== undefined) {
        this.#diff.add(shown, false);
        at.shown += 1;
      } else return true;
    }
    return false;
  }

  #notifySome(maxCount: number): boolean {
    const { reads } = this.#parts;
    for (const watcher of this.#watchers.slice(this.#notifiedCount, this.#notifiedCount + Math.ceil(maxCount / RECORDS_A_WATCH))) {
      const viewer = reads.viewerOf(watcher.feed.reader);
      const isJudged = viewer === undefined || this.#diff.isJudged(viewer);
      if (!isJudged && !this.#diff.judge(viewer, maxCount)) return false;
      if (viewer !== undefined) this.#notify(watcher, viewer);
      this.#notifiedCount += 1;
      // The verdicts for one viewer may use a whole step, so the next viewer waits for the next step.
      if (!isJudged) break;
    }
    return this.#notifiedCount === this.#watchers.length;
  }

  /**
   * Notifies a watch, even of namespaces that became empty before the notification. A namespace that became visible is sent again completely, so that
   * earlier removals do not reach the watch. A namespace that became hidden is sent only if the watch may have its entries.
   */
  #notify(watcher: WatchStream, viewer: Viewer): void {
    const { replica, fanout } = this.#parts;
    const { reader, settledRevision } = watcher.feed;
    let known = this.#changedByReader.get(reader);
    if (known === undefined) {
      const { gained, lost } = this.#diff.of(viewer);
      known = [gained, lost].flatMap((namespaces) => coveredIn(namespaces, reader.options.filter));
      this.#changedByReader.set(reader, known);
    }
    // It is no longer known from which other namespaces the watch may have entries.
    const isForgotten = settledRevision < replica.emptied.forgottenRevision;
    const emptied = isForgotten ? [] : replica.emptied.since(settledRevision);
    const isChanged = (namespace: string) => reader.mayHoldNamespace(namespace) && this.#diff.changeOf(namespace, viewer) !== "same";
    const changed = isForgotten ? "all" : [...known, ...emptied.filter(isChanged)];
    watcher.feed.refresh(changed);
    if (changed.length > 0) fanout.again(watcher);
  }
}
