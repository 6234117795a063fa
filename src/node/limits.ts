/** Limits and quotas of a node. The settings and the policy set them. Metrics count refusals, and the audit log records them. */

import { isNamespace, PROTOCOL_BOUNDS } from "../catalog/entry/names.ts";
import type { EntryIndex } from "../catalog/query/entry-index.ts";
import type { Settings } from "../config/settings.ts";
import { ResponseRates } from "../dns/server/response-rate.ts";
import type { HashKey } from "../lib/buckets/keyed-hash.ts";
import { NEVER, type Time } from "../lib/machine.ts";
import type { Metrics } from "../lib/metrics/metrics.ts";
import { type AuditSink, RefusalAudit, type RefusedAct } from "../policy/audit/record.ts";
import { type Caller, type RequestedViewer, viewerOf } from "../policy/identity/caller.ts";
import type { WorkerWatches } from "../policy/limits/host-watches.ts";
import { type HolderQuota, NamespaceQuotas, type QuotaBound, type QuotaHolder } from "../policy/limits/quotas.ts";
import { areLimitsSet, type CallCost, type LimitRefusal, RateLimiter } from "../policy/limits/rate-limits.ts";
import { type MakeBuckets, type SharedLimits, shareLimits } from "../policy/limits/shared-limits.ts";
import type { NamespaceQuota } from "../policy/set/rules.ts";
import type { Policy, PolicySource } from "../policy/set/verdict.ts";
import type { CallAdmission } from "../services/admission.ts";
import { reasonLabel } from "./access-log.ts";

export interface NodeLimitsOptions {
  readonly settings: Pick<Settings, "limits" | "node" | "quotas" | "tenants">;
  readonly metrics: Metrics;
  readonly policies: PolicySource;
  /** The visible entries, to which quotas apply. */
  readonly lookup: EntryIndex;
  /** Number of checks that this node runs for a tenant's entries. Present on nodes that accept registrations. */
  readonly tenantChecks?: (tenant: string) => number;
  readonly now: () => Time;
  /** Audit sink that records refusals. Refusals are also counted in metrics. */
  readonly audit?: Pick<AuditSink, "record"> | undefined;
  /** Present when several threads share the limits: `sharedBuckets` of the `SharedLimits` that `nodeSharedLimits` returned. */
  readonly makeBuckets?: MakeBuckets | undefined;
  /** Present in a worker: sends a request to the main thread, which counts the open watches of all workers. */
  readonly watches?: Pick<WorkerWatches, "open"> | undefined;
}

export class NodeLimits {
  readonly #options: NodeLimitsOptions;
  /** Undefined if no limit is set. */
  readonly #rates: RateLimiter | undefined;
  /** The same limits for DNS queries over TCP. */
  readonly #dnsRates: RateLimiter | undefined;
  readonly #refusals: RefusalAudit;
  /** Whether the last used policy has quotas, as a cached result. */
  #quotaCheck: { readonly policy: Policy; readonly hasQuotas: boolean } | undefined;
  readonly #hidden = new HiddenAnswers((answers) => this.#reportHidden(answers));
  readonly #hasSettings: boolean;
  readonly quotas: NamespaceQuotas;

