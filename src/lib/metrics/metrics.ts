/** The table of all metrics, and their values as plain numbers. */

import { KIND_WORDS } from "../../../gen/waymark/catalog/v1/entry_kinds.ts";
import { MESH_METRICS, SUMMARY_METRICS } from "./mesh-metrics.ts";
import { counter, gauge, histogram, type LabelBound, type MetricRow, type MetricType, OTHER } from "./row.ts";

const LATENCY_MS = [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 10_000] as const;
const DELAY_MS = [1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 60_000] as const;
const BLOCK_MS = [2, 5, 10, 20, 50, 100, 250, 500, 1000, 2500, 10_000] as const;
const COUNTS = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 10_000] as const;

const SCOPES = ["local", "zone", "region", "global"] as const;
const LISTENERS = ["grpc", "http", "dns", "fabric"] as const;
const QTYPES = ["A", "AAAA", "SRV", "TXT", "CNAME", "SOA", "NS", "PTR", "SVCB", "HTTPS", "ANY", OTHER] as const;
const RCODES = ["NOERROR", "NXDOMAIN", "REFUSED", "FORMERR", "NOTIMP", "SERVFAIL", OTHER] as const;

const IDENTITY_OUTCOMES = [
  "granted",
  "identity_expired",
  "identity_taken",
  "identity_unknown",
  "join_denied",
  "key_copied",
  "not_attested",
  "revoked",
  "token_expired",
  "token_spent",
  "token_unknown",
  "token_wrong_cluster",
  OTHER,
] as const;

