/** Quotas of the registrar: a request is checked as a whole, and staged records count before they are visible. */
import { checksOf } from "../../catalog/entry/checks.ts";
import type { StampedEntry } from "../../catalog/entry/codec.ts";
import { hasNewerOrder } from "../../catalog/record/maintenance.ts";
import { BODY, type CatalogRecord, type KeyText } from "../../catalog/record/record.ts";
import { newestOrders } from "../../catalog/replica/orders.ts";
import type { Replica } from "../../catalog/replica/replica.ts";
import { hiddenOrphanOf, isOfKeysCluster, winnerOf } from "../../catalog/replica/view.ts";
import { CAUSE, causeOf } from "../../catalog/watch/cause.ts";
import type { Caller } from "../../policy/identity/caller.ts";
import type { Held, Quotas } from "../../policy/limits/quotas.ts";

/** The live record of a key, staged or held. It counts even if the owner rule hides it, because its principal still has it. */
export function currentRecord(replica: Replica, key: KeyText): CatalogRecord | undefined {
  const staged = stagedRecord(replica, key);
  return staged === undefined ? winnerOf(replica.records(key)) : liveOf(staged);
}

/**
 * The record that an unregister of the key ends: the live one, else the one that would come back with a node that has been away too long.
 */
export function endableRecord(replica: Replica, key: KeyText): CatalogRecord | undefined {
  const staged = stagedRecord(replica, key);
  if (staged !== undefined) return liveOf(staged);
  const records = replica.records(key);
  return winnerOf(records) ?? hiddenOrphanOf(records);
}

/** The tombstone of a key without an entry: the one that has the newest orders about its maintenance, else the newest of the key's cluster. */
export function lastRemoval(replica: Replica, key: KeyText): CatalogRecord | undefined {
  const own = replica.own(key);
  const records = [...(own === undefined ? [] : [own]), ...replica.records(key)].filter(isOfKeysCluster);
  const orders = newestOrders(replica, key);
  return (orders && records.find((record) => !hasNewerOrder(orders, record.orders))) ?? records.find(({ body }) => body !== BODY.ENTRY);
}

/** The tombstone of a key of which readers were told that it expired. Undefined if it ended in another way, and where there is an entry or something is staged. */
export function expiredRecord(replica: Replica, key: KeyText): CatalogRecord | undefined {
  if (stagedRecord(replica, key) !== undefined || endableRecord(replica, key) !== undefined) return undefined;
  const [any] = replica.records(key);
  if (any === undefined || any.body === BODY.ENTRY || causeOf(any) !== CAUSE.EXPIRED) return undefined;
  const own = replica.own(key);
  return own !== undefined && own.body !== BODY.ENTRY ? own : any;
}

function stagedRecord(replica: Replica, key: KeyText): CatalogRecord | undefined {
  const own = replica.own(key);
  return own?.revision === 0 ? own : undefined;
}

function liveOf(staged: CatalogRecord): CatalogRecord | undefined {
  return staged.body === BODY.ENTRY ? staged : undefined;
}

export class QuotaGate {
  /** What is staged becomes visible, or is taken back, there. */
  readonly quotas: Quotas;
  readonly #replica: Replica;

  constructor(replica: Replica, quotas: Quotas) {
    this.#replica = replica;
    this.quotas = quotas;
  }

  /** Throws `quota_exceeded` if the stamped entries together would add more than is left. */
  check(caller: Caller, stampedEntries: readonly StampedEntry[]): void {
    const { quotas } = this;
    if (!quotas.isSet) return;
    quotas.check(
      caller,
      stampedEntries.map((stamped) => ({ before: this.#held(stamped.key), after: weighedStamped(stamped) })),
    );
  }

  /** The next staged record replaces the current one of the key, or removes it if `after` is absent. */
  stage(key: KeyText, after: StampedEntry | undefined): void {
    const { quotas } = this;
    if (!quotas.isSet) return;
    const change = { before: this.#held(key), after: after === undefined ? undefined : weighedStamped(after) };
    quotas.stage(this.#replica.lastSeq + 1, change);
  }

  #held(key: KeyText): Held | undefined {
    // Hidden records do not count against quotas.
    const staged = stagedRecord(this.#replica, key);
    const current = staged === undefined ? this.#replica.view(key) : liveOf(staged);
    return current === undefined ? undefined : weighed(current, current.contentBytes, this.#checkCount(current));
  }

  /** Only entries of this node count, because each node runs the checks of its own entries. */
  #checkCount(record: CatalogRecord): number {
    const { slab } = this.#replica;
    const own = this.#replica.own(record.key);
    return own === record && own.mayHaveChecks ? checksOf(slab.view(own.at, own.sizeBytes)).checks.length : 0;
  }
}

function weighedStamped(stamped: StampedEntry): Held {
  return weighed(stamped, stamped.content.length, stamped.hasChecks ? checksOf(stamped.content).checks.length : 0);
}

function weighed(of: Pick<CatalogRecord, "namespace" | "traits">, bytes: number, checks: number): Held {
  return { namespace: of.namespace, tenant: of.traits.tenantId, bytes, checks };
}
