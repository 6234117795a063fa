/**
 * Indexes the aliases of entries, and the registrants that claim them. The instances of a service usually have the same alias and adjacent keys, so
 * one run represents all of them: an alias of three instances needs about 180 bytes, including its text. A set of keys per alias and a list of
 * aliases per key would need 1,300 bytes (bench/memory.ts).
 */

import { isAtOrBelow, isEndBefore, SortedBlocks } from "../catalog/query/sorted-blocks.ts";
import { type KeyText, nameOfKey } from "../catalog/record/record.ts";
import { firstIndex } from "../lib/bisect.ts";

/** Maximum number of keys in a run. */
const RUN_SIZE = 32;
/** Maximum number of claimant texts that are shared. Above this number, equal texts may be stored more than once. */
const MAX_CLAIMANTS = 1024;
/**
 * Maximum number of runs that are searched to determine whether a claim is new. After this many runs, the claim is treated as new, which invalidates
 * some DNS plans unnecessarily.
 */
const MAX_SEARCHED_RUNS = 64;

/** Entries of one name that have the same alias from the same claimant. A run is immutable: a change replaces it. */
export interface AliasRun {
  /** In plain form. */
  readonly alias: string;
  /** The registrant of all claims in this run (`claimantOf`). */
  readonly claimant: string;
  /** The keys in order. There is at least one. */
  readonly keys: readonly KeyText[];
}

/** An alias that entries of a namespace claim. */
export interface AliasClaim {
  readonly alias: string;
  readonly namespace: string;
  readonly claimant: string;
}

export interface AliasChange {
  /** The aliases that the entry has or had. */
  readonly aliases: ReadonlySet<string>;
  /** The aliases for which a claim was added or removed. */
  readonly claimed: readonly string[];
}

const NO_CHANGE: AliasChange = { aliases: new Set(), claimed: [] };

export class AliasIndex {
  /** Runs in key order. The nth list contains the nth alias of each entry, so the runs within a list do not overlap. */
  readonly #lists: SortedBlocks<AliasRun>[] = [];
  /** The same runs, sorted by alias suffix. */
  readonly runs = new SortedBlocks<AliasRun>(isRunBefore);
  readonly #claimants = new Map<string, string>();
  readonly #onRun: (run: AliasRun, isThere: boolean) => void;

  /** `onRun` is called for each run that is added or removed. */
  constructor(onRun: (run: AliasRun, isThere: boolean) => void) {
    this.#onRun = onRun;
  }

  /** Sets the aliases of an entry, in plain form. Removes the entry if there are no aliases. Cost: O(old and new aliases of the entry). */
  set(key: KeyText, aliases: ReadonlySet<string>, claimant: string): AliasChange {
    // HOT: once per change. Most entries have no aliases.
    if (aliases.size === 0 && this.#lists.length === 0) return NO_CHANGE;
    const before = this.#runsOf(key);
    if (aliases.size === 0 && before.length === 0) return NO_CHANGE;
    const had = new Set(before.map(({ alias }) => alias));
    const isKept = (run: AliasRun) => run.claimant === claimant && aliases.has(run.alias);
    const kept = new Set(before.filter(isKept).map(({ alias }) => alias));
    // The aliases are sorted, so that entries with the same aliases share their runs.
    const added = this.#replace(key, before, [...aliases].toSorted(), this.#shared(claimant));
    const came = added.filter((alias) => !kept.has(alias));
    const isLast = (run: AliasRun) => run.keys.length === 1 && !this.#isClaimed(run);
    const went = before.filter((run) => !isKept(run) && isLast(run));
    return { aliases: had.union(aliases), claimed: [...came, ...went.map(({ alias }) => alias)] };
  }

  /** Returns the keys of the entries with this alias. */
  *keysOf(alias: string): Generator<KeyText> {
    for (const { keys } of this.runsOf(alias)) yield* keys;
  }

  /** Returns the runs of entries with this alias, from `among` (by default, all runs). */
  *runsOf(alias: string, among = this.runs): Generator<AliasRun> {
    for (const run of among.from((each) => !isEndBefore(each.alias, alias))) {
      if (run.alias !== alias) return;
      yield run;
    }
  }

  /** Whether any entry has this alias. */
  has(alias: string): boolean {
    return this.runs.first((each) => !isEndBefore(each.alias, alias))?.alias === alias;
  }

  /** Whether an alias in `among` (by default, all runs) is `suffix` or ends in `.suffix`. */
  hasBelow(suffix: string, among = this.runs): boolean {
    const first = among.first(({ alias }) => !isEndBefore(alias, suffix));
    return first !== undefined && isAtOrBelow(first.alias, suffix);
  }

  /** Returns all aliases without duplicates. */
  *aliases(): Generator<string> {
    let last: string | undefined;
    for (const { alias } of this.runs.from(() => true)) {
      if (alias !== last) yield alias;
      last = alias;
    }
  }

  /** Returns the keys of all entries with aliases. */
  keys(): readonly KeyText[] {
    return this.#lists[0]?.list().flatMap(({ keys }) => keys) ?? [];
  }

  /** Returns the claims to aliases that are `suffix` or end in `.suffix`, from `among` (by default, all runs). May contain duplicates. */
  claimsBelow(suffix: string, among = this.runs): Generator<AliasClaim> {
    const runs = among.from(({ alias }) => !isEndBefore(alias, suffix));
    return this.#claimsOf(runs, ({ alias }) => isAtOrBelow(alias, suffix));
  }

  /** Returns all claims. May contain duplicates. */
  claims(): Generator<AliasClaim> {
    return this.#claimsOf(
      this.runs.from(() => true),
      () => true,
    );
  }

