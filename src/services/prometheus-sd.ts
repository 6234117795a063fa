/** `/sd/prometheus`: serves SERVICE entries as Prometheus http_sd target groups (https://prometheus.io/docs/prometheus/latest/http_sd/). */

import { PROTOCOL_BOUNDS, parseName, parseNamespace } from "../catalog/entry/names.ts";
import { SCOPE_NAMES } from "../catalog/entry/scope.ts";
import type { TargetView } from "../catalog/entry/view.ts";
import { hasPort, transportOf } from "../catalog/entry/view.ts";
import { ANY } from "../catalog/query/filter.ts";
import { type CatalogRecord, KIND, keyParts, viewHealth } from "../catalog/record/record.ts";
import type { CatalogReads } from "../discovery/reads.ts";
import { hostPort } from "../lib/addresses.ts";
import { invalid } from "../lib/errors.ts";
import { protocolWord } from "../lib/protocols.ts";
import { visibleJson } from "../lib/text/visible-text.ts";
import type { HttpRoute } from "./service.ts";

/** Health names, indexed by number. */
const HEALTH_TEXT = ["unspecified", "healthy", "degraded", "critical", "maintenance", "orphaned"] as const;

const MAX_PROTOCOL_CHARS = 32;

/**
 * Lists the ports of every SERVICE entry that a query would show to the caller. Rejects the request while the node may have only part of the catalog:
 * Prometheus keeps its targets when a request fails, and drops targets that a successful response does not list.
 */
export function prometheusRoute({ reads, checkCaughtUp }: { readonly reads: CatalogReads; readonly checkCaughtUp: () => void }): HttpRoute {
  return {
    path: "/sd/prometheus",
    parameters: ["namespace", "tag", "protocol"],
    isScraped: true,
    rpc: "catalogQuery",
    answer: ({ namespace, tag, protocol }, { caller }) => {
      const filter = {
        ...ANY,
        // The limits for stored entries apply, which may be wider than the limits for this node's own clients.
        namespace: namespace === undefined ? "" : parseNamespace(namespace, "namespace", PROTOCOL_BOUNDS),
        tags: tag === undefined ? [] : [parseName(tag, "tag", PROTOCOL_BOUNDS)],
        kindMask: 1 << KIND.SERVICE,
      };
      const isShown = portFilter(protocol);
      checkCaughtUp();
      return { kind: "pieces", pieces: renderTargetGroups(reads, reads.scan(caller, filter), isShown) };
    },
  };
}

type PortFilter = (port: Pick<TargetView, "protocol">) => boolean;

/** Returns a filter for ports with one protocol. Without a protocol, it accepts all ports that Prometheus can connect to, which excludes UDP. */
function portFilter(protocol: string | undefined): PortFilter {
  if (protocol === undefined) return (port) => transportOf(port) !== "udp";
  if (protocol === "" || protocol.length > MAX_PROTOCOL_CHARS)
    throw invalid("protocol", `must have 1 to ${MAX_PROTOCOL_CHARS} characters, such as udp or http; got ${protocol.length} characters`);
  const wanted = protocol.toLowerCase();
  return (port) => protocolWord(port.protocol) === wanted;
}

/** Yields the JSON document in pieces, with one piece per slice of records. The next slice is read only when the next piece is requested. */
function* renderTargetGroups(
  reads: Pick<CatalogReads, "entry">,
  slices: Iterable<readonly CatalogRecord[]>,
  isShown: PortFilter,
): Generator<string> {
  let piece = "[";
  let separator = "";
  for (const records of slices) {
    for (const record of records) {
      const entry = reads.entry(record);
      const shown = entry.targets.filter((port) => hasPort(port) && isShown(port));
      if (shown.length === 0) continue;
      const labels = JSON.stringify(labelsOf(record, entry.read("metadata"))).slice(0, -"}".length);
      for (const port of shown) {
        piece += `${separator}${targetGroup(port, labels)}`;
        separator = ",\n";
      }
    }
    yield visibleJson(piece);
    piece = "";
  }
  yield `${piece}]\n`;
}

/** Returns the JSON of one group. `labels` is the JSON of the labels that all ports of the entry share, without the closing brace. */
function targetGroup(port: TargetView, labels: string): string {
  const address = JSON.stringify(hostPort(port.host, port.port));
  const [name, protocol] = [JSON.stringify(port.name), JSON.stringify(protocolWord(port.protocol))];
  return `{"targets":[${address}],"labels":${labels},"__meta_waymark_port_name":${name},"__meta_waymark_port_protocol":${protocol}}}`;
}

function labelsOf(record: CatalogRecord, metadata: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  const { traits } = record;
  const key = keyParts(record.key);
  const labels: Record<string, string> = {
    __meta_waymark_namespace: key.namespace,
    __meta_waymark_name: key.name,
    __meta_waymark_instance: key.instanceId,
    __meta_waymark_cluster: key.clusterId,
    __meta_waymark_region: traits.region,
    __meta_waymark_zone: traits.zone,
    __meta_waymark_node: traits.nodeId,
    __meta_waymark_scope: SCOPE_NAMES[record.scope],
    __meta_waymark_health: HEALTH_TEXT[viewHealth(record)],
    // The commas at both ends let `.*,blue,.*` match a tag at any position.
    __meta_waymark_tags: traits.tags.length === 0 ? "" : `,${traits.tags.join(",")},`,
  };
  for (const [name, value] of Object.entries(metadata)) labels[`__meta_waymark_metadata_${labelName(name)}`] = value;
  return labels;
}

/** Replaces each character that is not allowed in a label name with `_`. If two keys become the same name, the later key wins. */
function labelName(key: string): string {
  return key.replaceAll(/[^A-Za-z0-9_]/g, "_");
}