/** One row for each metric. The names without the prefix `waymark_` are an interface for dashboards. */
export const METRICS = {
  waymark_build_info: gauge(
    "1",
    { version: 1, node_version: 1 },
    "Build information; the value is always 1, and the labels contain the versions.",
    "own",
  ),
  waymark_ready: gauge("1", {}, "1 while /readyz returns 200, else 0.", "own"),
  waymark_catalog_entries: gauge("entries", { kind: KIND_WORDS, scope: SCOPES }, "Live entries in the catalog, by kind and scope.", "own"),
  waymark_catalog_tombstones: gauge("records", {}, "Tombstones in the catalog.", "own"),
  waymark_catalog_revision: gauge("revision", {}, "Latest catalog revision of this node.", "own"),
  waymark_slab_bytes: gauge(
    "bytes",
    { state: ["used", "reserved"] },
    "Memory for encoded entries: used by entries, or reserved from the system.",
  ),
  waymark_leases: gauge("leases", {}, "Open leases on this node."),
  waymark_leases_expired_total: counter("leases", {}, "Leases that expired."),
  waymark_register_total: counter(
    "entries",
    { outcome: ["ok", "refused", "failed"] },
    "Entries in Register calls by outcome: accepted (ok), refused because of the caller, or failed because of the server.",
  ),
  waymark_checks: gauge(
    "checks",
    { state: ["passing", "failing", "unknown", "unwatched"] },
    "Checks of entries registered on this node, by state. unwatched: not run, because checks.enabled is false.",
  ),
  waymark_checks_not_run: gauge(
    "checks",
    {},
    "Checks that have not run for three of their intervals, because more checks are due than the node can run. The health of such checks is unset, and their failure is NOT_RUN.",
  ),
  waymark_checks_doubting: gauge(
    "1",
    {},
    "1 during self-preservation, because most checks of a tenant, or of most tenants, changed state at the same time. During that time, the previous states are kept.",
  ),
  waymark_checks_doubts_total: counter("doubts", {}, "Number of times that this node entered self-preservation."),
  waymark_check_probes_in_flight: gauge("probes", {}, "Running check probes; at most 256."),
  waymark_check_probes_waiting: gauge("checks", {}, "Due checks waiting for one of the 256 probe slots or for a name lookup."),
  waymark_check_outcomes_total: counter("outcomes", { outcome: ["passed", "failed"] }, "Results of probes and renewals of checks."),
  waymark_check_turns_total: counter("turns", {}, "State changes of checks."),
  waymark_watch_streams: gauge("streams", {}, "Open watch streams."),
  waymark_watch_lag_revisions: gauge(
    "revisions",
    {},
    "Number of revisions by which the slowest watch stream is behind this node.",
    "largest",
  ),
  waymark_journal_commit_ms: histogram("ms", DELAY_MS, {}, "Time from passing a batch to the journal until it is on disk."),
  waymark_journal_batch_records: histogram("records", COUNTS, {}, "Records per journal batch."),
  waymark_store_unreadable_leaders: gauge(
    "scopes",
    {},
    "Records of leaders in the control store that cannot be read. Their scopes count as held.",
  ),
  waymark_config_differs: gauge(
    "nodes",
    {},
    "Live members of this node's cluster, of the same version, whose settings differ from its own.",
  ),
  waymark_store_available: gauge("boolean", {}, "Whether the control store answered the last request of this node: 1 or 0."),
  waymark_store_requests_total: counter(
    "requests",
    { outcome: ["ok", "refused", "unavailable"] },
    "Requests to etcd: answered, refused by etcd, and failed without an answer. Not counted for the embedded store.",
  ),
  waymark_identity_expires_seconds: gauge("seconds", {}, "Time until this node's certificate ends, if an issuer of the cluster made it."),
  waymark_identity_life_seconds: gauge(
    "seconds",
    {},
    "Time from the start to the end of this node's certificate, if an issuer of the cluster made it.",
  ),
  waymark_identity_issuer_expires_seconds: gauge(
    "seconds",
    {},
    "Time until the issuing certificate of this node ends. 0 if it is no issuer.",
  ),
  waymark_identity_follow_age_seconds: gauge(
    "seconds",
    {},
    "Age of this node's copy of roots, revocations and callers' tokens: time since the control store or an issuer last confirmed it. 0 on a node whose control store answers.",
  ),
  waymark_identity_joins_total: counter("requests", { outcome: IDENTITY_OUTCOMES }, "Requests of newcomers at this issuer, by outcome."),
  waymark_identity_renewals_total: counter(
    "requests",
    { outcome: IDENTITY_OUTCOMES },
    "Requests to renew certificates at this issuer, by outcome. key_copied means that two programs have used one key.",
  ),
  waymark_journal_pending_records: gauge("records", {}, "Records waiting to be written to the journal."),
  waymark_journal_bytes: gauge("bytes", {}, "Size of the journal files."),
  waymark_journal_failures_total: counter("batches", {}, "Journal batches that could not be written."),
  waymark_audit_records_total: counter(
    "records",
    { kind: ["access", "policy", "admin"], outcome: ["allowed", "denied", "noted"] },
    "Audit records accepted for writing, by kind and outcome.",
  ),
  waymark_audit_lost_total: counter("records", {}, "Audit records lost because too many were waiting to be written."),
  waymark_audit_pending_records: gauge("records", {}, "Audit records waiting to be written."),
  waymark_audit_bytes: gauge("bytes", {}, "Size of the audit log, without free space inside its files."),
  waymark_audit_failures_total: counter("batches", {}, "Batches of audit records that could not be written."),
  waymark_audit_file_lost_total: counter("lines", {}, "Lines that could not be written to audit.file."),
  waymark_connections: gauge("connections", { listener: LISTENERS }, "Open connections, by listener."),
  waymark_connections_refused_total: counter(
    "connections",
    { listener: LISTENERS, reason: 20 },
    "Connections refused or closed by the server, by reason: too many connections (limit), a failed TLS handshake, a new connection that sends nothing (silent), too many queued HTTP/1.1 requests (queued_requests), a response that the client did not read (unread_answer), unanswered pings or an expired grace period (lifetime), or HTTP/2 abuse such as ping_flood.",
  ),
  waymark_http_requests_total: counter(
    "requests",
    { route: 40, status: ["2xx", "3xx", "4xx", "5xx"] },
    "Requests to the GET routes of the HTTP edge, by route and status class.",
  ),
  waymark_event_loop_block_ms: histogram(
    "ms",
    BLOCK_MS,
    {},
    "Longest time that a thread's event loop was blocked in the last second, which delayed requests. The measured time can be up to 20 ms too short.",
  ),
  waymark_read_workers: gauge("threads", {}, "Read workers that serve callers.", "own"),
  waymark_read_workers_ended_total: counter("threads", {}, "Read workers that exited before the node stopped."),
  waymark_dns_processes: gauge("processes", {}, "DNS processes that answer queries.", "own"),
  waymark_dns_processes_ended_total: counter("processes", {}, "DNS processes that exited before the node stopped."),
  waymark_log_lines_dropped_total: counter("lines", {}, "Log lines dropped because stderr was not read fast enough."),
  waymark_metric_label_overflow_total: counter(
    "values",
    { metric: 100 },
    "Label values that were counted as `other`, because their label had reached its maximum number of values.",
  ),
  rpc_requests_total: counter(
    "requests",
    { service: 40, method: 200, code: 17, transport: 4, encoding: 4 },
    "Completed calls, by gRPC status code; transport is grpc, http1 or h2, and encoding is proto or json.",
  ),
  rpc_latency_ms: histogram(
    "ms",
    LATENCY_MS,
    { service: 40, method: 200, transport: 4 },
    "Time from reading the first byte of a call to sending its status, excluding streams.",
  ),
  discovery_query_latency_ms: histogram("ms", LATENCY_MS, {}, "Time spent in the catalog for one CatalogQuery or Resolve."),
  discovery_resolve_choices_total: counter(
    "choices",
    { by: ["load", "turn", "random", "hash"] },
    "Entries chosen by Resolve, by the rule that selected them within the best level: load, round robin (turn), random choice, or hash key.",
  ),
  discovery_delta_lag_ms: histogram("ms", DELAY_MS, {}, "Time from the timestamp of a change until its delta is written to a watch."),
  discovery_delta_dropped_total: counter(
    "deltas",
    {},
    "Deltas that were replaced by a snapshot, because the cursor of the watch was too old.",
  ),
  discovery_cache_hit_rate: gauge(
    "ratio",
    {},
    "Resolver: ratio of answers served without waiting for an upstream, from 0 to 1.",
    "largest",
  ),
  discovery_cache_stale_serves_total: counter("answers", {}, "Resolver: answers marked stale."),
  discovery_cache_negative_total: counter("answers", {}, "Resolver: cached negative answers served."),
  discovery_cache_entries: gauge("entries", {}, "Resolver: followed and fetched entries in the cache."),
  discovery_cache_held: gauge("entries", {}, "Resolver: entries still returned by lookups although they are gone (resolver.guard_hold)."),
  discovery_cache_unheld_total: counter("entries", {}, "Resolver: entries dropped before resolver.guard_hold ended, for lack of room."),
  discovery_cache_bytes: gauge("bytes", {}, "Resolver: approximate memory of the cache and its bookkeeping."),
  discovery_cache_evictions_total: counter("names", {}, "Resolver: names removed from the cache to make room for others."),
  discovery_cache_resyncs_total: counter(
    "resyncs",
    { reason: ["operator", "digest", "gap", "policy"] },
    "Resolver: complete refetches of namespaces already in the cache, by reason.",
  ),
  discovery_cache_upstream_changes_total: counter("changes", {}, "Resolver: switches to another upstream."),
  discovery_cache_upstream_faults_total: counter(
    "faults",
    { reason: ["cluster", "region", "loop", "chain", "policy", "garbled"] },
    "Resolver: upstream faults. cluster, region, loop, chain: the upstream was refused for this reason. policy: it referred to a policy version that no server has sent. garbled: it sent invalid data.",
  ),
  discovery_cache_age_ms: gauge("ms", {}, "Resolver: maximum possible age of followed data; -1 while it is unknown.", "largest"),
  discovery_policy_denials_total: counter(
    "decisions",
    {
      action: ["register", "ingest", "query", "watch", "export-summary", "admin"],
      reason: [
        "owner_denied",
        "viewer_denied",
        "no_policy",
        "cutover_closed",
        "cutover_scope_denied",
        "summaries_disabled",
        "scope_denied",
        OTHER,
      ],
    },
    "Policy denials, by action and reason.",
  ),
  discovery_rate_limited_total: counter("requests", { tenant: 100 }, "Requests over the rate limit, by tenant (empty: no tenant)."),
  ...MESH_METRICS,
  ...SUMMARY_METRICS,
  waymark_quota_refusals_total: counter(
    "requests",
    { holder: ["namespace", "tenant"], bound: ["entries", "watches", "bytes", "checks"] },
    "Requests refused because of a quota, by quota owner (namespace or tenant) and exceeded limit.",
  ),
  dns_queries_total: counter("queries", { qtype: QTYPES, rcode: RCODES, transport: ["udp", "tcp", "dot", "doh"] }, "DNS queries answered."),
  dns_query_latency_ms: histogram("ms", LATENCY_MS, {}, "Time from the last byte of a DNS query until its answer is handed to the socket."),
  dns_truncated_total: counter(
    "answers",
    {},
    "DNS answers sent with TC=1: over UDP, and over TCP if no message is large enough for the answer.",
  ),
  dns_rate_limited_total: counter(
    "questions",
    {},
    "UDP queries above `dns.rate` that were answered with TC=1, so that the client retries over TCP.",
  ),
  dns_plans_bytes: gauge(
    "bytes",
    {},
    "Memory of prepared answers: at most `dns.plan_bytes` for answers with records, and in addition at most 2,000 answers without records. This estimate is more likely to be too high than too low.",
  ),
  dns_plans_made_total: counter(
    "plans",
    {},
    "Answers that were prepared because none was cached for the question, or because its data had changed.",
  ),
  dns_plans_dropped_total: counter("plans", {}, "Prepared answers dropped, or not cached, for lack of room."),
  dns_signatures_total: counter(
    "signatures",
    { outcome: ["made", "refused"] },
    "DNSSEC signatures. refused: the limit of 5,000 per second was reached, so the client was asked to retry over TCP, or received SERVFAIL over TCP.",
  ),
  dns_alias_conflicts_total: counter(
    "plans",
    {},
    "Prepared answers for an alias that several services share; the first service in key order was returned.",
  ),
  dns_policy_denials_total: counter("answers", {}, "DNS queries whose data was hidden by policy."),
  dns_transfers_total: counter(
    "transfers",
    { outcome: ["done", "cut", "refused", "failed"] },
    "Zone transfers (AXFR), by outcome. cut: the client disconnected or took too long. refused: too many concurrent transfers, or too many entries.",
  ),
  dns_transfer_crowded_names_total: counter(
    "names",
    {},
    "Names with more than 4,096 instances or targets in zone transfers. Only some of their records are sent, and a secondary can mistake these for the complete set.",
  ),
  dns_dropped_total: counter(
    "packets",
    { reason: ["malformed", "overload", "idle", "rate", "handshake"] },
    "DNS input dropped without an answer, by reason. rate: every second UDP query above `dns.rate`. handshake: connections whose TLS handshake failed.",
  ),
} as const;

