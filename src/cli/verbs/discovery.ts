/** Verbs that read the catalog: query, watch, resolve, cluster-map, peers, status. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs, durationMs } from "@bufbuild/protobuf/wkt";
import {
  type Entry,
  type EntryKey,
  EntryKeySchema,
  EntryKind,
  EntrySchema,
  HealthStatus,
  Scope,
} from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { type Peer, PeerStatus } from "../../../gen/waymark/catalog/v1/peer_pb.js";
import { HealthBand } from "../../../gen/waymark/catalog/v1/summary_pb.js";
import {
  type CatalogQueryRequestSchema,
  CatalogQueryResponseSchema,
  ClusterMapResponseSchema,
  DiscoveryService,
  type Explanation,
  ListPeersResponseSchema,
  NamespaceStatusResponseSchema,
  type Redirect,
  ResolvePolicy,
  type ResolveResponse,
  ResolveResponseSchema,
  ServerInfoResponseSchema,
} from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { RequestError } from "../../client/request-error.ts";
import type { FollowEvent, UnreachableSample } from "../../consumer/watch-follower.ts";
import { durationText } from "../../lib/duration.ts";
import { enumWord } from "../../lib/enum-words.ts";
import { WaymarkError } from "../../lib/errors.ts";
import { counted } from "../../lib/text/visible-text.ts";
import { CommandError, EXIT, UsageError } from "../exit.ts";
import { type Flags, namespaceScope } from "../flags.ts";
import { type CommandOutput, factTable, type OutputTable, type TableColumn } from "../output.ts";
import { limitOf, noteMore, readPages } from "../pages.ts";
import type { VerbFunction } from "../table/verb.ts";
import { ENTRY_COLUMNS, hiddenByColumns, keyWords, targetText } from "../texts.ts";

type QueryInit = MessageInitShape<typeof CatalogQueryRequestSchema>;

/** The conversion to JSON. It is loaded when it is needed, because loading is slower than a call, and most tables do not need it. */
const messages = () => import("../messages.ts");

export const query: VerbFunction = async ({ args, flags, out, client, viewer }) => {
  const maxStalenessMs = flags.durationMs("maxStaleness");
  const filter: QueryInit = {
    ...(await filterOf(flags, args)),
    ...viewer,
    subject: flags.text("subject") ?? "",
    aliases: [...flags.list("alias")],
    hosts: [...flags.list("host")],
    explain: flags.isOn("explain"),
    maxStalenessStrict: flags.isOn("maxStalenessStrict"),
    ...(maxStalenessMs !== undefined && { maxStaleness: durationFromMs(maxStalenessMs) }),
  };
  const answer = await readPages(flags, ["items", "explanation"], (page) =>
    client().call(DiscoveryService.method.catalogQuery, { ...filter, ...page }),
  );
  const hiddenBy = hiddenByColumns<Entry>(flags, ({ key }) => answer.hiddenBy[key?.namespace ?? ""]);
  const json = out.isMachine ? (await messages()).messageJson(CatalogQueryResponseSchema, answer) : {};
  if (flags.isOn("explain") && !out.isMachine) out.document(json, explanationTable(answer.explanation));
  else out.document(json, { columns: [...ENTRY_COLUMNS, ...hiddenBy], rows: answer.items });
  noteMore(out, answer);
  noteUnreachable(out, answer.unreachableNodes);
};

function noteUnreachable(out: CommandOutput, nodes: UnreachableSample | undefined): void {
  if (nodes === undefined || out.isMachine) return;
  const moreCount = nodes.count - nodes.nodeIds.length;
  const names = `${nodes.nodeIds.join(", ")}${moreCount > 0 ? ` and ${moreCount} more` : ""}`;
  out.note(`recent writes on unreachable nodes may be missing: ${names}`);
}

