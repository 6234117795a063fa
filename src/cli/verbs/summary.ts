/** Implements `discovery summary`: shows the service summaries that clusters publish. */
import { EntryKeySchema, EntryKind, Scope } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { HealthBand, type ServiceSummary, ServiceSummarySchema } from "../../../gen/waymark/catalog/v1/summary_pb.js";
import { DiscoveryService } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { SummaryQueryResponseSchema } from "../../../gen/waymark/discovery/v1/summary_pb.js";
import { followSummaries } from "../../client/follow.io.ts";
import { RequestError } from "../../client/request-error.ts";
import type { FollowEvent } from "../../consumer/watch-follower.ts";
import { enumWord } from "../../lib/enum-words.ts";
import { counted } from "../../lib/text/visible-text.ts";
import { CommandError, EXIT, UsageError } from "../exit.ts";
import { type Flags, namespaceScope } from "../flags.ts";
import { messageJson } from "../messages.ts";
import type { CommandOutput, TableColumn } from "../output.ts";
import { noteMore, readPages } from "../pages.ts";
import type { VerbContext, VerbFunction } from "../table/verb.ts";
import { HOLDS_NONE } from "../texts.ts";

const SUMMARY_COLUMNS: readonly TableColumn<ServiceSummary>[] = [
  { title: "NAMESPACE", text: ({ namespace }) => namespace },
  { title: "SERVICE", text: ({ serviceId }) => serviceId },
  { title: "KIND", isWide: true, text: ({ kind }) => enumWord(EntryKind, kind) },
  { title: "CLUSTER", text: ({ sourceCluster }) => sourceCluster },
  { title: "REGIONS", text: ({ regions }) => regions.join(",") },
  { title: "SCOPE", text: ({ scope }) => enumWord(Scope, scope) },
  { title: "ENDPOINTS", text: ({ endpointCount }) => String(endpointCount) },
  { title: "HEALTH", text: ({ healthBand }) => bandWord(healthBand) },
  { title: "LATENCY MS", isWide: true, text: latencyText },
  { title: "STALE", text: ({ stale }) => (stale ? "yes" : "no") },
  { title: "VERSION", isWide: true, text: ({ version }) => String(version) },
];

function bandWord(band: HealthBand): string {
  return enumWord(HealthBand, band);
}

function latencyText({ latencyBandMs: band }: ServiceSummary): string {
  return band === undefined ? "" : `${band.min}-${band.max}`;
}

export const summary: VerbFunction = async (context) => {
  try {
    await show(context);
  } catch (error) {
    if (!(error instanceof RequestError) || error.facts.code !== "UNIMPLEMENTED") throw error;
    throw new CommandError(`${error.message}\nit ${HOLDS_NONE}`, EXIT.failed, error);
  }
};

const show: VerbFunction = async (context) => {
  const { args, flags } = context;
  const [serviceId = ""] = args;
  if (flags.isOn("watch")) {
    const isPaged = flags.text("limit") !== undefined || flags.text("pageToken") !== undefined;
    if (serviceId !== "" || flags.isOn("ingress") || flags.isOn("byRegion") || isPaged)
      throw new UsageError("--watch cannot be combined with a service, --ingress, --by-region, --limit or --page-token");
    await watch(context);
    return;
  }
  if (flags.text("cursor") !== undefined || flags.text("count") !== undefined || flags.isOn("untilSynced"))
    throw new UsageError("--cursor, --count and --until-synced require --watch");
  await query(context, serviceId);
};

async function query({ flags, out, client, viewer }: VerbContext, serviceId: string): Promise<void> {
  const asked = { ...filterOf(flags), ...viewer, serviceId, includeIngress: flags.isOn("ingress") };
  const ingress = {};
  const answer = await readPages(flags, ["items"], async (page) => {
    const said = await client().call(DiscoveryService.method.summaryQuery, { ...asked, ...page });
    Object.assign(ingress, said.ingress);
    return said;
  });
  Object.assign(answer.ingress, ingress);
  const json = messageJson(SummaryQueryResponseSchema, answer);
  const urlsOf = ({ sourceCluster }: ServiceSummary) => answer.ingress[sourceCluster]?.urls ?? [];
  if (flags.isOn("byRegion")) {
    const rows = summedByRegion(answer.items);
    const urls: TableColumn<RegionSum> = { title: "INGRESS", text: ({ items }) => items.flatMap(urlsOf).join(", ") };
    const { items: _, ingress: byCluster, ...rest } = json;
    const sums = { sums: rows.map(sumJson), ...(asked.includeIngress && { ingress: byCluster ?? {} }), ...rest };
    out.document(sums, { columns: asked.includeIngress ? [...REGION_COLUMNS, urls] : REGION_COLUMNS, rows });
  } else {
    const urls: TableColumn<ServiceSummary> = { title: "INGRESS", text: (item) => urlsOf(item).join(", ") };
    out.document(json, { columns: asked.includeIngress ? [...SUMMARY_COLUMNS, urls] : SUMMARY_COLUMNS, rows: answer.items });
  }
  noteMore(out, answer);
}

/** The sum of a service's summaries in one set of regions, over all clusters. */
interface RegionSum {
  readonly namespace: string;
  readonly serviceId: string;
  readonly kind: EntryKind;
  readonly regions: string;
  readonly items: ServiceSummary[];
}