type Rows = typeof METRICS;
export type MetricName = keyof Rows;
type NamesOf<T extends MetricType> = { [N in MetricName]: Rows[N]["type"] extends T ? N : never }[MetricName];
export type CounterName = NamesOf<"counter">;
export type GaugeName = NamesOf<"gauge">;
export type HistogramName = NamesOf<"histogram">;
type LabelValueOf<B> = B extends readonly (infer V extends string)[] ? V : string;
/** All labels of a metric, each with a value that is allowed by its row. */
export type LabelsOf<N extends MetricName> = { readonly [L in keyof Rows[N]["labels"]]: LabelValueOf<Rows[N]["labels"][L]> };

/** The value for one combination of labels. Callers that use it often keep the object. */
export class MetricSeries {
  readonly labels: Readonly<Record<string, string>>;
  value = 0;

  constructor(labels: Readonly<Record<string, string>>) {
    this.labels = labels;
  }

  inc(count = 1): void {
    this.value += count;
  }

  set(value: number): void {
    this.value = value;
  }
}

/** The number of observations in each bucket. Recording an observation does not allocate memory. */
export class Histogram {
  readonly labels: Readonly<Record<string, string>>;
  readonly buckets: readonly number[];
  /** Number of observations per bucket, not cumulative. The last bucket is for values above every bound. */
  readonly counts: Float64Array;
  sum = 0;

