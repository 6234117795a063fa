/** Caches upstream answers for names that fetched entries do not resolve: the entries that own a name as an alias, and the names below it. */

import type { EntryView } from "../../catalog/entry/view.ts";
import { isAtOrBelow } from "../../catalog/query/sorted-blocks.ts";
import type { ParsedAliasClaim } from "../../discovery/alias-claim.ts";
import { type NameView, plainName } from "../../discovery/dns-names.ts";
import type { AliasOwner } from "../subject/remote-lookup.ts";

/** The upstream's answer for one name, limited to the data that the DNS viewer may see. */
export interface AliasOwners {
  /** Entries that own the name as an alias. */
  readonly atName: readonly AliasOwner[];
  /** Namespaces at or below the name. */
  readonly namespaces: readonly string[];
  /** Aliases at or below the name, with their claims. The names are relative to the zone. */
  readonly claims: readonly ParsedAliasClaim[];
  /** Whether the upstream has more entries or names than these. */
  readonly isMore: boolean;
  /** Estimated memory, rounded up. */
  readonly sizeBytes: number;
}

export interface AliasOwnerCacheOptions {
  /** How long positive and negative answers remain fresh. */
  readonly ttlMs: number;
  readonly negativeMs: number;
  /** How long stale answers are used after the last upstream became unreachable, in ms. */
  readonly maxStaleMs: number;
  readonly maxBytes: number;
}

interface AliasOwnersRow {
  /** Sequence number of the `put` that stored the answer. */
  readonly number: number;
  readonly aliasOwners: AliasOwners;
  readonly arrivedMonoMs: number;
  /** The version of the policy under which the answer was computed. This version also changes when a namespace is no longer watched. */
  readonly judgedRevision: number;
}

/**
 * `fresh` means that the answer is valid. `stale` means that the answer is valid only while no upstream is reachable. `narrow` means that its
 * positive data is valid, but missing data may exist.
 */
export interface FoundAliasOwners {
  readonly aliasOwners: AliasOwners;
  readonly state: "fresh" | "stale" | "narrow";
  /** How long the answer remains fresh, in ms, or 0 if it is not fresh. */
  readonly leftMs: number;
  readonly arrivedMonoMs: number;
}

/** Memory used by an answer in the map, without its content. */
const KEPT_BYTES = 400;
/** The cache has room for at least this many answers, because one question looks up a name, the names below it, and the names above it. */
const LEAST_KEPT = 4;
/** Memory used by a claim and by a namespace. */
const CLAIM_BYTES = 300;
const NAMESPACE_BYTES = 200;

/** A cache of upstream answers, bounded in bytes. The oldest answer is removed first. */
export class AliasOwnerCache {
  readonly #options: AliasOwnerCacheOptions;
  readonly #kept = new Map<string, AliasOwnersRow>();
  #sizeBytes = 0;
  #putCount = 0;

