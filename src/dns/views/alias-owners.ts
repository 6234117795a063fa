/** What a resolver asked its upstream about names in DNS that no fetched name tells: who carries them as an alias, and what lies below them. */

import type { EntryView } from "../../catalog/entry/view.ts";
import { isAtOrBelow } from "../../catalog/query/sorted-blocks.ts";
import type { ParsedAliasClaim } from "../../discovery/alias-claim.ts";
import { type NameView, plainName } from "../../discovery/dns-names.ts";
import type { AliasOwner } from "../subject/remote-lookup.ts";

/** The answer of the upstream to one name, as far as the viewer of DNS may see it. */
export interface AliasOwners {
  /** Entries that have the name as an alias. */
  readonly atName: readonly AliasOwner[];
  /** Namespaces at or below the name. */
  readonly namespaces: readonly string[];
  /** Aliases at or below the name, with their claims. The names are below the zone. */
  readonly claims: readonly ParsedAliasClaim[];
  /** Whether the upstream has more than these. */
  readonly isMore: boolean;
  /** Of memory, rather too many than too few. */
  readonly sizeBytes: number;
}

export interface AliasOwnerCacheOptions {
  /** How long an answer is fresh: one that something exists, and one that nothing does. */
  readonly ttlMs: number;
  readonly negativeMs: number;
  /** While no upstream answers, in ms since then. */
  readonly maxStaleMs: number;
  readonly maxBytes: number;
}

interface AliasOwnersRow {
  /** Of all that were put here. */
  readonly number: number;
  readonly aliasOwners: AliasOwners;
  readonly arrivedMonoMs: number;
  /** What it says was judged under this policy, and tells what callers were told until then. */
  readonly judgedRevision: number;
}

/** `fresh`: as it is. `stale`: good only while no upstream answers. `narrow`: of what it has the same is true, and what it does not have is not known. */
export interface FoundAliasOwners {
  readonly aliasOwners: AliasOwners;
  readonly state: "fresh" | "stale" | "narrow";
  /** How long it stays so, in ms. 0 unless it is fresh. */
  readonly leftMs: number;
  readonly arrivedMonoMs: number;
}

/** Bytes of an answer in the map, without its content. */
const KEPT_BYTES = 400;
/** The bytes have room for so many answers: a question asks about a name, and about what lies below it and above. */
const LEAST_KEPT = 4;
/** Memory of a claim, and of a namespace. */
const CLAIM_BYTES = 300;
const NAMESPACE_BYTES = 200;

/** The answers of the upstream, within a bound of bytes. The oldest goes first. */
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

  /** Most that one answer should take. A larger one would push itself out. */
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

  /** Another number after each change of what is known of a name; 0 for what was judged otherwise. Undefined: nothing is. */
  markOf(key: string, judgedRevision: number): number | undefined {
    const kept = this.#kept.get(key);
    return kept && (kept.judgedRevision === judgedRevision ? kept.number : 0);
  }

  /** `cutOffMonoMs`: since then no upstream answers. Undefined while one does. */
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

/** Whether something that the viewer sees, and that counts, is at the name or below it. With more than was told, something is taken to be. */
export function isAbove({ namespaces, claims, isMore }: AliasOwners, suffix: string, { sees, counts }: NameView): boolean {
  if (namespaces.some(sees)) return true;
  const isBelow = (claim: ParsedAliasClaim) => isAtOrBelow(claim.name, suffix) && sees(claim.namespace) && counts(claim);
  return claims.some(isBelow) || isMore;
}

export function aliasOwnersAt({ atName }: AliasOwners, name: string, { sees, counts }: NameView): readonly AliasOwner[] {
  return atName.filter(({ entry, claim }) => counts({ ...claim, name }) && sees(entry.key.namespace));
}

/** An entry that the upstream told, and its memory where it is kept. */
export interface CachedAliasOwner {
  readonly aliasOwner: AliasOwner;
  readonly sizeBytes: number;
}

/**
 * What the upstream told of a name of the zone, sorted: as much as has room, but one entry at least. Entries that have the name itself come first. Of those below it only
 * namespaces and claims are kept. What finds no room counts as what was not told.
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

/** What an alias is below the zone, if that is the name or below it: an alias may be in full. */
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