  constructor(options: NodeLimitsOptions) {
    const { settings, metrics, lookup, audit } = options;
    this.#options = options;
    metrics.onCollect(() => this.#hidden.reportAll(options.now()));
    this.#rates = ratesOf("calls", options, (refusal) => this.#limited(refusal));
    this.#dnsRates = ratesOf("dns", options, (refusal) => this.#limitedDns(refusal));
    this.#refusals = new RefusalAudit({ record: (event) => audit?.record(event) }, settings.limits.maxKeys);
    this.#hasSettings = Object.values(settings.quotas).some((bound) => bound > 0);
    this.quotas = new NamespaceQuotas({
      isSet: () => this.#hasSettings || this.#hasRules(),
      namespaceQuota: (namespace) => this.#namespaceQuota(namespace),
      tenantQuota: () => this.#tenantQuota,
      namespaceUsage: (namespace) => lookup.namespaceUsage(namespace),
      tenantUsage: (tenant) => ({ ...lookup.tenantUsage(tenant), checks: options.tenantChecks?.(tenant) ?? 0 }),
      sees: (caller, namespace) => this.#sees(caller, namespace),
      onRefusal: (refusal, holder, bound) => this.#full(refusal, holder, bound),
    });
  }

  /** Makes additional buckets if several threads share the limits, or returns undefined. */
  get makeBuckets(): MakeBuckets | undefined {
    return this.#options.makeBuckets;
  }

  /** Consumes one of the caller's rate-limit tokens, or throws `discovery_rate_limited`. Undefined if no limit is set. */
  get admit(): ((caller: Caller, cost: CallCost, monoMs: number) => void) | undefined {
    const rates = this.#rates;
    return rates === undefined ? undefined : (caller, cost, monoMs) => rates.admit(caller, cost, monoMs);
  }

  /**
   * Like `admit`, for DNS queries over TCP. These limits do not apply to queries over UDP, because the source address of such a query can be forged.
   */
  get admitDns(): ((caller: Caller, monoMs: number) => void) | undefined {
    const rates = this.#dnsRates;
    return rates === undefined ? undefined : (caller, monoMs) => rates.admit(caller, "read", monoMs);
  }

  /** Checks that run when the request has been read. */
  get admission(): CallAdmission {
    const rates = this.#rates;
    const { namespaceReadsPerMinute, namespaceWritesPerMinute } = this.#options.settings.limits;
    const isLimited = namespaceReadsPerMinute > 0 || namespaceWritesPerMinute > 0;
    const admitIn: CallAdmission["admitIn"] = ({ context, cost, namespaces, asked }) => {
      const { caller, time } = context;
      // The handler will refuse an invalid name. A hidden namespace does not get a bucket, because a bucket would reveal how busy the namespace is.
      const counted = namespaces.filter(
        (namespace) => isNamespace(namespace, PROTOCOL_BOUNDS) && (cost === "write" || this.#sees(this.#viewer(caller, asked), namespace)),
      );
      rates?.admitIn(counted, caller, cost, time.monoMs);
    };
    return {
      admitIn: rates !== undefined && isLimited ? admitIn : undefined,
      openWatch: (caller, namespace, asked) => {
        if (this.#options.settings.limits.watches === 0 && !this.quotas.isSet) return undefined;
        const isSeen = isNamespace(namespace, PROTOCOL_BOUNDS) && this.#sees(this.#viewer(caller, asked), namespace);
        const counted = isSeen ? namespace : "";
        return this.#options.watches === undefined ? this.openWatch(caller, counted) : this.#options.watches.open(caller, counted);
      },
    };
  }

  /**
   * Counts an open watch until the returned function is called. `namespace` is empty if the watch does not count towards the limit of a namespace.
   * Throws `discovery_rate_limited` or `quota_exceeded`.
   */
  openWatch(caller: Caller, namespace: string): () => void {
    const release = this.#rates?.openWatch(caller);
    try {
      const leave = this.quotas.openWatch(caller, namespace);
      return () => {
        release?.();
        leave();
      };
    } catch (error) {
      release?.();
      throw error;
    }
  }

  /** Records the refusals that have been counted but not yet recorded. */
  close(): void {
    this.#hidden.reportAll(this.#options.now());
    this.#refusals.close(this.#options.now());
  }

  /** Returns whether the policy has quotas. The rules of a policy are read only once. */
  #hasRules(): boolean {
    const { policy } = this.#options.policies;
    if (this.#quotaCheck?.policy !== policy) {
      const hasQuotas = policy.set?.rules.some(({ quota }) => quota.entries > 0 || quota.watches > 0 || quota.bytes > 0) ?? false;
      this.#quotaCheck = { policy, hasQuotas };
    }
    return this.#quotaCheck.hasQuotas;
  }

  /** Uses the limit from the settings if the rule does not set one. */
  #namespaceQuota(namespace: string): NamespaceQuota {
    const { namespaceEntries, namespaceWatches, namespaceBytes } = this.#options.settings.quotas;
    const own = this.#options.policies.policy.ruleOf(namespace)?.quota;
    return {
      entries: own?.entries || namespaceEntries,
      watches: own?.watches || namespaceWatches,
      bytes: own?.bytes || namespaceBytes,
    };
  }

  get #tenantQuota(): HolderQuota {
    const { tenantEntries, tenantWatches, tenantBytes, tenantChecks } = this.#options.settings.quotas;
    return { entries: tenantEntries, watches: tenantWatches, bytes: tenantBytes, checks: tenantChecks };
  }