  constructor(labels: Readonly<Record<string, string>>, buckets: readonly number[]) {
    this.labels = labels;
    this.buckets = buckets;
    this.counts = new Float64Array(buckets.length + 1);
  }

  // HOT: runs for each call and each DNS answer. A scan of at most 15 bounds is cheaper than a search (20 ns).
  observe(value: number): void {
    let at = 0;
    while (value > (this.buckets[at] ?? Number.POSITIVE_INFINITY)) at++;
    this.counts[at] = (this.counts[at] ?? 0) + 1;
    this.sum += value;
  }

  get count(): number {
    return this.counts.reduce((total, count) => total + count, 0);
  }
}

/** All values for one metric. */
export type MetricFamily =
  | { readonly name: MetricName; readonly row: MetricRow; readonly series: ReadonlyMap<string, MetricSeries> }
  | { readonly name: MetricName; readonly row: MetricRow; readonly histograms: ReadonlyMap<string, Histogram> };

const METRIC_NAMES: readonly MetricName[] = Object.keys(METRICS).filter(isMetricName);

/** If a row has at most this many label combinations, all of them start at zero, so that rates do not start with a jump. */
const MAX_STARTING_SERIES = 64;

/** The values of METRICS. Each process has one instance. */
export class Metrics {
  readonly #series = new Map<MetricName, Map<string, MetricSeries>>();
  readonly #histograms = new Map<MetricName, Map<string, Histogram>>();
  readonly #seen = new Map<string, Set<string>>();
  readonly #collectors: (() => void)[] = [];

  constructor() {
    for (const name of METRIC_NAMES) {
      const row: MetricRow = METRICS[name];
      if (row.type === "histogram") this.#histograms.set(name, new Map());
      else this.#series.set(name, new Map());
      for (const labels of startingLabels(row)) this.at(name, labels);
    }
  }

