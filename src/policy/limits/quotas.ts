/**
 * Quotas: limits on the entries, bytes, watches and checks of a namespace and of a tenant (semantics.md, Policy). This module counts the entries that
 * are visible on this node, and the staged entries that are not on disk yet. Lowering a quota does not remove entries, but further additions are
 * refused.
 */

import { isControlNamespace } from "../../catalog/entry/names.ts";
import type { NamespaceUsage } from "../../catalog/replica/namespace-digest.ts";
import { WaymarkError } from "../../lib/errors.ts";
import type { Caller } from "../identity/caller.ts";
import type { NamespaceQuota } from "../set/rules.ts";
import { type LimitRefusal, once } from "./rate-limits.ts";

/** The same limits as in a rule's quota. For a tenant, it may also limit the number of checks that this node runs for the tenant's entries. */
export interface HolderQuota extends NamespaceQuota {
  readonly checks?: number;
}

export type QuotaBound = keyof HolderQuota;
export type QuotaHolder = "namespace" | "tenant";

/** The properties of an entry that are relevant to quotas. */
export interface QuotaEntry {
  readonly namespace: string;
  /** Empty if the entry does not count toward any tenant. */
  readonly tenant: string;
  readonly bytes: number;
  /** Number of the entry's checks that this node runs. */
  readonly checks: number;
}

/** A change by which an entry is put, replaced or removed. */
export interface QuotaChange {
  readonly before: QuotaEntry | undefined;
  readonly after: QuotaEntry | undefined;
}

export interface QuotaPorts {
  /** Returns the limits for a namespace and for a tenant; 0 means no limit. */
  namespaceQuota(namespace: string): NamespaceQuota;
  tenantQuota(tenant: string): HolderQuota;
  /** Returns how much the visible entries on this node use, as counted by the catalog. */
  namespaceUsage(namespace: string): NamespaceUsage;
  tenantUsage(tenant: string): NamespaceUsage & { readonly checks?: number };
  /** Whether a caller may see a namespace. If not, error messages for this caller do not contain the namespace's usage. */
  sees(caller: Caller, namespace: string): boolean;
  /** Whether any quota is set. If not, nothing is checked or counted. */
  isSet(): boolean;
  onRefusal(refusal: LimitRefusal, holder: QuotaHolder, bound: QuotaBound): void;
}

/** Entries, bytes and checks that are added to a holder. */
interface QuotaSum {
  entries: number;
  bytes: number;
  checks: number;
}

interface StagedChange {
  readonly seq: number;
  readonly change: QuotaChange;
}

/** Staged entries and bytes, and open watches, for all holders of one kind. Holders with zero usage are not stored. */
class HolderLedger {
  readonly staged = new Map<string, QuotaSum>();
  readonly watches = new Map<string, number>();

  add(name: string, held: QuotaEntry, sign: 1 | -1): void {
    if (name === "") return;
    const sum = addTo(this.staged, name, held, sign);
    if (sum.entries === 0 && sum.bytes === 0 && sum.checks === 0) this.staged.delete(name);
  }

  watch(name: string, change: 1 | -1): void {
    const open = (this.watches.get(name) ?? 0) + change;
    if (open > 0) this.watches.set(name, open);
    else this.watches.delete(name);
  }
}

export class NamespaceQuotas {
  readonly #ports: QuotaPorts;
  readonly #namespaces = new HolderLedger();
  readonly #tenants = new HolderLedger();
  /** The changes that are staged and not yet visible, oldest first. */
  #staged: StagedChange[] = [];

  constructor(ports: QuotaPorts) {
    this.#ports = ports;
  }

  /** Whether any quota is set. If not, changes need not be reported to this object. */
  get isSet(): boolean {
    return this.#ports.isSet();
  }

  /** Number of changes that are staged and not yet visible. */
  get stagedCount(): number {
    return this.#staged.length;
  }

