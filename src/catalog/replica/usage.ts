/** The usage of namespaces and tenants among visible records: entries, and bytes of content. It follows each change. */
import { KeyShards } from "../key-shards.ts";
import type { Traits } from "../record/record.ts";

/** Number of visible entries, and their bytes without load and times. */
export interface Usage {
  readonly entries: number;
  readonly bytes: number;
}

interface Sum {
  entries: number;
  bytes: number;
}

const NOTHING: Usage = { entries: 0, bytes: 0 };

/** The fields of an entry that count. */
export interface Weight {
  readonly traits: Pick<Traits, "tenantId">;
  readonly contentBytes: number;
}

export class UsageTable {
  readonly #namespaces = new KeyShards<string, Sum>();
  readonly #tenants = new KeyShards<string, Sum>();

  ofNamespace(namespace: string): Usage {
    return this.#namespaces.get(namespace) ?? NOTHING;
  }

  /** Usage of entries that callers of this tenant registered. */
  ofTenant(tenant: string): Usage {
    return this.#tenants.get(tenant) ?? NOTHING;
  }

  // HOT: once a change; two look-ups of interned names.
  enter(namespace: string, { traits, contentBytes }: Weight): void {
    add(this.#namespaces, namespace, contentBytes);
    if (traits.tenantId !== "") add(this.#tenants, traits.tenantId, contentBytes);
  }

  /** `weight` must be the one with which it entered. */
  leave(namespace: string, { traits, contentBytes }: Weight): void {
    subtract(this.#namespaces, namespace, contentBytes);
    if (traits.tenantId !== "") subtract(this.#tenants, traits.tenantId, contentBytes);
  }
}

function add(sums: KeyShards<string, Sum>, name: string, bytes: number): void {
  const sum = sums.get(name);
  if (sum === undefined) sums.replace(name, { entries: 1, bytes });
  else {
    sum.entries += 1;
    sum.bytes += bytes;
  }
}

function subtract(sums: KeyShards<string, Sum>, name: string, bytes: number): void {
  const sum = sums.get(name);
  if (sum === undefined) return;
  sum.entries -= 1;
  sum.bytes -= bytes;
  if (sum.entries === 0) sums.replace(name, undefined);
}
