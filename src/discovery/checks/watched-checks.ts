/** The checks that this node runs for its own entries, and their known states. */
import {
  type Check,
  type CheckResults,
  type CheckState,
  type CheckTimes,
  FAILURE,
  identityOf,
  storedStates,
  type Target,
  targetOf,
  timesOf,
  UNKNOWN_STATE,
  worstOf,
} from "../../catalog/entry/checks.ts";
import { type CatalogRecord, HEALTH, type KeyText, viewHealth } from "../../catalog/record/record.ts";
import { type CheckOutcome, CheckThreshold, DEGRADED, failed, PASSED } from "./threshold.ts";

/** One check of one entry. */
export interface WatchedCheck {
  /** May be reused after the watch has been removed. */
  readonly id: number;
  readonly entry: WatchedEntry;
  readonly check: Check;
  /** Undefined for a check without a target. */
  readonly target: Target | undefined;
  /** See `identityOf`. */
  readonly identity: string;
  readonly times: CheckTimes;
  readonly threshold: CheckThreshold;
  /** Time of the last outcome, in ms of the stall-aware clock. Before the first outcome, the time when the check was added. */
  outcomeMs: number;
  /** Whether the check is due and waits for a lookup or probe slot. */
  isWaiting: boolean;
  /** Time at which the state change became due, in monotonic ms. Undefined if no state change is due. */
  dueMonoMs: number | undefined;
  /** Whether the entry has ended, or no longer has this check. */
  isGone: boolean;
}

export interface WatchedEntry {
  readonly key: KeyText;
  /** See `entryOwner`. A new object is created if the owner changes. */
  readonly owner: string;
  /** In the order of the entry's checks. */
  watches: readonly WatchedCheck[];
  /** The check states in this node's record, stored or about to be written. */
  recorded: string;
}

/** The watches of an entry that were added and dropped. */
export interface CheckChanges {
  readonly entry: WatchedEntry;
  readonly added: readonly WatchedCheck[];
  readonly dropped: readonly WatchedCheck[];
}

const NOTHING: Pick<CheckResults, "checks" | "targets" | "checkStates"> = { checks: [], targets: [], checkStates: [] };

export class WatchedEntries {
  readonly #byKey = new Map<KeyText, WatchedEntry>();
  readonly #byId: (WatchedCheck | undefined)[] = [];
  readonly #freeIds: number[] = [];

  find(key: KeyText): WatchedEntry | undefined {
    // Most nodes have no checks, and in that case the key is not hashed.
    return this.#byKey.size === 0 ? undefined : this.#byKey.get(key);
  }

  keys(): readonly KeyText[] {
    return [...this.#byKey.keys()];
  }

  /** Returns all watched checks. O(checks). */
  *list(): Generator<WatchedCheck, undefined> {
    for (const { watches } of this.#byKey.values()) yield* watches;
  }

  byId(id: number): WatchedCheck | undefined {
    return this.#byId[id];
  }

  /**
   * Sets the checks of a key's record, or removes them if `checked` is undefined because the record has ended. An unchanged check keeps its watch and
   * its state. Returns undefined if the key has no checks and had none before.
   */
  set(key: KeyText, checked: CheckResults | undefined, ownerOf: (key: KeyText) => string): CheckChanges | undefined {
    const known = this.#byKey.get(key);
    const { checks, targets, checkStates } = checked ?? NOTHING;
    if (known === undefined && checks.length === 0) return undefined;
    const owner = checks.length === 0 ? known?.owner : ownerOf(key);
    const entry: WatchedEntry =
      known !== undefined && known.owner === owner ? known : { key, owner: owner ?? "", watches: [], recorded: "" };
    const before = [...entry.watches];
    const others = known === undefined || known === entry ? [] : known.watches;
    const added: WatchedCheck[] = [];
    entry.watches = checks.map((check, i) => {
      const identity = identityOf(check, targets);
      const at = before.findIndex((watch) => watch.identity === identity);
      const [kept] = at < 0 ? [] : before.splice(at, 1);
      if (kept !== undefined) return kept;
      const watch = this.#newWatch({ entry, check, identity, target: targetOf(check, targets) }, checkStates[i]);
      added.push(watch);
      return watch;
    });
    entry.recorded = textOf(storedStates(checkStates));
    const dropped = [...before, ...others];
    for (const watch of dropped) {
      watch.isGone = true;
      this.#byId[watch.id] = undefined;
      this.#freeIds.push(watch.id);
    }
    if (checks.length === 0) this.#byKey.delete(key);
    else this.#byKey.set(key, entry);
    return { entry, added, dropped };
  }

  #newWatch(of: Pick<WatchedCheck, "entry" | "check" | "identity" | "target">, state: CheckState = UNKNOWN_STATE): WatchedCheck {
    const id = this.#freeIds.pop() ?? this.#byId.length;
    const times = timesOf(of.check);
    const threshold = new CheckThreshold(times, state);
    const watch: WatchedCheck = { ...of, id, times, threshold, outcomeMs: 0, dueMonoMs: undefined, isWaiting: false, isGone: false };
    this.#byId[id] = watch;
    return watch;
  }
}

/**
 * Returns the unit of fair sharing for probes, lookups and self-preservation: the tenant of an entry or, without a tenant, the principal
 * that registered it.
 */
export function entryOwner(tenant: string, principal: string): string {
  return tenant === "" ? `principal ${principal}` : `tenant ${tenant}`;
}

/** Returns the states of the checks of an entry. */
export function statesOf({ watches }: WatchedEntry): readonly CheckState[] {
  return watches.map(({ threshold }) => threshold.state);
}

/** Returns a text that is equal for equal states. */
export function textOf(states: readonly CheckState[]): string {
  return states
    .map(({ health, failure, httpStatus, lastHealth = HEALTH.UNSET }) => `${health}/${failure}/${httpStatus}/${lastHealth}`)
    .join(" ");
}

// The outcome of an alias check is the health of another entry, as known to this node.

/** The other entry: its record, if both readers and the registrant may see it, and its check results. */
export interface AliasTarget {
  readonly record: CatalogRecord;
  readonly checked: CheckResults;
}

/**
 * Returns the outcome of an alias check. Returns undefined if the other entry's node is unreachable, because its program may still be healthy.
 */
export function aliasOutcome(other: AliasTarget | undefined): CheckOutcome | undefined {
  if (other === undefined) return failed(FAILURE.ALIAS);
  if (viewHealth(other.record) === HEALTH.ORPHANED) return undefined;
  const health = ownHealth(other);
  if (health === HEALTH.DEGRADED) return DEGRADED;
  return health === HEALTH.HEALTHY || health === HEALTH.UNSET ? PASSED : failed(FAILURE.ALIAS);
}

/**
 * Returns the health of an entry without its alias checks. Two nodes may simultaneously accept entries that are aliases of each other. If alias
 * checks were included, neither entry could become healthy again after one of them became unhealthy.
 */
function ownHealth({ record, checked: { checks, reportedHealth, checkStates, maintenance } }: AliasTarget): number {
  if (maintenance !== undefined || !checks.some(({ probe }) => probe.case === "alias")) return record.health;
  return worstOf(
    reportedHealth,
    checkStates.filter((_, i) => checks[i]?.probe.case !== "alias"),
  );
}
