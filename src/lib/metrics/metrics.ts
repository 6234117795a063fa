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

/** One row for each metric. Names without a `waymark_` prefix are an interface: dashboards use them. */
export const METRICS = {
  waymark_build_info: gauge("1", { version: 1, node_version: 1 }, "Always 1. The labels have the versions.", "own"),
  waymark_ready: gauge("1", {}, "1 while /readyz answers 200.", "own"),
  waymark_catalog_entries: gauge("entries", { kind: KIND_WORDS, scope: SCOPES }, "Live entries held, by kind and scope.", "own"),
  waymark_catalog_tombstones: gauge("records", {}, "Tombstones held.", "own"),
  waymark_catalog_revision: gauge("revision", {}, "Newest revision of this node.", "own"),
  waymark_slab_bytes: gauge("bytes", { state: ["used", "reserved"] }, "Memory of encoded entries: in use, and taken from the system."),
  waymark_leases: gauge("leases", {}, "Leases held here."),
  waymark_leases_expired_total: counter("leases", {}, "Leases that ran out."),
  waymark_register_total: counter(
    "entries",
    { outcome: ["ok", "refused", "failed"] },
    "Entries of Register calls: accepted, refused because of the caller, or failed because of the server.",
  ),
  waymark_checks: gauge(
    "checks",
    { state: ["passing", "failing", "unknown", "unwatched"] },
    "Checks of entries registered on this node. Unwatched: not run, because checks.enabled is false.",
  ),
  waymark_checks_not_run: gauge(
    "checks",
    {},
    "Checks that were not run for three of their intervals, because more checks are waiting than the node can run. They have no health and the failure NOT_RUN.",
  ),
  waymark_checks_doubting: gauge(
    "1",
    {},
    "1 while this node doubts itself, because most checks of a tenant, or of most tenants, changed their state at the same time. The previous states are kept meanwhile.",
  ),
  waymark_checks_doubts_total: counter("doubts", {}, "How often this node began to doubt itself."),
  waymark_check_probes_in_flight: gauge("probes", {}, "Probes of checks under way, at most 256."),
  waymark_check_probes_waiting: gauge("checks", {}, "Checks that are due and wait for one of 256 concurrent probes or for a name look-up."),
  waymark_check_outcomes_total: counter("outcomes", { outcome: ["passed", "failed"] }, "What probes and renewals of checks found."),
  waymark_check_turns_total: counter("turns", {}, "Times that a check turned, with what its entry shows of it."),
  waymark_watch_streams: gauge("streams", {}, "Open watch streams."),
  waymark_watch_lag_revisions: gauge("revisions", {}, "How far the slowest watch stream is behind this node.", "largest"),
  waymark_journal_commit_ms: histogram("ms", DELAY_MS, {}, "From handing a batch to the journal until it is on disk."),
  waymark_journal_batch_records: histogram("records", COUNTS, {}, "Records in one journal batch."),
  waymark_journal_pending_records: gauge("records", {}, "Records waiting for the disk."),
  waymark_journal_bytes: gauge("bytes", {}, "Size of the journal's files."),
  waymark_journal_failures_total: counter("batches", {}, "Journal batches that could not be written."),
  waymark_audit_records_total: counter(
    "records",
    { kind: ["access", "policy", "admin"], outcome: ["allowed", "denied", "noted"] },
    "Audit events taken, by kind and outcome.",
  ),
  waymark_audit_lost_total: counter("records", {}, "Audit events lost: too many waited for the disk."),
  waymark_audit_pending_records: gauge("records", {}, "Audit records waiting for the disk."),
  waymark_audit_bytes: gauge("bytes", {}, "Size of the audit log, without room it may use again."),
  waymark_audit_failures_total: counter("batches", {}, "Batches of audit records the disk refused."),
  waymark_audit_file_lost_total: counter("lines", {}, "Lines that could not be written to audit.file."),
  waymark_connections: gauge("connections", { listener: LISTENERS }, "Open connections."),
  waymark_connections_refused_total: counter(
    "connections",
    { listener: LISTENERS, reason: 20 },
    "Connections refused or cut: above the bound (limit), a failed TLS handshake, silent, too many waiting requests of HTTP/1.1 (queued_requests), an answer that its client did not read (unread_answer), unanswered pings or an expired time to close (lifetime), or an abuse of HTTP/2 such as ping_flood.",
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
    "The longest time in each second for which the event loop of a thread was held, so that it answered nobody. A hold may be measured up to 20 ms too short.",
  ),
  waymark_read_workers: gauge("threads", {}, "Read workers that answer callers.", "own"),
  waymark_read_workers_ended_total: counter("threads", {}, "Read workers that ended before the node stopped."),
  waymark_dns_processes: gauge("processes", {}, "DNS processes that answer.", "own"),
  waymark_dns_processes_ended_total: counter("processes", {}, "DNS processes that ended before the node stopped."),
  waymark_log_lines_dropped_total: counter("lines", {}, "Log lines dropped because stderr was not read."),
  waymark_metric_label_overflow_total: counter(
    "values",
    { metric: 100 },
    "Label values counted as `other` because the label's bound was reached.",
  ),
  rpc_requests_total: counter(
    "requests",
    { service: 40, method: 200, code: 17, transport: 4, encoding: 4 },
    "Calls ended, by gRPC status; transport is grpc, http1 or h2, encoding proto or json.",
  ),
  rpc_latency_ms: histogram(
    "ms",
    LATENCY_MS,
    { service: 40, method: 200, transport: 4 },
    "From a call's first byte read to its status; streams are not counted.",
  ),
  discovery_query_latency_ms: histogram("ms", LATENCY_MS, {}, "Time inside the catalog for one CatalogQuery or Resolve."),
  discovery_resolve_choices_total: counter(
    "choices",
    { by: ["load", "turn", "random", "hash"] },
    "Choices of Resolve, by what decided among the entries of the best level: their load, whose turn it was, chance, or the hash key.",
  ),
  discovery_delta_lag_ms: histogram("ms", DELAY_MS, {}, "From a change's time stamp to its delta being written to a watcher."),
  discovery_delta_dropped_total: counter(
    "deltas",
    {},
    "Deltas a watcher was not sent: replaced by a snapshot because its cursor was too old.",
  ),
  discovery_cache_hit_rate: gauge("ratio", {}, "Of a resolver: the part of its answers that waited for nobody, from 0 to 1.", "largest"),
  discovery_cache_stale_serves_total: counter("answers", {}, "Of a resolver: answers that were marked stale."),
  discovery_cache_negative_total: counter("answers", {}, "Of a resolver: fetched answers, served again, that nothing exists."),
  discovery_cache_entries: gauge("entries", {}, "Of a resolver: entries that it follows and fetched."),
  discovery_cache_held: gauge("entries", {}, "Of a resolver: entries that lookups still show although they are gone."),
  discovery_cache_unheld_total: counter(
    "entries",
    {},
    "Of a resolver: entries that were to be held and were let go before their time, because there was no room.",
  ),
  discovery_cache_bytes: gauge("bytes", {}, "Of a resolver: memory of its cache with its bookkeeping, about."),
  discovery_cache_evictions_total: counter("names", {}, "Of a resolver: names that were removed to make room for others."),
  discovery_cache_resyncs_total: counter(
    "resyncs",
    { reason: ["operator", "digest", "gap", "policy"] },
    "Of a resolver: times that namespaces which were there were fetched whole again.",
  ),
  discovery_cache_upstream_changes_total: counter("changes", {}, "Of a resolver: times that another upstream was chosen."),
  discovery_cache_upstream_faults_total: counter(
    "faults",
    { reason: ["cluster", "region", "loop", "chain", "policy", "garbled"] },
    "Of a resolver: times that an upstream began to be refused (cluster, region, loop, chain), named a policy that no server has sent, or sent what cannot be right (garbled).",
  ),
  discovery_cache_age_ms: gauge("ms", {}, "Of a resolver: how old what it follows may be. -1 while that is unknown.", "largest"),
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
    "Denials by policy, by action and reason.",
  ),
  discovery_rate_limited_total: counter("requests", { tenant: 100 }, "Requests over the rate limit, by tenant (empty: none)."),
  ...MESH_METRICS,
  ...SUMMARY_METRICS,
  waymark_quota_refusals_total: counter(
    "requests",
    { holder: ["namespace", "tenant"], bound: ["entries", "watches", "bytes", "checks"] },
    "Requests over a quota, by who was full and of what.",
  ),
  dns_queries_total: counter(
    "queries",
    { qtype: QTYPES, rcode: RCODES, transport: ["udp", "tcp", "dot", "doh"] },
    "DNS questions answered.",
  ),
  dns_query_latency_ms: histogram("ms", LATENCY_MS, {}, "From a DNS question's last byte to its answer handed to the socket."),
  dns_truncated_total: counter("answers", {}, "Answers sent with TC=1: over UDP, and over TCP where no message holds the answer."),
  dns_rate_limited_total: counter("questions", {}, "UDP questions over `dns.rate` that were told to ask again over TCP."),
  dns_plans_bytes: gauge(
    "bytes",
    {},
    "Memory of answers that are planned already: `dns.plan_bytes` at most of those that show something, beside them at most 2,000 that show nothing. Counted too high rather than too low.",
  ),
  dns_plans_made_total: counter("plans", {}, "Answers planned, because no plan of the question was kept or what it rested on had changed."),
  dns_plans_dropped_total: counter("plans", {}, "Planned answers that made room, or had none."),
  dns_signatures_total: counter(
    "signatures",
    { outcome: ["made", "refused"] },
    "Signatures of DNSSEC. refused: 5,000 were made in this second already, so the sender was told to ask again over TCP, or was answered SERVFAIL there.",
  ),
  dns_alias_conflicts_total: counter(
    "plans",
    {},
    "Planned answers for an alias that several services carry: the first of them in key order was told.",
  ),
  dns_policy_denials_total: counter("answers", {}, "DNS questions whose data the policy hid."),
  dns_transfers_total: counter(
    "transfers",
    { outcome: ["done", "cut", "refused", "failed"] },
    "Zone transfers (AXFR). Cut: the client went away or took too long. Refused: there were too many at a time, or too many entries.",
  ),
  dns_transfer_crowded_names_total: counter(
    "names",
    {},
    "Names in zone transfers that have more than 4,096 instances or targets, and are told in part: a secondary may take a set of them for whole.",
  ),
  dns_dropped_total: counter(
    "packets",
    { reason: ["malformed", "overload", "idle", "rate", "handshake"] },
    "DNS input thrown away without an answer. Rate: every second UDP question over `dns.rate`. Handshake: connections whose TLS handshake failed.",
  ),
} as const;

