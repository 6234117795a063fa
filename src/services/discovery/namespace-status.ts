/** DiscoveryService.NamespaceStatus: the policy and the entry count of a namespace, and the summaries that this cluster exports for it. */
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { type NamespaceStatusRequest, NamespaceStatusResponseSchema } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import type { CatalogReads } from "../../discovery/reads.ts";
import type { Time } from "../../lib/machine.ts";
import { exportScopesAt } from "../../policy/set/rules.ts";
import { HIDDEN_REASON } from "../../policy/set/verdict.ts";
import type { CallContext } from "../service.ts";
import type { PeerDirectory } from "./answer-age.ts";
import { freshness, wireScope } from "./nodes.ts";

/** The summaries that the node's cluster exports for a namespace, and whether policy allows the export. */
export interface NamespaceExports {
  readonly count: number;
  /** Undefined if no export of the namespace is on record. */
  readonly lastWallMs: number | undefined;
  readonly allowed: boolean;
  readonly reason: string;
}

export interface StatusParts {
  readonly reads: CatalogReads;
  readonly identity: { readonly nodeId: string };
  readonly mesh: Pick<PeerDirectory, "ageMs" | "unreachable">;
  /** Absent on a node without summaries. */
  readonly exportsOf?: ((namespace: string, time: Time) => NamespaceExports) | undefined;
}

export function namespaceStatus(parts: StatusParts, { namespace }: NamespaceStatusRequest, context: CallContext) {
  const { reads, exportsOf } = parts;
  const { verdict, version, rule, number } = reads.rule(context.caller, namespace);
  const { allowed } = verdict;
  const exports = allowed ? exportsOf?.(namespace, context.time) : undefined;
  return create(NamespaceStatusResponseSchema, {
    namespace,
    policyVersion: version,
    policyNumber: BigInt(number),
    policyRule: rule?.pattern ?? "",
    owners: [...(rule?.owners ?? [])],
    exportScopes: rule === undefined ? [] : exportScopesAt(rule, context.time.wallMs).map(wireScope),
    summariesExported: BigInt(exports?.count ?? 0),
    ...(exports?.lastWallMs !== undefined && { lastExportAt: timestampFromMs(exports.lastWallMs) }),
    exportAllowed: exports?.allowed ?? false,
    exportReason: exports?.reason ?? "",
    allowed,
    reason: allowed ? verdict.reason : HIDDEN_REASON,
    endpointCount: BigInt(allowed ? reads.replica.lookup.namespaceCount(namespace) : 0),
    ...freshness(parts, context),
  });
}
