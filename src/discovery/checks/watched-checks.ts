/** The checks of own entries that this node watches, and what is known of each. */
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
  /** Reused after the watch is gone. */
  readonly id: number;
  readonly entry: WatchedEntry;
  readonly check: Check;
  /** Undefined for a check that looks at no target. */
  readonly target: Target | undefined;
  /** See `identityOf`. */
  readonly identity: string;
  readonly times: CheckTimes;
  readonly threshold: CheckThreshold;
  /** Time of its last outcome, in stall-aware ms. Before the first outcome, the time when it was added. */
  outcomeMs: number;
  /** It is due and waits for a look-up or a probe. */
  isWaiting: boolean;
  /** When it began to be due to turn, in monotonic ms. Undefined while it is not. */
  dueMonoMs: number | undefined;
  /** The entry is gone, or has this check no longer. */
  isGone: boolean;
}

export interface WatchedEntry {
  readonly key: KeyText;
  /** See `entryOwner`. When the owner changes, a new object is created. */
  readonly owner: string;
  /** In the order of the entry's checks. */
  watches: readonly WatchedCheck[];
  /** What the own record says of its checks, or is about to say. */
  recorded: string;
}

/** What becomes of the watches of an entry. */
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
    // Most nodes watch nothing: then the key is not hashed.
    return this.#byKey.size === 0 ? undefined : this.#byKey.get(key);
  }

  keys(): readonly KeyText[] {
    return [...this.#byKey.keys()];
  }

  /** O(checks). */
  *list(): Generator<WatchedCheck, undefined> {
    for (const { watches } of this.#byKey.values()) yield* watches;
  }

  byId(id: number): WatchedCheck | undefined {
    return this.#byId[id];
  }

  /**
   * The record of a key says this now; undefined when it is gone. A check that was there before is the same watch still, with all that is known of
   * it. Undefined when the key has no checks and had none.
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

/** The unit of fair sharing for probes, look-ups and doubts: the tenant of an entry, or without one the principal that registered it. */
export function entryOwner(tenant: string, principal: string): string {
  return tenant === "" ? `principal ${principal}` : `tenant ${tenant}`;
}

/** What the checks of an entry have found. */
export function statesOf({ watches }: WatchedEntry): readonly CheckState[] {
  return watches.map(({ threshold }) => threshold.state);
}

/** Equal for equal states. */
export function textOf(states: readonly CheckState[]): string {
  return states
    .map(({ health, failure, httpStatus, lastHealth = HEALTH.UNSET }) => `${health}/${failure}/${httpStatus}/${lastHealth}`)
    .join(" ");
}

// The outcome of an alias check: the health of another entry, as this node knows it.

/** The other entry: its record, if readers see one and the registrant may, and what it says of its checks. */
export interface AliasTarget {
  readonly record: CatalogRecord;
  readonly checked: CheckResults;
}

/** Undefined where the other entry says nothing: its node cannot be reached, and its program may be well. */
export function aliasOutcome(other: AliasTarget | undefined): CheckOutcome | undefined {
  if (other === undefined) return failed(FAILURE.ALIAS);
  if (viewHealth(other.record) === HEALTH.ORPHANED) return undefined;
  const health = ownHealth(other);
  if (health === HEALTH.DEGRADED) return DEGRADED;
  return health === HEALTH.HEALTHY || health === HEALTH.UNSET ? PASSED : failed(FAILURE.ALIAS);
}

/**
 * The health of an entry without its alias checks. Two nodes may accept entries that are aliases of each other at the same time. If these counted,
 * neither could become healthy again once one of them was not.
 */
function ownHealth({ record, checked: { checks, reportedHealth, checkStates, maintenance } }: AliasTarget): number {
  if (maintenance !== undefined || !checks.some(({ probe }) => probe.case === "alias")) return record.health;
  return worstOf(
    reportedHealth,
    checkStates.filter((_, i) => checks[i]?.probe.case !== "alias"),
  );
}