  /** Returns the claims of the leading runs for which `suits` is true. */
  *#claimsOf(runs: Iterable<AliasRun>, suits: (run: AliasRun) => boolean): Generator<AliasClaim> {
    let last: AliasRun | undefined;
    for (const run of runs) {
      if (!suits(run)) return;
      const namespace = namespaceOfRun(run);
      const isSame = last?.alias === run.alias && last.claimant === run.claimant && namespaceOf(firstKey(last)) === namespace;
      if (!isSame) yield { alias: run.alias, namespace, claimant: run.claimant };
      last = run;
    }
  }

  /** Returns the runs with this key, one for each of its aliases. */
  #runsOf(key: KeyText): readonly AliasRun[] {
    const runs: AliasRun[] = [];
    for (const list of this.#lists) {
      const run = list.before((each) => firstKey(each) > key);
      if (run?.keys.includes(key) !== true) break;
      runs.push(run);
    }
    return runs;
  }

  /** Whether another entry of the namespace claims the alias for the same claimant. The search stops after `MAX_SEARCHED_RUNS` runs. */
  #isClaimed(own: AliasRun): boolean {
    const { alias, claimant } = own;
    const start = `${namespaceOf(firstKey(own))}\0`;
    let searched = 0;
    for (const run of this.runs.from((each) => !isEndBefore(each.alias, alias) && (each.alias !== alias || firstKey(each) >= start))) {
      if (run.alias !== alias || !firstKey(run).startsWith(start) || searched === MAX_SEARCHED_RUNS) return false;
      if (run.claimant === claimant) return true;
      searched += 1;
    }
    return false;
  }

  /** Replaces the runs of an entry. Returns the added aliases that this claimant did not claim before. */
  #replace(key: KeyText, before: readonly AliasRun[], aliases: readonly string[], claimant: string): readonly string[] {
    const stays = (n: number) => before[n]?.alias === aliases[n] && before[n]?.claimant === claimant;
    // All removals are done before the additions, because an alias may move to another list.
    for (const [n, run] of before.entries()) if (!stays(n)) this.#swap(this.#list(n), run, without(run, key));
    return aliases.filter((alias, n) => !stays(n) && this.#add(this.#list(n), runOf(alias, claimant, [key]), key) === "first");
  }

  #list(n: number): SortedBlocks<AliasRun> {
    return (this.#lists[n] ??= new SortedBlocks<AliasRun>((a, b) => firstKey(a) < firstKey(b)));
  }

  /** Adds a claim. Returns whether `#isClaimed` finds no earlier claim to the alias by the same claimant. */
  #add(list: SortedBlocks<AliasRun>, own: AliasRun, key: KeyText): "first" | "further" {
    const isAfter = (run: AliasRun) => firstKey(run) > key;
    const before = list.before(isAfter);
    const isWithin = before !== undefined && (before.keys.at(-1) ?? "") > key;
    const [after] = isWithin ? [] : list.from(isAfter);
    const alike = [before, after].find((run) => run !== undefined && isAlike(run, own));
    if (alike !== undefined) {
      this.#swap(list, alike, withKey(alike, key));
      return "further";
    }
    const claim = this.#isClaimed(own) ? "further" : "first";
    if (isWithin) this.#swap(list, before, splitAt(before, key, own));
    else this.#swap(list, undefined, [own]);
    return claim;
  }

  #swap(list: SortedBlocks<AliasRun>, gone: AliasRun | undefined, instead: readonly AliasRun[]): void {
    const [next, ...others] = instead;
    if (gone !== undefined) this.#onRun(gone, false);
    for (const run of instead) this.#onRun(run, true);
    for (const each of [list, this.runs]) {
      if (gone !== undefined && next !== undefined) each.replace(gone, next);
      else if (gone !== undefined) each.remove(gone);
      else if (next !== undefined) each.add(next);
      for (const run of others) each.add(run);
    }
  }

  #shared(claimant: string): string {
    const known = this.#claimants.get(claimant);
    if (known !== undefined) return known;
    if (this.#claimants.size === MAX_CLAIMANTS) this.#claimants.clear();
    this.#claimants.set(claimant, claimant);
    return claimant;
  }
}

