/** Compares a replica with its model in everything that can be asked of it. */
import { expect } from "vitest";
import { BODY, type CatalogRecord, deltaId } from "../../src/catalog/record/record.ts";
import type { NamespaceDigests, ViewDigest } from "../../src/catalog/replica/namespace-digest.ts";
import { type FabricComponent, KEYS, NAMESPACES } from "./mesh.ts";
import { plain } from "./model.ts";

export function expectAsModel(node: FabricComponent): void {
  const { replica, model } = node;
  for (const key of KEYS) {
    const seen = replica.view(key);
    const want = model.view(key);
    expect(seen && said(seen), `view of ${JSON.stringify(key)}`).toEqual(want && said(want));
  }
  expect(listed(node).map(said)).toEqual(model.views().map(said));
  expect(replica.lookup.size).toBe(model.views().length);
  expectOrder(node);
  expect(replica.tombstoneCount).toBe(model.records.filter((r) => r.body !== BODY.ENTRY).length);
  const held = [...model.records, ...replica.staged].reduce((sum, r) => sum + Math.ceil(r.sizeBytes / 16) * 16, 0);
  expect(replica.slab.stats().usedBytes, "slab bytes").toBe(held);
  for (const namespace of NAMESPACES) {
    const sum = sumOf(replica.digests, namespace, listed(node));
    expect(sum, `digest of ${namespace}`).toEqual(model.digest((n) => n === namespace));
  }
}

/** A namespace's sum, from these records when nobody asked before. */
export function sumOf(digests: NamespaceDigests, namespace: string, records: readonly CatalogRecord[]): ViewDigest {
  const rest = records.filter((record) => record.namespace === namespace);
  if (!digests.isTracked(namespace)) digests.fill(namespace, Number.POSITIVE_INFINITY, () => () => rest.shift());
  return digests.find(namespace) ?? { count: 0, digest: 0n };
}

/** Every record once in order of revision, and once in its origin's log in order of seq. */
function expectOrder({ replica, model }: FabricComponent): void {
  const byRevision: string[] = [];
  let last = 0;
  replica.changesSince(0, (stored, revision) => {
    expect(revision).toBeGreaterThan(last);
    last = revision;
    byRevision.push(`${stored.key} ${deltaId(stored)}`);
    return true;
  });
  expect(last).toBeLessThanOrEqual(replica.revision);
  const want = model.records.map((r) => `${r.key} ${deltaId(r)}`).toSorted();
  expect(byRevision.toSorted()).toEqual(want);
  const bySeq: string[] = [];
  for (const origin of replica.origins.values()) {
    let lastSeq = 0;
    for (const stored of origin.log.list()) {
      expect(stored.seq).toBeGreaterThan(lastSeq);
      lastSeq = stored.seq;
      expect(stored.firstSeq).toBeLessThanOrEqual(stored.seq);
      expect(stored.reach).toBeGreaterThanOrEqual(stored.scope);
      bySeq.push(`${stored.key} ${deltaId(stored)}`);
    }
  }
  expect(bySeq.toSorted()).toEqual(want);
}

export function listed({ replica }: FabricComponent): readonly CatalogRecord[] {
  const records: CatalogRecord[] = [];
  const cursor = replica.lookup.cursor();
  for (let record = cursor.next(); record !== undefined; record = cursor.next()) records.push(record);
  return records;
}

/** What two replicas must agree on. A tombstone's other fields are not kept. */
export function said(record: CatalogRecord): unknown {
  const { origin, key, seq, hlc, body, firstSeq, filterSeq, reach } = record;
  const head = { key, origin: origin.id, life: origin.life, seq, hlc, body, firstSeq, filterSeq, reach };
  return body === BODY.ENTRY ? { ...plain(record), ...head } : head;
}