  constructor(options: AliasOwnerCacheOptions) {
    this.#options = options;
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** Maximum size of one answer. A larger answer would evict itself from the cache. */
  get answerBytes(): number {
    return Math.floor(this.#options.maxBytes / LEAST_KEPT);
  }

  put(key: string, aliasOwners: AliasOwners, judgedRevision: number, monoMs: number): void {
    this.#drop(key);
    this.#putCount += 1;
    this.#kept.set(key, { number: this.#putCount, aliasOwners, judgedRevision, arrivedMonoMs: monoMs });
    this.#sizeBytes += bytesOf(key, aliasOwners);
    for (const oldest of this.#kept.keys()) {
      if (this.#sizeBytes <= this.#options.maxBytes) break;
      this.#drop(oldest);
    }
  }

  /**
   * Returns a number that changes with the known answer for a name. It is 0 for an answer computed under another policy version. Returns undefined
   * when there is no answer.
   */
  markOf(key: string, judgedRevision: number): number | undefined {
    const kept = this.#kept.get(key);
    return kept && (kept.judgedRevision === judgedRevision ? kept.number : 0);
  }

  /** `cutOffMonoMs` is the time since which no upstream is reachable. It is undefined while an upstream is reachable. */
  find(key: string, judgedRevision: number, monoMs: number, cutOffMonoMs: number | undefined): FoundAliasOwners | undefined {
    const kept = this.#kept.get(key);
    if (kept === undefined) return undefined;
    const { ttlMs, negativeMs, maxStaleMs } = this.#options;
    const { aliasOwners, arrivedMonoMs } = kept;
    const heldMs = monoMs - arrivedMonoMs;
    const isSame = kept.judgedRevision === judgedRevision;
    const leftMs = (isEmpty(aliasOwners) ? negativeMs : ttlMs) - heldMs;
    if (isSame && leftMs > 0) return { aliasOwners, arrivedMonoMs, state: "fresh", leftMs };
    if (monoMs - Math.max(arrivedMonoMs, cutOffMonoMs ?? 0) < maxStaleMs)
      return { aliasOwners, arrivedMonoMs, state: isSame ? "stale" : "narrow", leftMs: 0 };
    this.#drop(key);
    return undefined;
  }

  #drop(key: string): void {
    const kept = this.#kept.get(key);
    if (kept === undefined) return;
    this.#sizeBytes -= bytesOf(key, kept.aliasOwners);
    this.#kept.delete(key);
  }
}

/**
 * Returns whether data exists at or below the name that the viewer may see and whose claim is valid. If the answer is incomplete, such data is
 * assumed to exist.
 */
export function isAbove({ namespaces, claims, isMore }: AliasOwners, suffix: string, { sees, counts }: NameView): boolean {
  if (namespaces.some(sees)) return true;
  const isBelow = (claim: ParsedAliasClaim) => isAtOrBelow(claim.name, suffix) && sees(claim.namespace) && counts(claim);
  return claims.some(isBelow) || isMore;
}

export function aliasOwnersAt({ atName }: AliasOwners, name: string, { sees, counts }: NameView): readonly AliasOwner[] {
  return atName.filter(({ entry, claim }) => counts({ ...claim, name }) && sees(entry.key.namespace));
}

/** An entry received from the upstream and its size in the cache. */
export interface CachedAliasOwner {
  readonly aliasOwner: AliasOwner;
  readonly sizeBytes: number;
}

/**
 * Builds the answer for a name in the zone from the upstream's entries, up to `maxBytes` but with at least one entry. Entries that own the name
 * itself come first. For entries below the name, only namespaces and claims are kept. If some data does not fit, the answer is marked as incomplete.
 */
export function aliasOwnersFrom(
  name: string,
  zone: string,
  told: readonly CachedAliasOwner[],
  { isMore, maxBytes }: { readonly isMore: boolean; readonly maxBytes: number },
): AliasOwners {
  const namespaces = new Set<string>();
  const claims: ParsedAliasClaim[] = [];
  const atName: AliasOwner[] = [];
  const namesOfEntry = ({ read }: EntryView) => read("aliases").flatMap((alias) => namesBelow(plainName(alias), name, zone));
  const sorted = told
    .map((one) => ({ ...one, names: namesOfEntry(one.aliasOwner.entry) }))
    .toSorted((a, b) => Number(b.names.includes(name)) - Number(a.names.includes(name)));
  let sizeBytes = 0;
  let isCut = false;
  for (const { aliasOwner, sizeBytes: entryBytes, names } of sorted) {
    const { namespace } = aliasOwner.entry.key;
    const isNew = isAtOrBelow(namespace, name) && !namespaces.has(namespace);
    const isAtName = names.includes(name);
    const ownBytes = CLAIM_BYTES * names.length + (isNew ? NAMESPACE_BYTES : 0) + (isAtName ? entryBytes : 0);
    if (sizeBytes > 0 && sizeBytes + ownBytes > maxBytes) {
      isCut = true;
      continue;
    }
    sizeBytes += ownBytes;
    if (isNew) namespaces.add(namespace);
    for (const alias of names) claims.push({ ...aliasOwner.claim, name: alias });
    if (isAtName) atName.push(aliasOwner);
  }
  return { atName, namespaces: [...namespaces], claims, isMore: isMore || isCut, sizeBytes };
}

/** Returns the spellings of an alias (as written and relative to the zone) that equal the name or are below it. */
function namesBelow(alias: string, name: string, zone: string): readonly string[] {
  const short = alias.endsWith(`.${zone}`) ? [alias.slice(0, -zone.length - 1)] : [];
  return [alias, ...short].filter((text) => isAtOrBelow(text, name));
}

export function isEmpty({ atName, namespaces, claims }: AliasOwners): boolean {
  return atName.length + namespaces.length + claims.length === 0;
}

function bytesOf(key: string, { sizeBytes }: AliasOwners): number {
  return KEPT_BYTES + 2 * key.length + sizeBytes;
}