function explanationTable(rows: readonly Explanation[]): OutputTable<Explanation> {
  return {
    columns: [
      { title: "ENTRY", text: ({ key }) => keyWords(key) },
      { title: "KEPT", text: ({ kept }) => (kept ? "yes" : "no") },
      { title: "REASON", text: ({ reason }) => reason },
      { title: "DETAIL", text: ({ detail }) => detail },
    ],
    rows,
  };
}

interface ResolvedTarget {
  readonly rank: string;
  readonly entry: Entry;
  readonly target: string;
}

export const resolve: VerbFunction = async ({ args, flags, out, client, viewer }) => {
  const [name = ""] = args;
  const region = flags.text("preferRegion");
  const zone = flags.text("preferZone");
  if (flags.text("policy") === "hash" && (flags.text("hashKey") ?? "") === "")
    throw new UsageError("--policy hash requires --hash-key, such as a user id");
  if (flags.text("policy") !== "hash" && flags.text("hashKey") !== undefined) throw new UsageError("--hash-key requires --policy hash");
  const versionRange = await versionRangeOf(flags);
  if (versionRange !== "" && flags.enum("kind", EntryKind) !== EntryKind.FUNCTION)
    throw new UsageError("--version-range requires --kind function, because only functions have versions");
  const namespace = flags.text("namespace") ?? "";
  const request = {
    ...viewer,
    name,
    namespace,
    kind: flags.enum("kind", EntryKind),
    policy: flags.enum("policy", ResolvePolicy),
    versionRange,
    ...((region !== undefined || zone !== undefined) && { prefer: { region: region ?? "", zone: zone ?? "" } }),
    hashKey: flags.text("hashKey") ?? "",
    limit: limitOf(flags) ?? 0,
    explain: flags.isOn("explain"),
  };
  const answer = await client()
    .call(DiscoveryService.method.resolve, request)
    .catch((error: unknown) => {
      if (!(error instanceof RequestError && error.facts.code === "NOT_FOUND")) throw error;
      const advice = `run waymark discovery query --namespace ${namespace} to list the entries that you may see`;
      throw new CommandError(`${error.message}\n${advice}`, EXIT.notFound, error);
    });
  await showResolved(answer, flags, out);
};

async function showResolved(answer: ResolveResponse, flags: Flags, out: CommandOutput): Promise<void> {
  const json = out.isMachine ? (await messages()).messageJson(ResolveResponseSchema, answer) : {};
  const { entry, target, alternatives, redirect } = answer;
  const hiddenBy = hiddenByColumns(flags, () => Object.values(answer.hiddenBy)[0]);
  if (flags.isOn("explain") && !out.isMachine) {
    if (redirect) out.note(`redirect to cluster ${redirect.clusterId}: ${redirect.urls.join(", ")}`);
    out.document(json, explanationTable(answer.explanation));
    return;
  }
  if (redirect) {
    out.document(json, { columns: [...REDIRECT_COLUMNS, ...hiddenBy], rows: [redirect] });
    return;
  }
  const rows: ResolvedTarget[] = [];
  if (entry) rows.push({ rank: "chosen", entry, target: target ? targetText(target) : "" });
  for (const other of alternatives) rows.push({ rank: "next", entry: other, target: other.targets.map(targetText).join(", ") });
  const columns = ENTRY_COLUMNS.filter(({ title }) => title !== "TARGETS").map((column) => ({
    ...column,
    text: (row: ResolvedTarget) => column.text(row.entry),
  }));
  out.document(json, {
    columns: [
      { title: "RANK", text: (row: ResolvedTarget) => row.rank },
      ...columns,
      { title: "TARGET", text: (row: ResolvedTarget) => row.target },
      ...hiddenBy,
    ],
    rows,
  });
}

/** Columns of a redirect to another cluster. */
const REDIRECT_COLUMNS: readonly TableColumn<Redirect>[] = [
  { title: "RANK", text: () => "redirect" },
  { title: "CLUSTER", text: ({ clusterId }) => clusterId },
  { title: "REGION", text: ({ region }) => region },
  { title: "HEALTH", text: ({ band }) => enumWord(HealthBand, band) },
  { title: "STALE", text: ({ stale }) => (stale ? "yes" : "no") },
  { title: "VALID FOR", isWide: true, text: ({ ttl }) => (ttl === undefined ? "" : durationText(Math.round(durationMs(ttl)))) },
  { title: "URLS", text: ({ urls }) => urls.join(", ") },
];