  /** Checks all additions of a request together, before any of them is staged. Throws `quota_exceeded` if the additions exceed a quota. */
  check(caller: Caller, changes: readonly QuotaChange[]): void {
    const namespaces = new Map<string, QuotaSum>();
    const tenants = new Map<string, QuotaSum>();
    for (const { before, after } of changes) {
      count(namespaces, tenants, before, -1);
      count(namespaces, tenants, after, 1);
    }
    for (const [name, sum] of namespaces) this.#checkSum(caller, { holder: "namespace", name, sum });
    for (const [name, sum] of tenants) this.#checkSum(caller, { holder: "tenant", name, sum });
  }

  /** Counts a change that has received its seq and is being written to the journal. */
  stage(seq: number, change: QuotaChange): void {
    this.#staged.push({ seq, change });
    this.#apply(change, 1);
  }

  /** Stops counting the changes up to this seq, because they are visible and the catalog counts them. */
  commit(through: number): void {
    let done = 0;
    for (const { seq, change } of this.#staged) {
      if (seq > through) break;
      done += 1;
      this.#apply(change, -1);
    }
    if (done > 0) this.#staged.splice(0, done);
    if (this.#staged.length === 0) this.#clear();
  }

  /** Stops counting the changes above this seq, because they were undone. */
  abortAfter(seq: number): void {
    for (let last = this.#staged.at(-1); last !== undefined && last.seq > seq; last = this.#staged.at(-1)) {
      this.#apply(last.change, -1);
      this.#staged.pop();
    }
    if (this.#staged.length === 0) this.#clear();
  }

  /** Stops counting all staged changes, because they were undone. */
  abort(): void {
    this.#staged = [];
    this.#clear();
  }

  /**
   * Counts an open watch until the returned function is called. `namespace` may be a prefix, which is counted like a namespace, or empty
   * for a watch of all namespaces. Throws `quota_exceeded`.
   */
  openWatch(caller: Caller, namespace: string): () => void {
    const { tenant } = caller;
    const isCounted = namespace !== "" && !isControlNamespace(namespace);
    if (isCounted) this.#checkWatches(caller, { holder: "namespace", name: namespace, namespace });
    if (tenant !== "") this.#checkWatches(caller, { holder: "tenant", name: tenant, namespace });
    if (isCounted) this.#namespaces.watch(namespace, 1);
    if (tenant !== "") this.#tenants.watch(tenant, 1);
    return once(() => {
      if (isCounted) this.#namespaces.watch(namespace, -1);
      if (tenant !== "") this.#tenants.watch(tenant, -1);
    });
  }

  /** Returns how many watches a holder has open. */
  watchCount(holder: QuotaHolder, name: string): number {
    return this.#ledger(holder).watches.get(name) ?? 0;
  }

  #checkSum(caller: Caller, { holder, name, sum }: { holder: QuotaHolder; name: string; sum: QuotaSum }): void {
    const quota = this.#quota(holder, name);
    const maxChecks = quota.checks ?? 0;
    if (quota.entries === 0 && quota.bytes === 0 && maxChecks === 0) return;
    const held: NamespaceUsage & { readonly checks?: number } =
      holder === "namespace" ? this.#ports.namespaceUsage(name) : this.#ports.tenantUsage(name);
    const staged = this.#ledger(holder).staged.get(name);
    const refuse = (bound: QuotaBound, current: number, added: number) => {
      const namespace = holder === "namespace" ? name : "";
      return this.#refused({ caller, holder, name, bound, current, added, max: quota[bound] ?? 0, action: "write", namespace });
    };
    const entries = held.entries + (staged?.entries ?? 0);
    if (sum.entries > 0 && quota.entries > 0 && entries + sum.entries > quota.entries) throw refuse("entries", entries, sum.entries);
    const bytes = held.bytes + (staged?.bytes ?? 0);
    if (sum.bytes > 0 && quota.bytes > 0 && bytes + sum.bytes > quota.bytes) throw refuse("bytes", bytes, sum.bytes);
    const checks = (held.checks ?? 0) + (staged?.checks ?? 0);
    if (sum.checks > 0 && maxChecks > 0 && checks + sum.checks > maxChecks) throw refuse("checks", checks, sum.checks);
  }

  #checkWatches(caller: Caller, of: { holder: QuotaHolder; name: string; namespace: string }): void {
    const max = this.#quota(of.holder, of.name).watches;
    const current = this.watchCount(of.holder, of.name);
    if (max > 0 && current >= max) throw this.#refused({ ...of, caller, bound: "watches", current, added: 1, max, action: "watch" });
  }

