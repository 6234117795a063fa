/** Interns values that many entries have in common, so that a record costs one small object. */
import { assert } from "../../lib/errors.ts";
import { NO_PORTS, PLAIN_PORTS } from "../entry/view.ts";
import type { CatalogRecord, SharedTraits } from "./record.ts";

/** The fields that filters use; see `sameFilter`. */
export type FilterTraits = Pick<CatalogRecord, "scope" | "health" | "traits">;

/**
 * Whether all filterable fields are equal: scope, health, tags, capabilities, resources, cluster, region, version. If they differ, the change
 * advances the record's `filterSeq`. Shared traits can be compared by identity.
 */
export function sameFilter(a: FilterTraits, b: FilterTraits): boolean {
  if (a.scope !== b.scope || a.health !== b.health) return false;
  if (a.traits === b.traits) return true;
  return (
    a.traits.clusterId === b.traits.clusterId &&
    a.traits.region === b.traits.region &&
    a.traits.version === b.traits.version &&
    sameList(a.traits.tags, b.traits.tags) &&
    sameList(a.traits.capabilities, b.traits.capabilities) &&
    sameList(a.traits.resources, b.traits.resources)
  );
}

function sameList(a: readonly string[], b: readonly string[]): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** The traits that are fields of an entry. Version and ports are derived from other fields. */
type DirectTraits = Omit<SharedTraits, "version" | "ports">;

const NOTHING: readonly string[] = [];
const LIST_END = 0x2c;
const ROW_BITS = 8;
const ROW_SLOTS = 1 << ROW_BITS;

/**
 * Interns traits and short strings by content. Sharing has no other effect than saving memory. Traits are in a table of fixed size, which keeps the
 * newer of two traits with the same hash. Strings are in a map that is emptied when it is full. The unique tags of a hostile client can therefore use
 * no more memory than this.
 */
export class TraitsPool {
  readonly #maxSize: number;
  /** A row of slots is created when it is first used: most pools contain few items, and all slots together need 512 KiB and 0.3 ms. */
  readonly #rows: ((SharedTraits | undefined)[] | undefined)[];
  readonly #texts = new Map<string, string>();

  /** Stores at most `maxSize` traits, a power of two, and the same number of strings. */
  constructor(maxSize = 65_536) {
    assert(maxSize > 0 && (maxSize & (maxSize - 1)) === 0, "the traits pool size is not a power of two", { maxSize });
    this.#maxSize = maxSize;
    this.#rows = new Array<undefined>(Math.ceil(maxSize / ROW_SLOTS)).fill(undefined);
  }

  /** Returns the number of stored traits and strings, at most twice the given size. Cost: one step per slot of the rows in use. */
  size(): number {
    let traits = 0;
    for (const row of this.#rows) for (const slot of row ?? []) if (slot !== undefined) traits++;
    return traits + this.#texts.size;
  }

  /** Returns the shared copy of these traits, which is created if needed. The lists that are passed in are not kept. */
  intern(fields: DirectTraits, version: string, ports: readonly string[]): SharedTraits {
    // HOT: runs for each stamped entry; a string key for a Map would cost 0.4 µs more than hashing and comparing the parts (bench/codec.ts).
    const slot = hashOf(fields, version, ports) & (this.#maxSize - 1);
    const row = (this.#rows[slot >> ROW_BITS] ??= new Array<undefined>(Math.min(this.#maxSize, ROW_SLOTS)).fill(undefined));
    const known = row[slot & (ROW_SLOTS - 1)];
    if (known !== undefined && known.version === version && sameTraits(known, fields) && sameList(known.ports, ports)) return known;
    const traits: SharedTraits = {
      tags: this.#list(fields.tags),
      capabilities: this.#list(fields.capabilities),
      resources: this.#list(fields.resources),
      ports: ports === PLAIN_PORTS || ports === NO_PORTS ? ports : this.#list(ports),
      clusterId: this.text(fields.clusterId),
      region: this.text(fields.region),
      zone: this.text(fields.zone),
      nodeId: this.text(fields.nodeId),
      tenantId: this.text(fields.tenantId),
      registeredByAdmin: fields.registeredByAdmin,
      version: version === "" ? "" : this.text(version),
    };
    row[slot & (ROW_SLOTS - 1)] = traits;
    return traits;
  }

  /** Returns the shared copy of a string. Used for namespaces and names, which many keys repeat. */
  text(text: string): string {
    const known = this.#texts.get(text);
    if (known !== undefined) return known;
    if (this.#texts.size >= this.#maxSize) this.#texts.clear();
    this.#texts.set(text, text);
    return text;
  }

  #list(items: readonly string[]): readonly string[] {
    return items.length === 0 ? NOTHING : items.map((item) => this.text(item));
  }
}

/** Compares traits without versions and ports. */
function sameTraits(a: SharedTraits, b: DirectTraits): boolean {
  return (
    a.clusterId === b.clusterId &&
    a.region === b.region &&
    a.zone === b.zone &&
    a.nodeId === b.nodeId &&
    a.tenantId === b.tenantId &&
    a.registeredByAdmin === b.registeredByAdmin &&
    sameList(a.tags, b.tags) &&
    sameList(a.capabilities, b.capabilities) &&
    sameList(a.resources, b.resources)
  );
}

/** Hashes traits. Of the ids, only node, zone and tenant are hashed, because two entries whose other ids differ also differ in one of these. */
function hashOf(fields: DirectTraits, version: string, ports: readonly string[]): number {
  let hash = hashText(hashText(0, fields.nodeId), fields.zone);
  hash = hashText(hash, fields.tenantId);
  hash = hashList(hash, fields.tags);
  hash = hashList(hash, fields.capabilities);
  hash = hashList(hash, fields.resources);
  hash = hashList(hash, ports);
  hash = hashText(hash, version);
  hash = Math.imul(hash ^ (hash >>> 15), 0x85ebca6b);
  return (hash ^ (hash >>> 13)) >>> 0;
}

function hashList(start: number, items: readonly string[]): number {
  let hash = start;
  for (let i = 0; i < items.length; i++) hash = hashText(hash, items[i] ?? "");
  return Math.imul(hash, 31) ^ LIST_END;
}

function hashText(start: number, text: string): number {
  let hash = start;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash, 31) + text.charCodeAt(i);
  return Math.imul(hash, 31);
}

/** The traits of a tombstone that was decoded from its record, which contains no filterable fields. */
export const NO_TRAITS: SharedTraits = {
  tags: NOTHING,
  capabilities: NOTHING,
  resources: NOTHING,
  ports: NOTHING,
  clusterId: "",
  region: "",
  zone: "",
  nodeId: "",
  tenantId: "",
  registeredByAdmin: false,
  version: "",
};
