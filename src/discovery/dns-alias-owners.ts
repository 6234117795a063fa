/**
 * Lists the records with given DNS names in key order, using the index of names, for queries by alias or host. The list is exact, so no other records
 * are examined.
 */

import type { EntryIndex } from "../catalog/query/entry-index.ts";
import { coversNamespace, type EntryFilter } from "../catalog/query/filter.ts";
import { MergeCursor } from "../catalog/query/merge.ts";
import { ListCursor, type OrderedRecords, type RecordCursor } from "../catalog/query/ordered-records.ts";
import { type PageStart, SCAN_BUDGET } from "../catalog/query/query.ts";
import type { CatalogRecord, KeyText } from "../catalog/record/record.ts";
import { firstIndex } from "../lib/bisect.ts";
import { type DnsNames, plainName } from "./dns-names.ts";

/** Names as written by the caller. One of the lists is empty. */
export interface RequestedNames {
  /** Aliases: matches records that have any of them. */
  readonly aliases: readonly string[];
  /** Hosts: matches records whose namespace or alias is equal to or below any of them. */
  readonly hosts: readonly string[];
}

/** More records than a page examines. If there are more, the page therefore ends before the list does. */
const MOST = SCAN_BUDGET + 1;

export type AliasNames = Pick<DnsNames, "keysOf" | "lookups" | "namesBelow" | "view">;

/** Restricts the names to entries in one list. */
export function namedIn(names: AliasNames, lookup: EntryIndex): AliasNames {
  return {
    lookups: [lookup],
    namesBelow: (suffix) => names.namesBelow(suffix),
    *keysOf(alias) {
      for (const key of names.keysOf(alias)) if (lookup.find(key) !== undefined) yield key;
    },
    view: (key) => lookup.find(key),
  };
}

/** Opens the list at the beginning of a page. Cost: O(records with such an alias + namespaces at or below a host). */
export function openAliasOwners(
  requested: RequestedNames,
  names: AliasNames,
  filter: EntryFilter,
  { afterKey, allowed }: PageStart,
): RecordCursor {
  const isWanted = (namespace: string) => coversNamespace(filter, namespace) && allowed(namespace);
  const aliases = new Set(requested.aliases.map(plainName));
  const below = new Set<string>();
  for (const host of requested.hosts) {
    for (const { namespace, alias } of names.namesBelow(plainName(host))) {
      if (alias === undefined) below.add(namespace);
      else aliases.add(alias);
    }
  }
  const keys = least(keysOf(aliases, names), afterKey, (key) => {
    const namespace = key.slice(0, key.indexOf("\0"));
    return !below.has(namespace) && isWanted(namespace);
  });
  const aliasOwners = new ListCursor(keys.map((key) => names.view(key)).filter((record) => record !== undefined));
  if (below.size === 0) return aliasOwners;
  // Skips namespaces without a key after `afterKey`.
  const runs = least(below, "", (namespace) => `${namespace}\u0001` > afterKey && isWanted(namespace));
  return new MergeCursor([...names.lookups.map(({ all }) => new RunsCursor(runs, all)), aliasOwners]);
}

function* keysOf(aliases: Iterable<string>, names: AliasNames): Generator<KeyText> {
  for (const alias of aliases) yield* names.keysOf(alias);
}

/**
 * Returns the smallest texts above a given text that are wanted, sorted and without duplicates. The number is limited to the most that a page can
 * need. Cost: O(texts).
 */
function least<T extends string>(texts: Iterable<T>, after: string, isWanted: (text: T) => boolean): readonly T[] {
  let kept: T[] = [];
  let end: T | undefined;
  const cut = () => {
    kept = [...new Set(kept)].toSorted().slice(0, MOST);
    if (kept.length === MOST) end = kept.at(-1);
  };
  for (const text of texts) {
    if (text <= after || (end !== undefined && text >= end) || !isWanted(text)) continue;
    kept.push(text);
    if (kept.length >= 2 * MOST) cut();
  }
  cut();
  return kept;
}

/** Iterates over the records of some namespaces. */
class RunsCursor implements RecordCursor {
  /** Sorted. */
  readonly #namespaces: readonly string[];
  readonly #cursor: ListCursor;
  #at = 0;

  constructor(namespaces: readonly string[], all: OrderedRecords) {
    this.#namespaces = namespaces;
    this.#cursor = new ListCursor(all);
    this.seek("");
  }

  seek(key: string): void {
    this.#at = firstIndex(this.#namespaces.length, (index) => `${this.#namespaces[index]}\u0001` > key);
    const start = `${this.#namespaces[this.#at]}\0`;
    this.#cursor.seek(key > start ? key : start);
  }

  next(): CatalogRecord | undefined {
    for (;;) {
      const namespace = this.#namespaces[this.#at];
      if (namespace === undefined) return undefined;
      const record = this.#cursor.next();
      if (record?.namespace === namespace) return record;
      this.#at += 1;
      this.#cursor.seek(`${this.#namespaces[this.#at]}\0`);
    }
  }
}
