/** What DNS asks beside entries: which names have something below them, and which entries carry an alias. */
import { decodeEntry } from "../catalog/codec.ts";
import { type CatalogRecord, type KeyText, keyParts } from "../catalog/record.ts";
import type { Replica } from "../catalog/replica.ts";
import { hasField } from "../lib/protowire.ts";

/** Entry.aliases. */
const ALIASES = 9;

export class DnsNames {
  readonly #replica: Replica;
  /** Everything up to here is indexed. */
  #revision = 0;
  readonly #namespaces = new Set<string>();
  /** For a suffix, by namespace, how many names of it end so: the namespace's own, and aliases of its entries. */
  readonly #suffixes = new Map<string, Map<string, number>>();
  readonly #aliases = new Map<string, Set<KeyText>>();
  readonly #aliasesOf = new Map<KeyText, readonly string[]>();

  constructor(replica: Replica) {
    this.#replica = replica;
  }

  /** Takes in what changed since the last call. Cost: the records that changed. */
  refresh(): void {
    const touched = new Set<string>();
    this.#replica.changesSince(this.#revision, (cell) => {
      touched.add(cell.namespace);
      const shown = this.#replica.winner(cell);
      this.#setAliases(cell, shown === undefined ? NONE : this.#aliasesIn(shown));
      return true;
    });
    // What was dropped since then, with a forgotten origin for one, has left no change behind.
    if (this.#revision < this.#replica.collectedRevision) this.#sweep(touched);
    this.#revision = this.#replica.revision;
    for (const namespace of touched) this.#setNamespace(namespace, this.#replica.lookup.namespaceCount(namespace) > 0);
  }

  #sweep(touched: Set<string>): void {
    for (const namespace of this.#namespaces) touched.add(namespace);
    for (const key of this.#aliasesOf.keys())
      if (this.#replica.view(key) === undefined) this.#setAliases({ key, namespace: keyParts(key).namespace }, NONE);
  }

  /** Whether some namespace or alias that the viewer sees is `suffix` or ends in `.suffix`. */
  hasNameUnder(suffix: string, sees: (namespace: string) => boolean): boolean {
    for (const namespace of this.#suffixes.get(suffix)?.keys() ?? []) if (sees(namespace)) return true;
    return false;
  }

  /** Records that carry the alias and that the viewer sees, in key order. */
  findAlias(alias: string, sees: (namespace: string) => boolean): readonly CatalogRecord[] {
    const keys = this.#aliases.get(alias);
    if (keys === undefined) return [];
    const records = [...keys].toSorted().flatMap((key) => this.#replica.view(key) ?? []);
    return records.filter((record) => sees(record.namespace));
  }

  #aliasesIn(record: CatalogRecord): readonly string[] {
    const { slab } = this.#replica;
    const bytes = slab.view(record.at, record.sizeBytes);
    // HOT: once a change, and once an entry at a restart. Few have aliases: decoding all was a sixth of a restart.
    if (!hasField(bytes, ALIASES)) return NONE;
    const { aliases } = decodeEntry(bytes, record.origin.life);
    return aliases.map((alias) => alias.toLowerCase().replace(/\.$/, ""));
  }

  #setAliases({ key, namespace }: Pick<CatalogRecord, "key" | "namespace">, next: readonly string[]): void {
    if (next.length === 0 && this.#aliasesOf.size === 0) return;
    const before = this.#aliasesOf.get(key) ?? NONE;
    if (before.length === 0 && next.length === 0) return;
    for (const alias of before) {
      const keys = this.#aliases.get(alias);
      if (keys?.delete(key) === true && keys.size === 0) this.#aliases.delete(alias);
      this.#count(alias, namespace, -1);
    }
    for (const alias of next) {
      const keys = this.#aliases.get(alias);
      if (keys === undefined) this.#aliases.set(alias, new Set([key]));
      else keys.add(key);
      this.#count(alias, namespace, 1);
    }
    if (next.length === 0) this.#aliasesOf.delete(key);
    else this.#aliasesOf.set(key, next);
  }

  #setNamespace(namespace: string, isThere: boolean): void {
    if (isThere === this.#namespaces.has(namespace)) return;
    if (isThere) this.#namespaces.add(namespace);
    else this.#namespaces.delete(namespace);
    this.#count(namespace, namespace, isThere ? 1 : -1);
  }

  /** Adds a name of a namespace to each of its suffixes, or takes it away. */
  #count(name: string, namespace: string, by: number): void {
    for (let at = 0; ; ) {
      const suffix = name.slice(at);
      const counts = this.#suffixes.get(suffix) ?? new Map<string, number>();
      const count = (counts.get(namespace) ?? 0) + by;
      if (count === 0) counts.delete(namespace);
      else counts.set(namespace, count);
      if (counts.size === 0) this.#suffixes.delete(suffix);
      else this.#suffixes.set(suffix, counts);
      const dot = name.indexOf(".", at);
      if (dot < 0) return;
      at = dot + 1;
    }
  }
}

const NONE: readonly string[] = [];