type Rows = typeof METRICS;
export type MetricName = keyof Rows;
type NamesOf<T extends MetricType> = { [N in MetricName]: Rows[N]["type"] extends T ? N : never }[MetricName];
export type CounterName = NamesOf<"counter">;
export type GaugeName = NamesOf<"gauge">;
export type HistogramName = NamesOf<"histogram">;
type LabelValueOf<B> = B extends readonly (infer V extends string)[] ? V : string;
/** All labels of a metric, with the values that its row allows. */
export type LabelsOf<N extends MetricName> = { readonly [L in keyof Rows[N]["labels"]]: LabelValueOf<Rows[N]["labels"][L]> };

/** The number of one set of labels. Callers that use it often keep the handle. */
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

/** Counts of observations by bucket. An observation allocates nothing. */
export class Histogram {
  readonly labels: Readonly<Record<string, string>>;
  readonly buckets: readonly number[];
  /** Observations in each bucket alone. The last bucket is above every bound. */
  readonly counts: Float64Array;
  sum = 0;

  constructor(labels: Readonly<Record<string, string>>, buckets: readonly number[]) {
    this.labels = labels;
    this.buckets = buckets;
    this.counts = new Float64Array(buckets.length + 1);
  }

  // HOT: per call and per DNS answer; a scan of ≤ 15 bounds is cheaper than a search (20 ns).
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

/** All values of one metric. */
export type MetricFamily =
  | { readonly name: MetricName; readonly row: MetricRow; readonly series: ReadonlyMap<string, MetricSeries> }
  | { readonly name: MetricName; readonly row: MetricRow; readonly histograms: ReadonlyMap<string, Histogram> };

const METRIC_NAMES: readonly MetricName[] = Object.keys(METRICS).filter(isMetricName);

/** Up to this many label sets exist from the start, at zero, so that a rate over them never starts with a jump. */
const MAX_STARTING_SERIES = 64;

/** The values of METRICS. A process has one. */
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

  /** Every series of a counter or gauge so far. */
  seriesOf(name: CounterName | GaugeName): Iterable<MetricSeries> {
    return this.#series.get(name)?.values() ?? [];
  }

  /** Every series of a histogram so far. */
  histogramsOf(name: HistogramName): Iterable<Histogram> {
    return this.#histograms.get(name)?.values() ?? [];
  }

  /** The number or the histogram of any metric. Values of labels that its row does not allow become `other`. */
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

  /** Runs `fill` before values are collected, for gauges that are cheaper to compute then than to keep. */
  onCollect(fill: () => void): void {
    this.#collectors.push(fill);
  }

  /** Every metric with its values now, in the order of the table. */
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
