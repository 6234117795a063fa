/**
 * The second half of a change of policy: all records follow the new policy, and every watch of a node, or of a read worker, is told what it may see
 * now.
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

/** Cost of one watch, in records, for the bound of a step. */
const RECORDS_A_WATCH = 16;

/** To be made when the change begins. Call `show` when all records follow the new policy, and then `step` until it returns true. */
export class PolicyNotifier {
  readonly #parts: NotifierParts;
  readonly #after: Policy;
  readonly #diff: PolicyDiff;
  #stage: "held" | "group" | "tell" = "held";
  /** Namespaces with visible entries when the change began, and those that have some once everything allowed is shown; sorted copies. */
  readonly #held: readonly string[];
  #shown: readonly string[] = [];
  /** How many of `#held` and of `#shown` are grouped. */
  readonly #grouped = { held: 0, shown: 0 };
  #watchers: readonly WatchStream[] = [];
  #told = 0;
  readonly #changedByReader = new Map<WatchReader, readonly string[]>();

  constructor(parts: NotifierParts, { before, after }: PolicyChange) {
    this.#parts = parts;
    this.#after = after;
    this.#diff = new PolicyDiff(before, after);
    this.#held = parts.replica.lookup.namespaces.list();
  }

  get isShown(): boolean {
    return this.#stage !== "held";
  }

  /** From now on everything allowed is shown, and new watches see it. */
  show(): void {
    const { replica, reads, fanout } = this.#parts;
    reads.show(this.#after);
    this.#watchers = [...fanout.watchers()];
    this.#shown = replica.lookup.namespaces.list();
    this.#stage = "group";
  }

  /** Looks at about `maxCount` namespaces, or at watches of the same cost. Returns whether every watch has been told. */
  step(maxCount: number): boolean {
    if (this.#stage === "group") {
      if (this.#groupSome(maxCount)) this.#stage = "tell";
      return false;
    }
    if (!this.#tellSome(maxCount)) return false;
    this.#parts.reads.settle(this.#after);
    return true;
  }

  #groupSome(maxCount: number): boolean {
    const at = this.#grouped;
    for (let n = 0; n < maxCount; n++) {
      const [held, shown] = [this.#held[at.held], this.#shown[at.shown]];
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

  #tellSome(maxCount: number): boolean {
    const { reads } = this.#parts;
    for (const watcher of this.#watchers.slice(this.#told, this.#told + Math.ceil(maxCount / RECORDS_A_WATCH))) {
      const viewer = reads.viewerOf(watcher.feed.reader);
      const isJudged = viewer === undefined || this.#diff.isJudged(viewer);
      if (!isJudged && !this.#diff.judge(viewer, maxCount)) return false;
      if (viewer !== undefined) this.#tell(watcher, viewer);
      this.#told += 1;
      // One viewer's judgement may use a whole step, so the next viewer waits for its own step.
      if (!isJudged) break;
    }
    return this.#told === this.#watchers.length;
  }

  /**
   * Includes namespaces that became empty without the watch being told. A gained namespace is sent anew as a whole, so that no earlier
   * removal reaches the watch. A lost namespace is sent only if the watch can have entries of it.
   */
  #tell(watcher: WatchStream, viewer: Viewer): void {
    const { replica, fanout } = this.#parts;
    const { reader, settledRevision } = watcher.feed;
    let known = this.#changedByReader.get(reader);
    if (known === undefined) {
      const { gained, lost } = this.#diff.of(viewer);
      known = [gained, lost].flatMap((namespaces) => coveredIn(namespaces, reader.options.filter));
      this.#changedByReader.set(reader, known);
    }
    // Which other namespaces it may hold is no longer known.
    const isForgotten = settledRevision < replica.emptied.forgottenRevision;
    const emptied = isForgotten ? [] : replica.emptied.since(settledRevision);
    const isChanged = (namespace: string) => reader.mayHoldNamespace(namespace) && this.#diff.changeOf(namespace, viewer) !== "same";
    const told = isForgotten ? "all" : [...known, ...emptied.filter(isChanged)];
    watcher.feed.refresh(told);
    if (told.length > 0) fanout.again(watcher);
  }
}