  counter<N extends CounterName>(name: N, labels: LabelsOf<N>): MetricSeries {
    return this.#seriesAt(name, labels);
  }

  gauge<N extends GaugeName>(name: N, labels: LabelsOf<N>): MetricSeries {
    return this.#seriesAt(name, labels);
  }

  histogram<N extends HistogramName>(name: N, labels: LabelsOf<N>): Histogram {
    const found = this.at(name, labels);
    if (!(found instanceof Histogram)) throw new Error(`${name} is not a histogram`);
    return found;
  }

  inc<N extends CounterName>(name: N, labels: LabelsOf<N>, count = 1): void {
    this.#seriesAt(name, labels).inc(count);
  }

  set<N extends GaugeName>(name: N, labels: LabelsOf<N>, value: number): void {
    this.#seriesAt(name, labels).set(value);
  }

  observe<N extends HistogramName>(name: N, labels: LabelsOf<N>, value: number): void {
    this.histogram(name, labels).observe(value);
  }

  /** All series of a counter or gauge so far. */
  seriesOf(name: CounterName | GaugeName): Iterable<MetricSeries> {
    return this.#series.get(name)?.values() ?? [];
  }

  /** All series of a histogram so far. */
  histogramsOf(name: HistogramName): Iterable<Histogram> {
    return this.#histograms.get(name)?.values() ?? [];
  }

  /** The series or histogram of any metric. Label values that are not allowed by its row become `other`. */
  at(name: MetricName, given: Readonly<Record<string, string>>): MetricSeries | Histogram {
    const row: MetricRow = METRICS[name];
    const exact = keyOf(row, given);
    const existing = this.#series.get(name)?.get(exact) ?? this.#histograms.get(name)?.get(exact);
    if (existing !== undefined) return existing;
    const labels = this.#bounded(name, row, given);
    const key = keyOf(row, labels);
    const histograms = this.#histograms.get(name);
    if (histograms !== undefined) return entryOf(histograms, key, () => new Histogram(labels, row.buckets ?? []));
    return entryOf(this.#series.get(name) ?? new Map<string, MetricSeries>(), key, () => new MetricSeries(labels));
  }

  /** Runs `fill` before values are collected, for gauges that are cheaper to compute on demand. */
  onCollect(fill: () => void): void {
    this.#collectors.push(fill);
  }

  /** All metrics with their current values, in the order of the table. */
  collect(): readonly MetricFamily[] {
    for (const fill of this.#collectors) fill();
    return METRIC_NAMES.map((name): MetricFamily => {
      const row: MetricRow = METRICS[name];
      const histograms = this.#histograms.get(name);
      return histograms === undefined ? { name, row, series: this.#series.get(name) ?? new Map() } : { name, row, histograms };
    });
  }

  #seriesAt(name: MetricName, labels: Readonly<Record<string, string>>): MetricSeries {
    const found = this.at(name, labels);
    if (!(found instanceof MetricSeries)) throw new Error(`${name} is a histogram`);
    return found;
  }

  #bounded(name: MetricName, row: MetricRow, given: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
    const labels: Record<string, string> = {};
    for (const [label, bound] of Object.entries(row.labels)) {
      const value = given[label] ?? "";
      labels[label] = this.#isWithin(`${name} ${label}`, bound, value) ? value : OTHER;
      if (labels[label] !== value) this.inc("waymark_metric_label_overflow_total", { metric: name });
    }
    return labels;
  }

  #isWithin(place: string, bound: LabelBound, value: string): boolean {
    if (typeof bound !== "number") return bound.includes(value);
    const seen = entryOf(this.#seen, place, () => new Set<string>());
    if (seen.has(value)) return true;
    if (seen.size >= bound) return false;
    seen.add(value);
    return true;
  }
}

export function isMetricName(name: string): name is MetricName {
  return Object.hasOwn(METRICS, name);
}

function keyOf(row: MetricRow, labels: Readonly<Record<string, string>>): string {
  let key = "";
  for (const label in row.labels) key += `${labels[label] ?? ""}\0`;
  return key;
}

function entryOf<V>(map: Map<string, V>, key: string, make: () => V): V {
  const found = map.get(key);
  if (found !== undefined) return found;
  const made = make();
  map.set(key, made);
  return made;
}

function startingLabels(row: MetricRow): readonly Readonly<Record<string, string>>[] {
  let sets: Readonly<Record<string, string>>[] = [{}];
  for (const [label, bound] of Object.entries(row.labels)) {
    if (typeof bound === "number") return [];
    sets = sets.flatMap((set) => bound.map((value) => ({ ...set, [label]: value })));
  }
  return sets.length > MAX_STARTING_SERIES ? [] : sets;
}