export const clusterMap: VerbFunction = async ({ flags, out, client }) => {
  const filter = {
    scope: flags.enum("scope", Scope),
    namespaceFilter: flags.text("namespace") ?? "",
    capabilities: [...flags.list("capability")],
    resources: [...flags.list("resource")],
  };
  const answer = await readPages(flags, ["nodes"], (page) => client().call(DiscoveryService.method.clusterMap, { ...filter, ...page }));
  const { messageJson } = await messages();
  out.document(messageJson(ClusterMapResponseSchema, answer), {
    columns: [
      { title: "NODE", text: (node: Entry) => node.key?.name ?? "" },
      { title: "CLUSTER", text: ({ key }) => key?.clusterId ?? "" },
      { title: "REGION", text: ({ region }) => region },
      { title: "ZONE", text: ({ zone }) => zone },
      { title: "CAPABILITIES", isWide: true, text: ({ capabilities }) => capabilities.join(",") },
      { title: "RESOURCES", isWide: true, text: ({ resources }) => resources.join(",") },
      { title: "URLS", text: ({ detail }) => (detail.case === "node" ? detail.value.advertisedUrls.join(", ") : "") },
    ],
    rows: answer.nodes,
  });
  noteMore(out, answer);
};

export const peers: VerbFunction = async ({ flags, out, client }) => {
  const filter = { scope: flags.enum("scope", Scope), region: flags.text("region") ?? "" };
  const answer = await readPages(flags, ["peers"], (page) => client().call(DiscoveryService.method.listPeers, { ...filter, ...page }));
  const { messageJson, timeText } = await messages();
  out.document(messageJson(ListPeersResponseSchema, answer), {
    columns: [
      { title: "NODE", text: (peer: Peer) => peer.nodeId || "-" },
      { title: "CLUSTER", text: ({ clusterId }) => clusterId },
      { title: "REGION", text: ({ region }) => region },
      { title: "ZONE", text: ({ zone }) => zone },
      { title: "RELATION", isWide: true, text: ({ scope }) => enumWord(Scope, scope) },
      { title: "STATUS", text: statusWord },
      { title: "LAST SEEN", isWide: true, text: ({ lastSeen }) => timeText(lastSeen) },
      { title: "URLS", text: ({ urls }) => urls.join(", ") },
    ],
    rows: answer.peers,
  });
  noteMore(out, answer);
};

/** The status column. Nodes in other regions are not members and have no status. */
function statusWord({ status: state }: Peer): string {
  return state === PeerStatus.UNSPECIFIED ? "ingress" : enumWord(PeerStatus, state);
}

export const status: VerbFunction = async ({ args, out, client }) => {
  const [namespace] = args;
  const { messageJson } = await messages();
  const json =
    namespace === undefined
      ? messageJson(ServerInfoResponseSchema, await client().call(DiscoveryService.method.serverInfo, {}))
      : messageJson(NamespaceStatusResponseSchema, await client().call(DiscoveryService.method.namespaceStatus, { namespace }));
  out.document(json, factTable(json));
};

interface WatchRow {
  readonly action: "create" | "update" | "remove";
  readonly key: EntryKey;
  readonly entry: Entry | undefined;
  readonly hiddenBy?: string | undefined;
}

const WATCH_COLUMNS: readonly TableColumn<WatchRow>[] = [
  { title: "ACTION", text: ({ action }) => action },
  { title: "NAMESPACE", text: ({ key }) => key.namespace },
  { title: "NAME", text: ({ key }) => key.name },
  { title: "INSTANCE", text: ({ key }) => key.instanceId },
  { title: "HEALTH", text: ({ entry }) => (entry === undefined ? "" : enumWord(HealthStatus, entry.health)) },
  { title: "CLUSTER", isWide: true, text: ({ key }) => key.clusterId },
  { title: "TARGETS", text: ({ entry }) => entry?.targets.map(targetText).join(", ") ?? "" },
];