  #viewer(caller: Caller, asked: RequestedViewer | undefined): Caller {
    return viewerOf(caller, asked, this.#options.settings.tenants.allowRequestOverride);
  }

  #sees(caller: Caller, namespace: string): boolean {
    return this.#options.policies.policy.viewer(namespace, { clusterId: caller.cluster, tenant: caller.tenant }).allowed;
  }

  #limited(refusal: LimitRefusal): void {
    this.#options.metrics.inc("discovery_rate_limited_total", { tenant: refusal.caller.tenant });
    this.note(refusal);
  }

  #limitedDns(refusal: LimitRefusal): void {
    this.#options.metrics.inc("discovery_rate_limited_total", { tenant: "" });
    this.noteDns(refusal);
  }

  #full(refusal: LimitRefusal, holder: QuotaHolder, bound: QuotaBound): void {
    this.#options.metrics.inc("waymark_quota_refusals_total", { holder, bound });
    this.note(refusal);
  }

  /** Adds a refusal to the audit log, with at most one record per second and caller. Metrics are updated elsewhere. */
  note(refusal: RefusedAct, count = 1): void {
    if (this.#options.audit === undefined) return;
    this.#refusals.note(refusal, this.#options.now(), count);
  }

  /** Records the counted refusals if a record is due. */
  tick(time: Time): void {
    this.#hidden.tick(time);
    this.#refusals.tick(time);
  }

  nextDeadlineMs(): number {
    return Math.min(this.#hidden.nextDeadlineMs(), this.#refusals.nextDeadlineMs());
  }

  /**
   * HOT: runs per DNS answer in which the policy hides entries of these namespaces. Metrics and audit log are updated at the next tick, at most once
   * per second.
   */
  noteHidden(caller: Caller, address: string, namespaces: readonly string[]): void {
    this.#hidden.note(caller, address, namespaces);
  }

  #reportHidden({ caller, address, namespaces, count }: HiddenAnswer): void {
    const { metrics, policies, settings } = this.#options;
    // The record contains the tenant but not the cluster, so the cluster is added if the view belongs to another cluster.
    const ofCluster = caller.cluster === settings.node.clusterId ? [] : [`cluster ${caller.cluster}`];
    metrics.inc("dns_policy_denials_total", {}, count);
    for (const namespace of namespaces) {
      const { allowed, reason, rule } = policies.policy.viewer(namespace, { clusterId: caller.cluster, tenant: caller.tenant });
      // The policy now in force allows the namespace. The reason why an earlier policy hid it is no longer known.
      if (allowed) continue;
      metrics.inc("discovery_policy_denials_total", { action: "query", reason: reasonLabel(reason) }, count);
      const detail = [...ofCluster, ...(rule === "" ? [] : [`rule ${rule}`])].join(", ");
      this.noteDns({ caller: { ...caller, address }, action: "query", namespace, reason, detail }, count);
    }
  }

  /** Like `note`, for DNS queries. All callers share one record per second, because a client with forged addresses can use any number of them. */
  noteDns(refusal: RefusedAct, count = 1): void {
    const { caller, detail } = refusal;
    const fullDetail = `dns, last from ${caller.address}${detail === "" ? "" : `: ${detail}`}`;
    this.note({ ...refusal, caller: { ...caller, address: "" }, detail: fullDetail }, count);
  }
}

