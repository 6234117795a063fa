/** Creates reports about the whole catalog. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { type Entry, EntryKind, HealthStatus, Scope } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import type { ServiceSummary } from "../../../gen/waymark/catalog/v1/summary_pb.js";
import { DiscoveryService, type NamespaceStatusResponse } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import type { SummaryQueryRequestSchema } from "../../../gen/waymark/discovery/v1/summary_pb.js";
import type { ClientCalls } from "../../client/calls.ts";
import { RequestError } from "../../client/request-error.ts";
import { enumWord } from "../../lib/enum-words.ts";
import { readAll } from "../entries/transfer.ts";
import { namespaceScope } from "../flags.ts";
import type { TableColumn } from "../output.ts";
import { MAX_PAGE, pagesOf } from "../pages.ts";
import type { VerbFunction } from "../table/verb.ts";

/** Maximum number of concurrent calls. */
const MAX_CALLS = 16;

const HEALTHS = [
  HealthStatus.HEALTHY,
  HealthStatus.DEGRADED,
  HealthStatus.CRITICAL,
  HealthStatus.MAINTENANCE,
  HealthStatus.ORPHANED,
] as const;

export const namespaceHealth: VerbFunction = async ({ flags, out, client, viewer }) => {
  const { namespace, namespacePrefix } = namespaceScope(flags);
  const filter = { ...viewer, namespace, namespacePrefix };
  const entries = await readAll(client(), filter);
  const summaries = await readSummaries(client(), filter);
  const groups = Map.groupBy(entries, ({ key }) => key?.namespace ?? "");
  // Requested namespaces, and namespaces with summaries from other clusters, have a row even if they have no entries.
  const others = summaries?.byNamespace.keys() ?? [];
  for (const each of [...(namespace === "" ? [] : [namespace]), ...others]) if (!groups.has(each)) groups.set(each, []);
  const isWanted = ([, group]: readonly [string, readonly Entry[]]) =>
    !flags.isOn("unhealthy") || group.some(({ health }) => health !== HealthStatus.HEALTHY);
  const wanted = [...groups].filter(isWanted).toSorted(([a], [b]) => (a < b ? -1 : 1));
  const namespaces: ReportRow[] = [];
  for (let at = 0; at < wanted.length; at += MAX_CALLS)
    namespaces.push(...(await Promise.all(wanted.slice(at, at + MAX_CALLS).map((group) => rowOf(client(), group, summaries)))));
  out.document({ namespaces }, { columns: COLUMNS, rows: namespaces });
};

interface KnownSummaries {
  /** The server's cluster. */
  readonly own: string;
  readonly byNamespace: ReadonlyMap<string, readonly ServiceSummary[]>;
}

/** Returns all summaries that match a filter, or undefined if the server does not store summaries. */
async function readSummaries(client: ClientCalls, filter: ReportFilter): Promise<KnownSummaries | undefined> {
  const items: ServiceSummary[] = [];
  const { summaryQuery } = DiscoveryService.method;
  const read = (pageToken: string) => client.call(summaryQuery, { ...filter, limit: MAX_PAGE, pageToken });
  try {
    // A node without cluster keys rejects requests only for this scope. It still provides summaries of its own cluster.
    await client.call(summaryQuery, { ...filter, scope: Scope.GLOBAL, limit: 1 });
    for await (const page of pagesOf(read)) items.push(...page.items);
  } catch (error) {
    if (error instanceof RequestError && error.facts.code === "FAILED_PRECONDITION") return undefined;
    throw error;
  }
  const { clusterId: own } = await client.call(DiscoveryService.method.serverInfo, {});
  return { own, byNamespace: Map.groupBy(items, ({ namespace }) => namespace) };
}

type ReportFilter = Pick<MessageInitShape<typeof SummaryQueryRequestSchema>, "namespace" | "namespacePrefix" | "viewer">;
type ReportRow = Awaited<ReturnType<typeof rowOf>>;