export const watch: VerbFunction = async ({ environment, args, flags, out, client, viewer }) => {
  const most = flags.count("count", Number.MAX_SAFE_INTEGER) ?? Number.POSITIVE_INFINITY;
  const request = { ...(await filterOf(flags, args)), ...viewer, cursor: flags.text("cursor") ?? "", namesOnly: flags.isOn("namesOnly") };
  const { follow } = await import("../../client/follow.io.ts");
  const { messageJson } = await messages();
  const events = follow(client(), request, {
    signal: environment.interrupt,
    onBreak: (error, waitMs) => out.note(`watch interrupted: ${error.message}; resuming in ${(waitMs / 1000).toFixed(1)} s`),
  });
  const columns = [...WATCH_COLUMNS, ...hiddenByColumns<WatchRow>(flags, (row) => row.hiddenBy)];
  let printed = 0;
  for await (const event of events) {
    out.begun();
    if (event.kind !== "synced") printed += 1;
    print(event, out, columns, messageJson);
    if (printed >= most || (event.kind === "synced" && flags.isOn("untilSynced"))) break;
  }
};

function print(
  event: FollowEvent,
  out: CommandOutput,
  columns: readonly TableColumn<WatchRow>[],
  messageJson: Awaited<ReturnType<typeof messages>>["messageJson"],
): void {
  switch (event.kind) {
    case "put": {
      const { key, entry, deltaId, revision, hiddenBy } = event;
      const action = event.isNew ? "create" : "update";
      const mark = hiddenBy === undefined ? {} : { hiddenBy };
      const json = { event: action, deltaId, revision: String(revision), entry: messageJson(EntrySchema, entry), ...mark };
      return out.line(json, { columns, rows: [{ action, key, entry, hiddenBy }] });
    }
    case "remove": {
      const { key, deltaId, revision } = event;
      const json = { event: "remove", deltaId, revision: String(revision), key: messageJson(EntryKeySchema, key) };
      return out.line(json, { columns, rows: [{ action: "remove", key, entry: undefined }] });
    }
    case "synced": {
      const { isSnapshot, cursor, revision, heldCount, unreachable } = event;
      const unreachableNodes = unreachable && { unreachableNodes: { nodeIds: unreachable.nodeIds, count: unreachable.count } };
      out.line({ event: "synced", snapshot: isSnapshot, count: heldCount, revision: String(revision), cursor, ...unreachableNodes });
      if (isSnapshot && !out.isMachine) out.note(`${counted(heldCount, "entry", "entries")} listed; following changes`);
    }
  }
}

/** Returns the filter flags of query and watch as fields of the requests. Positional arguments are names. */
async function filterOf(flags: Flags, names: readonly string[]) {
  return {
    ...namespaceScope(flags),
    names: [...names],
    kinds: flags.enums("kind", EntryKind),
    scope: flags.enum("scope", Scope),
    tags: [...flags.list("tag")],
    capabilities: [...flags.list("capability")],
    resources: [...flags.list("resource")],
    clusterId: flags.text("clusterId") ?? "",
    region: flags.text("region") ?? "",
    health: flags.enums("health", HealthStatus),
    versionRange: await versionRangeOf(flags),
  };
}

/** Returns `--version-range`, checked according to the server's rules before a request is sent. */
async function versionRangeOf(flags: Flags): Promise<string> {
  const text = flags.text("versionRange") ?? "";
  if (text === "") return "";
  const { VersionRange } = await import("../../lib/versions.ts");
  try {
    return new VersionRange(text).text;
  } catch (error) {
    const [violation] = error instanceof WaymarkError ? (error.details.violations ?? []) : [];
    if (violation === undefined) throw error;
    throw new UsageError(`invalid --version-range ${text}: ${violation.description}`);
  }
}
