/** `/sd/prometheus`: SERVICE entries as Prometheus http_sd target groups (https://prometheus.io/docs/prometheus/latest/http_sd/). */

import { PROTOCOL_BOUNDS, parseName, parseNamespace } from "../catalog/entry/names.ts";
import { SCOPE_NAMES } from "../catalog/entry/scope.ts";
import type { EntryView } from "../catalog/entry/view.ts";
import { ANY } from "../catalog/query/filter.ts";
import { KIND } from "../catalog/record/record.ts";
import type { Reads } from "../discovery/reads.ts";
import { hostPort } from "../lib/addresses.ts";
import type { Route } from "./service.ts";

/** By number. */
const HEALTH_TEXT = ["unspecified", "healthy", "degraded", "critical", "maintenance", "orphaned"] as const;

/** The body is sent in pieces of about this many characters, so that a large catalog neither blocks the event loop nor fills the memory. */
const PIECE_CHARS = 64 * 1024;

/**
 * The list has every SERVICE entry that a query would show to the caller. It is refused while the node may hold only a part of the catalog:
 * Prometheus keeps its targets when a request fails, and drops those that a list lacks.
 */
export function prometheusRoute({ reads, checkCaughtUp }: { readonly reads: Reads; readonly checkCaughtUp: () => void }): Route {
  return {
    path: "/sd/prometheus",
    parameters: ["namespace", "tag"],
    isScraped: true,
    rpc: () => "catalogQuery",
    answer: ({ namespace, tag }, { caller }) => {
      const filter = {
        ...ANY,
        // The bounds are those of stored entries, which may be wider than those of this node's own clients.
        namespace: namespace === undefined ? "" : parseNamespace(namespace, "namespace", PROTOCOL_BOUNDS),
        tags: tag === undefined ? [] : [parseName(tag, "tag", PROTOCOL_BOUNDS)],
        kindMask: 1 << KIND.SERVICE,
      };
      checkCaughtUp();
      return { kind: "pieces", pieces: renderTargetGroups(reads.scan(caller, filter)) };
    },
  };
}

/** The JSON document in pieces. It reads `entries` only as far as its own reader has asked. */
export function* renderTargetGroups(entries: Iterable<EntryView>): Generator<string> {
  let piece = "[";
  let separator = "";
  for (const entry of entries) {
    piece += separator + JSON.stringify(targetGroup(entry));
    separator = ",\n";
    if (piece.length < PIECE_CHARS) continue;
    yield piece;
    piece = "";
  }
  yield `${piece}]\n`;
}

interface TargetGroup {
  readonly targets: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
}

function targetGroup(entry: EntryView): TargetGroup {
  const labels: Record<string, string> = {
    __meta_waymark_namespace: entry.key.namespace,
    __meta_waymark_name: entry.key.name,
    __meta_waymark_instance: entry.key.instanceId,
    __meta_waymark_cluster: entry.key.clusterId,
    __meta_waymark_region: entry.region,
    __meta_waymark_zone: entry.zone,
    __meta_waymark_node: entry.nodeId,
    __meta_waymark_scope: SCOPE_NAMES[entry.scope],
    __meta_waymark_health: HEALTH_TEXT[entry.health],
    // The commas at both ends let `.*,blue,.*` match a tag at any place.
    __meta_waymark_tags: entry.tags.length === 0 ? "" : `,${entry.tags.join(",")},`,
  };
  for (const [key, value] of Object.entries(entry.metadata)) labels[`__meta_waymark_metadata_${labelName(key)}`] = value;
  return { targets: entry.targets.map(({ host, port }) => hostPort(host, port)), labels };
}

/** Replaces characters that a label name may not have by `_`. If two keys become the same name, the later one wins. */
function labelName(key: string): string {
  return key.replaceAll(/[^A-Za-z0-9_]/g, "_");
}