/** The report on a namespace, in JSON form. */
async function rowOf(
  client: ClientCalls,
  [namespace, entries]: readonly [string, readonly Entry[]],
  summaries: KnownSummaries | undefined,
) {
  const status = await client.call(DiscoveryService.method.namespaceStatus, { namespace });
  const { owners, exportScopes, policyVersion, allowed, reason } = status;
  const countOf = (health: HealthStatus): number => entries.filter((entry) => entry.health === health).length;
  return {
    namespace,
    services: servicesIn(entries).size,
    entries: entries.length,
    health: Object.fromEntries(HEALTHS.map((health) => [enumWord(HealthStatus, health), countOf(health)])),
    clusters: [...new Set(entries.map(({ key }) => key?.clusterId ?? ""))].toSorted(),
    owners,
    exportScopes: exportScopes.map((scope) => enumWord(Scope, scope)),
    policyVersion,
    allowed,
    reason,
    ...(summaries !== undefined && { summaries: exportsOf(entries, summaries.byNamespace.get(namespace) ?? [], summaries.own, status) }),
  };
}

/** Returns the numbers of exported and withheld services in the server's cluster, and the clusters whose summaries are stale. */
function exportsOf(entries: readonly Entry[], held: readonly ServiceSummary[], own: string, status: NamespaceStatusResponse) {
  const here = servicesIn(entries.filter(({ key }) => key?.clusterId === own));
  const exported = new Set(held.filter(({ sourceCluster }) => sourceCluster === own).map(({ kind, serviceId }) => `${kind} ${serviceId}`));
  const isStale = ({ stale, sourceCluster }: ServiceSummary) => stale && sourceCluster !== own;
  return {
    exported: Number(status.summariesExported),
    withheld: here.difference(exported).size,
    exportAllowed: status.exportAllowed,
    exportReason: status.exportReason,
    policyNumber: Number(status.policyNumber),
    policyRule: status.policyRule,
    received: held.filter(({ sourceCluster }) => sourceCluster !== own).length,
    staleSources: [...new Set(held.filter(isStale).map(({ sourceCluster }) => sourceCluster))].toSorted(),
  };
}

/** The kind and name of each service that summaries cover. */
function servicesIn(entries: readonly Entry[]): Set<string> {
  return new Set(entries.flatMap(({ key }) => (key === undefined || key.kind === EntryKind.NODE ? [] : [`${key.kind} ${key.name}`])));
}

const COLUMNS: readonly TableColumn<ReportRow>[] = [
  { title: "NAMESPACE", text: ({ namespace }) => namespace },
  { title: "SERVICES", text: ({ services }) => String(services) },
  { title: "ENTRIES", text: ({ entries }) => String(entries) },
  ...HEALTHS.map((each) => enumWord(HealthStatus, each)).map((word) => ({
    title: word.toUpperCase(),
    text: ({ health }: ReportRow) => String(health[word] ?? 0),
  })),
  { title: "EXPORTED", text: ({ summaries }) => (summaries === undefined ? "-" : String(summaries.exported)) },
  { title: "WITHHELD", text: withheldText },
  { title: "STALE", text: ({ summaries }) => summaries?.staleSources.join(", ") || "-" },
  { title: "OWNERS", text: ({ owners }) => (owners.length === 0 ? "-" : owners.join(", ")) },
  { title: "CLUSTERS", isWide: true, text: ({ clusters }) => clusters.join(", ") },
  { title: "EXPORTS", isWide: true, text: ({ exportScopes }) => exportScopes.join(", ") },
  { title: "POLICY", isWide: true, text: ({ policyVersion }) => policyVersion },
  { title: "VERDICT", text: ({ allowed }) => (allowed ? "allowed" : "denied") },
  { title: "REASON", text: ({ reason }) => reason },
];

/**
 * Returns the number of services without a summary, and the policy rule that withholds them. If the policy allows the export, either the scope of the
 * entries is narrower or no node exports summaries.
 */
function withheldText({ summaries }: ReportRow): string {
  if (summaries === undefined || summaries.withheld === 0) return "-";
  const { withheld, exportAllowed, exportReason, policyNumber, policyRule } = summaries;
  if (exportAllowed) return `${withheld}: scope too narrow, or no exporter`;
  const policy = policyNumber === 0 ? "" : `, policy ${policyNumber}${policyRule === "" ? "" : ` by ${policyRule}`}`;
  return `${withheld}: ${exportReason || "unknown reason"}${policy}`;
}