/** Compares by alias suffix, then by key. */
export function isRunBefore(a: AliasRun, b: AliasRun): boolean {
  return isEndBefore(a.alias, b.alias) || (a.alias === b.alias && firstKey(a) < firstKey(b));
}

/** Returns the namespace of a run's entries. */
export function namespaceOfRun(run: AliasRun): string {
  return namespaceOf(firstKey(run));
}

function firstKey({ keys }: AliasRun): string {
  return keys[0] ?? "";
}

function namespaceOf(key: string): string {
  return key.slice(0, key.indexOf("\0"));
}

function runOf(alias: string, claimant: string, keys: readonly KeyText[]): AliasRun {
  return { alias, claimant, keys };
}

/** Whether the entries of both runs can be combined in one run. */
function isAlike(a: AliasRun, b: AliasRun): boolean {
  const [aKey, bKey] = [a.keys[0], b.keys[0]];
  return (
    a.alias === b.alias && a.claimant === b.claimant && aKey !== undefined && bKey !== undefined && nameOfKey(aKey) === nameOfKey(bKey)
  );
}

/** Returns the run with the key added, split in half if it is full. */
function withKey({ alias, claimant, keys }: AliasRun, key: KeyText): readonly AliasRun[] {
  // `toSpliced` and `slice` create arrays without unused capacity.
  const more = keys.toSpliced(indexIn(keys, key), 0, key);
  if (more.length <= RUN_SIZE) return [runOf(alias, claimant, more)];
  const half = more.length >>> 1;
  return [runOf(alias, claimant, more.slice(0, half)), runOf(alias, claimant, more.slice(half))];
}

function without({ alias, claimant, keys }: AliasRun, key: KeyText): readonly AliasRun[] {
  return keys.length === 1 ? [] : [runOf(alias, claimant, keys.toSpliced(keys.indexOf(key), 1))];
}

/** Splits a run at the key, and returns both parts with the key's own run between them. */
function splitAt({ alias, claimant, keys }: AliasRun, key: KeyText, own: AliasRun): readonly AliasRun[] {
  const at = indexIn(keys, key);
  return [runOf(alias, claimant, keys.slice(0, at)), own, runOf(alias, claimant, keys.slice(at))];
}

/** Returns the index of a key in a sorted list, or the index at which it would be inserted. */
function indexIn(keys: readonly KeyText[], key: KeyText): number {
  return firstIndex(keys.length, (index) => (keys[index] ?? "") >= key);
}