  #quota(holder: QuotaHolder, name: string): HolderQuota {
    return holder === "namespace" ? this.#ports.namespaceQuota(name) : this.#ports.tenantQuota(name);
  }

  #ledger(holder: QuotaHolder): HolderLedger {
    return holder === "namespace" ? this.#namespaces : this.#tenants;
  }

  #apply({ before, after }: QuotaChange, sign: 1 | -1): void {
    const undo = sign === 1 ? -1 : 1;
    for (const [held, direction] of [[before, undo] as const, [after, sign] as const]) {
      if (held === undefined) continue;
      this.#namespaces.add(held.namespace, held, direction);
      this.#tenants.add(held.tenant, held, direction);
    }
  }

  #clear(): void {
    this.#namespaces.staged.clear();
    this.#tenants.staged.clear();
  }

  #refused(over: {
    caller: Caller;
    holder: QuotaHolder;
    name: string;
    bound: QuotaBound;
    current: number;
    added: number;
    max: number;
    action: "write" | "watch";
    namespace: string;
  }): WaymarkError {
    const { caller, holder, name, bound, current, added, max, action, namespace } = over;
    const detail = `${holder} ${JSON.stringify(name)} has ${current} of at most ${max} ${bound}`;
    const mayShowUsage = holder === "tenant" || this.#ports.sees(caller, name);
    this.#ports.onRefusal({ caller, action, namespace, reason: "quota_exceeded", detail }, holder, bound);
    const metadata = { [holder]: name, bound, max: `${max}`, ...(mayShowUsage && { current: `${current}` }) };
    const text = mayShowUsage ? detail : `${holder} ${JSON.stringify(name)} may have at most ${max} ${bound}`;
    return new WaymarkError("quota_exceeded", `${text}; this request would add ${added}: ${remedy(holder, bound)}`, { metadata });
  }
}

const WAYS_TO_FREE: Readonly<Record<QuotaBound, string>> = {
  entries: "unregister entries",
  bytes: "unregister entries",
  watches: "close watches",
  checks: "remove checks",
};

function remedy(holder: QuotaHolder, bound: QuotaBound): string {
  const setting = `quotas.${holder}_${bound}`;
  const limit = holder === "tenant" ? setting : `the quota in the policy rule of the namespace, or ${setting} if the rule has none`;
  return `${WAYS_TO_FREE[bound]}, or raise ${limit}`;
}

/** Adds an entry to the sums of a request. The control plane's own namespaces have no quota. */
function count(namespaces: Map<string, QuotaSum>, tenants: Map<string, QuotaSum>, held: QuotaEntry | undefined, sign: 1 | -1): void {
  if (held === undefined || isControlNamespace(held.namespace)) return;
  addTo(namespaces, held.namespace, held, sign);
  if (held.tenant !== "") addTo(tenants, held.tenant, held, sign);
}

function addTo(sums: Map<string, QuotaSum>, name: string, { bytes, checks }: QuotaEntry, sign: 1 | -1): QuotaSum {
  const sum = sums.get(name) ?? { entries: 0, bytes: 0, checks: 0 };
  sum.entries += sign;
  sum.bytes += sign * bytes;
  sum.checks += sign * checks;
  sums.set(name, sum);
  return sum;
}
