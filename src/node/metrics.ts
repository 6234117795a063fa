/** Sets the metrics of the catalog and the journal at each scrape. */

import { WORD_OF_KIND } from "../../gen/waymark/catalog/v1/entry_kinds.ts";
import { SCOPE, SCOPE_NAMES } from "../catalog/entry/scope.ts";
import type { Leases } from "../catalog/leases.ts";
import type { EntryIndex } from "../catalog/query/entry-index.ts";
import { KIND } from "../catalog/record/record.ts";
import type { Replica } from "../catalog/replica/replica.ts";
import type { Fanout } from "../discovery/fanout.ts";
import type { Registrar } from "../discovery/registrar/registrar.ts";
import type { Time } from "../lib/machine.ts";
import { METRICS, type Metrics } from "../lib/metrics/metrics.ts";
import { OTHER } from "../lib/metrics/row.ts";
import type { Journal } from "../store/journal/journal.ts";
import type { HeldSummaries } from "../summary/held/summaries.ts";
import type { NodeMachine } from "./core.ts";

export interface ObservedCatalog {
  readonly metrics: Metrics;
  readonly replica: Replica;
  readonly leases: Pick<Leases, "size">;
  readonly registrar: Pick<Registrar, "expiredCount">;
  readonly fanout: Fanout;
  readonly machine: { readonly readiness: Pick<NodeMachine["readiness"], "isServing"> };
}

/** Sets the metrics of the catalog and its readers. */
export function observeCatalog({ metrics, replica, leases, registrar, fanout, machine }: ObservedCatalog): void {
  observeEntries(metrics, [replica.lookup]);
  const { usedBytes, freeBytes } = replica.slab.stats();
  metrics.set("waymark_slab_bytes", { state: "used" }, usedBytes);
  metrics.set("waymark_slab_bytes", { state: "reserved" }, usedBytes + freeBytes);
  metrics.set("waymark_catalog_revision", {}, replica.revision);
  metrics.set("waymark_catalog_tombstones", {}, replica.tombstoneCount);
  metrics.set("waymark_leases", {}, leases.size);
  metrics.counter("waymark_leases_expired_total", {}).set(registrar.expiredCount);
  observeWatches(metrics, { replica, fanout });
  metrics.set("waymark_ready", {}, machine.readiness.isServing ? 1 : 0);
}

/** Counts entries by kind and scope. The `lookups` must not have any key in common. */
export function observeEntries(metrics: Metrics, lookups: readonly Pick<EntryIndex, "count">[]): void {
  for (const kind of Object.values(KIND)) {
    for (const scope of [SCOPE.LOCAL, SCOPE.ZONE, SCOPE.REGION, SCOPE.GLOBAL]) {
      const count = lookups.reduce((sum, lookup) => sum + lookup.count(kind, scope), 0);
      metrics.set("waymark_catalog_entries", { kind: WORD_OF_KIND[kind], scope: SCOPE_NAMES[scope] }, count);
    }
  }
}

/** Sets the metrics of the open watches of one thread. */
export function observeWatches(metrics: Metrics, { replica, fanout }: Pick<ObservedCatalog, "fanout" | "replica">): void {
  metrics.set("waymark_watch_streams", {}, fanout.size);
  let lag = 0;
  for (const { feed } of fanout.watchers()) lag = Math.max(lag, replica.revision - feed.revision);
  metrics.set("waymark_watch_lag_revisions", {}, lag);
}

/** Sets the metrics of the journal and of the records that are queued for it. */
export function observeJournal({
  metrics,
  journal,
  replica,
}: Pick<ObservedCatalog, "metrics" | "replica"> & { readonly journal: Pick<Journal, "stats"> }): void {
  const stats = journal.stats();
  metrics.set("waymark_journal_bytes", {}, stats.fileBytes + stats.walBytes);
  metrics.set("waymark_journal_pending_records", {}, replica.staged.length);
  metrics.counter("waymark_journal_failures_total", {}).set(stats.failures);
}

const STATES = ["fresh", "stale", "dropped"] as const;

/** Counts the stored summaries by the state of their source clusters. */
export function observeSummaries(metrics: Metrics, held: HeldSummaries, time: Time): void {
  const sources = held.sources(time);
  for (const state of STATES)
    metrics.set(
      "discovery_summaries",
      { state },
      sources.reduce((sum, source) => sum + (source.state === state ? source.summaries : 0), 0),
    );
}

const CLUSTER_STATES = ["fresh", "stale", "gone"] as const;

/** Counts the source clusters that this node should receive, by state. Both a dropped cluster and a cluster that never reported count as `gone`. */
export function observeClusters(metrics: Metrics, held: Pick<HeldSummaries, "sources">, clusters: readonly string[], time: Time): void {
  const states = new Map(held.sources(time).map(({ source, state }) => [source, state]));
  const received = clusters.map((cluster) => {
    const state = states.get(cluster) ?? "dropped";
    return state === "dropped" ? "gone" : state;
  });
  for (const state of CLUSTER_STATES)
    metrics.set("discovery_summary_clusters", { state }, received.filter((each) => each === state).length);
}

const IDENTITY_OUTCOMES = METRICS.waymark_identity_joins_total.labels.outcome;

/** Counts a request for a certificate at this issuer. `problem` is empty if it was granted. */
export function countIdentity(metrics: Metrics, kind: "join" | "renew", problem: string): void {
  const outcome = problem === "" ? "granted" : (IDENTITY_OUTCOMES.find((each) => each === problem) ?? OTHER);
  if (kind === "join") metrics.inc("waymark_identity_joins_total", { outcome });
  else metrics.inc("waymark_identity_renewals_total", { outcome });
}