const REGION_COLUMNS: readonly TableColumn<RegionSum>[] = [
  { title: "REGIONS", text: ({ regions }) => regions },
  { title: "NAMESPACE", text: ({ namespace }) => namespace },
  { title: "SERVICE", text: ({ serviceId }) => serviceId },
  { title: "KIND", isWide: true, text: ({ kind }) => enumWord(EntryKind, kind) },
  { title: "ENDPOINTS", text: (sum) => String(endpointsOf(sum)) },
  {
    title: "CLUSTERS",
    text: ({ items }) => items.map(({ sourceCluster, healthBand }) => `${sourceCluster} ${bandWord(healthBand)}`).join(", "),
  },
  { title: "STALE", text: (sum) => `${staleCountOf(sum)} of ${sum.items.length}` },
];

function endpointsOf({ items }: RegionSum): number {
  return items.reduce((sum, { endpointCount }) => sum + endpointCount, 0);
}

function staleCountOf({ items }: RegionSum): number {
  return items.filter(({ stale }) => stale).length;
}

function sumJson(sum: RegionSum) {
  const { namespace, serviceId, kind, items } = sum;
  return {
    regions: items[0]?.regions ?? [],
    namespace,
    serviceId,
    kind: enumWord(EntryKind, kind),
    endpointCount: endpointsOf(sum),
    staleCount: staleCountOf(sum),
    clusters: items.map(({ sourceCluster, endpointCount, healthBand, stale }) => {
      return { sourceCluster, endpointCount, healthBand: bandWord(healthBand), stale };
    }),
  };
}

/**
 * One row per service and set of regions. If a cluster has several summaries of a service, the summary with the most endpoints is used, because the
 * others cover parts of it.
 */
function summedByRegion(items: readonly ServiceSummary[]): readonly RegionSum[] {
  const sums = new Map<string, RegionSum>();
  for (const item of items) {
    const { namespace, serviceId, kind, sourceCluster, endpointCount } = item;
    const regions = item.regions.join(",");
    const id = [regions, namespace, serviceId, kind].join("\0");
    const sum = sums.get(id) ?? { namespace, serviceId, kind, regions, items: [] };
    sums.set(id, sum);
    const at = sum.items.findIndex((other) => other.sourceCluster === sourceCluster);
    if (at < 0) sum.items.push(item);
    else if ((sum.items[at]?.endpointCount ?? 0) < endpointCount) sum.items[at] = item;
  }
  return [...sums.keys()].toSorted().flatMap((id) => sums.get(id) ?? []);
}

async function watch({ environment, flags, out, client, viewer }: VerbContext): Promise<void> {
  const most = flags.count("count", Number.MAX_SAFE_INTEGER) ?? Number.POSITIVE_INFINITY;
  const request = { ...filterOf(flags), ...viewer, cursor: flags.text("cursor") ?? "" };
  const events = followSummaries(client(), request, {
    signal: environment.interrupt,
    onBreak: (error, waitMs) => out.note(`watch interrupted: ${error.message}; resuming in ${(waitMs / 1000).toFixed(1)} s`),
  });
  let printed = 0;
  for await (const event of events) {
    out.begun();
    if (event.kind !== "synced") printed += 1;
    print(event, out);
    if (printed >= most || (event.kind === "synced" && flags.isOn("untilSynced"))) break;
  }
}

interface ChangeRow {
  readonly action: "create" | "remove" | "update";
  readonly words: readonly string[];
}

const CHANGE_COLUMNS: readonly TableColumn<ChangeRow>[] = [
  { title: "ACTION", text: ({ action }) => action },
  ...["NAMESPACE", "SERVICE", "CLUSTER", "SCOPE", "ENDPOINTS", "HEALTH", "STALE"].map((title, i) => ({
    title,
    text: ({ words }: ChangeRow) => words[i] ?? "",
  })),
];

function print(event: FollowEvent<ServiceSummary>, out: CommandOutput): void {
  switch (event.kind) {
    case "put": {
      const { key, entry, deltaId, revision } = event;
      const action = event.isNew ? "create" : "update";
      const json = { event: action, deltaId, revision: String(revision), summary: messageJson(ServiceSummarySchema, entry) };
      const said = [String(entry.endpointCount), bandWord(entry.healthBand), entry.stale ? "yes" : "no"];
      return out.line(json, {
        columns: CHANGE_COLUMNS,
        rows: [{ action, words: [key.namespace, key.name, key.clusterId, key.instanceId, ...said] }],
      });
    }
    case "remove": {
      const { key, deltaId, revision } = event;
      const json = { event: "remove", deltaId, revision: String(revision), key: messageJson(EntryKeySchema, key) };
      const words = [key.namespace, key.name, key.clusterId, key.instanceId];
      return out.line(json, { columns: CHANGE_COLUMNS, rows: [{ action: "remove", words }] });
    }
    case "synced": {
      const { isSnapshot, cursor, revision, heldCount } = event;
      out.line({ event: "synced", snapshot: isSnapshot, count: heldCount, revision: String(revision), cursor });
      if (isSnapshot && !out.isMachine) out.note(`${counted(heldCount, "summary", "summaries")} listed; following changes`);
    }
  }
}

/** Returns the filter fields for both calls. */
function filterOf(flags: Flags) {
  return {
    ...namespaceScope(flags),
    kinds: flags.enums("kind", EntryKind),
    scope: flags.enum("scope", Scope),
    regions: [...flags.list("region")],
  };
}
