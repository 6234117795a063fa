/** What a replica should know, decided naively: a plain list of records, scanned in full for every question. */
import { type EntryFilter, matches, type NodeLocality } from "../../src/catalog/query/filter.ts";
import { BODY, type CatalogRecord, deltaId, type KeyText, type OriginStatus, viewHealth } from "../../src/catalog/record/record.ts";
import { sha256 } from "../../src/lib/crypto.ts";

export class Model {
  records: CatalogRecord[] = [];
  readonly lifecycle = new Map<string, OriginStatus>();
  /** What an origin wrote up to here stays hidden. Which marks there are is the replica's own affair. */
  markOf: (originId: string) => number = () => 0;

  /** The newest record of each origin and key is kept. */
  apply(record: CatalogRecord): void {
    const held = this.records.find((r) => r.key === record.key && r.origin.id === record.origin.id);
    if (held !== undefined && held.seq >= record.seq) return;
    this.records = [...this.records.filter((r) => r !== held), plain(record)];
  }

  /** Takes records away: collected tombstones, a forgotten origin's. */
  drop(isGone: (record: CatalogRecord) => boolean): void {
    this.records = this.records.filter((record) => !isGone(record));
  }

  /** A whole transfer did not list these: they end under the number they have. */
  withdraw(isGone: (record: CatalogRecord) => boolean): void {
    this.records = this.records.map((r) => (isGone(r) && r.body === BODY.ENTRY ? { ...r, body: BODY.EXPIRED, sizeBytes: 0 } : r));
  }

  lifeOf(originId: string): OriginStatus {
    return this.lifecycle.get(originId) ?? "live";
  }

  /** The live record with the highest stamp that no `unregistered` tombstone with a higher stamp hides, nor, of a node that lives on in another generation, one of that. */
  view(key: KeyText): CatalogRecord | undefined {
    const all = this.records.filter((r) => r.key === key);
    const shown = all.filter(
      (r) =>
        r.body === BODY.ENTRY &&
        this.lifeOf(r.origin.id) !== "hidden" &&
        r.seq > this.markOf(r.origin.id) &&
        !all.some((other) => (other.body === BODY.UNREGISTERED ? other.hlc : (other.unregisteredHlc ?? 0)) > r.hlc) &&
        !(
          this.lifeOf(r.origin.id) !== "live" && all.some((other) => other.body !== BODY.ENTRY && other.hlc >= r.hlc && isEarlier(r, other))
        ),
    );
    const [best] = shown.toSorted((a, b) => b.hlc - a.hlc || (a.origin.id < b.origin.id ? 1 : -1));
    return best === undefined ? undefined : { ...best, origin: { ...best.origin, life: this.lifeOf(best.origin.id) } };
  }

  views(): readonly CatalogRecord[] {
    const keys = [...new Set(this.records.map((r) => r.key))].toSorted();
    return keys.flatMap((key) => this.view(key) ?? []);
  }

  /** What a reader of the filter should hold: one line a key, sorted. */
  answer(filter: EntryFilter, self: NodeLocality, allowed: (namespace: string) => boolean): readonly string[] {
    const wanted = this.views().filter((record) => allowed(record.namespace) && matches(filter, record, self));
    return wanted.map((record) => lineOf(record.key, record));
  }

  digest(covers: (namespace: string) => boolean): { readonly count: number; readonly digest: bigint } {
    const ids = this.views().flatMap((record) => (covers(record.namespace) ? [deltaId(record)] : []));
    const sum = ids.reduce((total, id) => total + BigInt(`0x${Buffer.from(sha256(id).subarray(0, 8)).toString("hex")}`), 0n);
    return { count: ids.length, digest: BigInt.asUintN(64, sum) };
  }
}

function isEarlier({ origin }: CatalogRecord, { origin: later }: CatalogRecord): boolean {
  return origin.nodeId === later.nodeId && origin.generation < later.generation;
}

/** What a reader can tell of an entry it was sent. */
export function lineOf(key: string, record: CatalogRecord): string {
  return `${key.replaceAll("\0", "|")} ${deltaId(record)} ${viewHealth(record)}`;
}

/** A copy of what a record says, apart from this node's bookkeeping. */
export function plain(record: CatalogRecord): CatalogRecord {
  const { key, namespace, name, kind, seq, hlc, firstSeq, filterSeq, body, scope, reach, health, traits, principal, sizeBytes } = record;
  const origin = { id: record.origin.id, nodeId: record.origin.nodeId, generation: record.origin.generation, life: "live" as const };
  const said = { key, namespace, name, kind, origin, seq, hlc, firstSeq, filterSeq, body, scope, reach, health, traits, principal };
  return { ...said, unregisteredHlc: record.unregisteredHlc, sizeBytes, revision: 0, at: 0, contentBytes: 0 };
}
