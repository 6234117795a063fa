/** The names that a DNS process received from its resolver, for a while: their entries for lookups, within a bound of bytes. The oldest goes first. */
import type { EntryStamper } from "../../catalog/entry/codec.ts";
import type { InstanceName } from "../../catalog/query/instances.ts";
import { Lookup } from "../../catalog/query/lookup.ts";
import type { CatalogRecord } from "../../catalog/record/record.ts";
import type { Slab } from "../../catalog/record/slab.ts";
import { originOf, RECORD_BYTES, recordOf } from "../../resolver/fetching/fetched.ts";
import type { SentName } from "./process-exchange.ts";

export interface ReceivedNamesParts {
  /** Answers are made from one. */
  readonly slab: Slab;
  readonly stamper: Pick<EntryStamper, "entryOfStored">;
  /** One name more may be kept. */
  readonly maxBytes: number;
}

export interface ReceivedName {
  /** Of all that were put here. */
  readonly number: number;
  readonly records: readonly CatalogRecord[];
  readonly ageMs: number;
  readonly leftMs: number;
  readonly arrivedMonoMs: number;
  readonly sizeBytes: number;
}

export class ReceivedNames {
  readonly lookup = new Lookup();
  sizeBytes = 0;
  readonly #parts: ReceivedNamesParts;
  readonly #kept = new Map<string, ReceivedName>();
  #putCount = 0;

  constructor(parts: ReceivedNamesParts) {
    this.#parts = parts;
  }

  find(name: InstanceName): ReceivedName | undefined {
    return this.#kept.get(textOf(name));
  }

  put(name: InstanceName, { entries, ageMs, leftMs }: SentName, arrivedMonoMs: number): void {
    const { slab, stamper, maxBytes } = this.#parts;
    const key = textOf(name);
    this.#drop(key);
    const records = entries.map(({ bytes, isOrphaned, nodeId }) => {
      const origin = originOf(nodeId, isOrphaned ? "orphaned" : "live");
      const record = recordOf(stamper.entryOfStored(bytes), { origin, at: slab.put(bytes), sizeBytes: bytes.length });
      this.lookup.put(record);
      return record;
    });
    const sizeBytes = records.reduce((sum, record) => sum + record.sizeBytes + RECORD_BYTES, RECORD_BYTES + key.length);
    this.#putCount += 1;
    this.#kept.set(key, { number: this.#putCount, records, ageMs, leftMs, arrivedMonoMs, sizeBytes });
    this.sizeBytes += sizeBytes;
    for (const oldest of this.#kept.keys()) {
      if (this.sizeBytes <= maxBytes || oldest === key) return;
      this.#drop(oldest);
    }
  }

  #drop(key: string): void {
    const kept = this.#kept.get(key);
    if (kept === undefined) return;
    this.#kept.delete(key);
    this.sizeBytes -= kept.sizeBytes;
    for (const record of kept.records) {
      this.lookup.remove(record);
      this.#parts.slab.free(record.at, record.sizeBytes);
    }
  }
}

function textOf({ namespace, name, kind }: InstanceName): string {
  return `${namespace}\0${name}\0${kind}`;
}