type RatesOptions = Pick<NodeLimitsOptions, "makeBuckets"> & { readonly settings: Pick<Settings, "limits"> };

function ratesOf(
  of: "calls" | "dns",
  { settings, makeBuckets }: RatesOptions,
  onRefusal: (refusal: LimitRefusal) => void,
): RateLimiter | undefined {
  if (!areLimitsSet(settings.limits)) return undefined;
  return new RateLimiter(settings.limits, onRefusal, makeBuckets && ((sort, options) => makeBuckets(`${of} ${sort}`, options)));
}

/** Makes the limits that the main thread shares with all threads that serve calls and DNS queries. The key of the hash function is random. */
export function nodeSharedLimits(settings: Pick<Settings, "dns" | "limits">, hashKey: HashKey): SharedLimits {
  return shareLimits(hashKey, (makeBuckets) => {
    for (const which of ["calls", "dns"] as const) ratesOf(which, { settings, makeBuckets }, () => undefined);
    // The memory size does not depend on the rate, so any rate will do.
    if (settings.dns.enabled) void new ResponseRates({ perSecond: 1, maxNetworks: settings.dns.rateNetworks, makeBuckets });
  });
}

// Counts the DNS answers in which the policy hides entries. The counts are later reported to the metrics and the audit log in one batch. Reporting
// each answer immediately took longer than answering, so an unknown client could detect hidden entries by the response time (semantics.md, DNS).

/** Minimum time between two reports, in ms. */
const SPACING_MS = 1000;
/**
 * Maximum number of namespace lists that are counted separately. Any further answers are counted under the last list, because clients can make up any
 * number of names.
 */
const MAX_COUNTED = 1024;

/** Answers to one caller that hide the same namespaces. */
interface HiddenAnswer {
  readonly caller: Caller;
  readonly namespaces: readonly string[];
  /** Address of the most recent client. */
  address: string;
  count: number;
}

export class HiddenAnswers {
  readonly #report: (answers: HiddenAnswer) => void;
  /** Counts by list. Lists are compared by identity, because the list of a cached answer is always the same array. */
  readonly #byList = new Map<readonly string[], HiddenAnswer>();
  #counted: HiddenAnswer[] = [];
  #reportedMonoMs = Number.NEGATIVE_INFINITY;

  constructor(report: (answers: HiddenAnswer) => void) {
    this.#report = report;
  }

  /** HOT: runs per answer that hides entries. */
  note(caller: Caller, address: string, namespaces: readonly string[]): void {
    let counted = this.#byList.get(namespaces);
    if (counted === undefined || (counted.caller !== caller && counted.caller.principal !== caller.principal))
      counted = this.#begin(caller, namespaces);
    counted.address = address;
    counted.count += 1;
  }

  /** Reports the counts if a report is due. */
  tick(time: Time): void {
    if (time.monoMs >= this.nextDeadlineMs()) this.reportAll(time);
  }

  reportAll(time: Time): void {
    if (this.#counted.length === 0) return;
    const counted = this.#counted;
    this.#counted = [];
    this.#byList.clear();
    this.#reportedMonoMs = time.monoMs;
    for (const answers of counted) this.#report(answers);
  }

  nextDeadlineMs(): number {
    return this.#counted.length === 0 ? NEVER : this.#reportedMonoMs + SPACING_MS;
  }

  #begin(caller: Caller, namespaces: readonly string[]): HiddenAnswer {
    const last = this.#counted.at(-1);
    if (last !== undefined && this.#counted.length === MAX_COUNTED) return last;
    const begun = { caller, namespaces, address: "", count: 0 };
    this.#counted.push(begun);
    this.#byList.set(namespaces, begun);
    return begun;
  }
}
