/** What the audit says of a policy version that came from another node. */
import type { PolicyVia } from "../fabric/io-types.ts";
import type { Time } from "../lib/machine.ts";
import type { AuditSink } from "../policy/audit/record.ts";
import type { PolicyVersion, VersionFacts } from "../policy/versions/version.ts";

export interface Taken {
  readonly version: PolicyVersion;
  /** Checksum of what was the newest before. */
  readonly before: string;
  /** The version of the same number that it took the place of. */
  readonly superseded: VersionFacts | undefined;
  /** How that is told. */
  readonly conflict: string;
  readonly via: PolicyVia;
}

export function tellTaken({ audit, now }: { readonly audit: AuditSink; readonly now: () => Time }, taken: Taken): void {
  const { version, before, superseded, conflict, via } = taken;
  const { number, ruleCount, nodeId, principal, checksum, reason, changeTicket } = version;
  const told = { atWallMs: now().wallMs, kind: "policy", tenant: "", source: "", namespace: "", outcome: "allowed", rule: "" } as const;
  const parts = [
    `version ${number} with ${ruleCount} rules, adopted from node ${nodeId} through node ${via.nodeId} of cluster ${via.clusterId}`,
    reason,
    changeTicket && `ticket ${changeTicket}`,
  ];
  const detail = parts.filter((part) => part !== "").join("; ");
  audit.record({ ...told, principal, action: "policy.adopt", reason: "adopted", before, after: checksum, detail });
  if (superseded === undefined) return;
  const lost = { principal: superseded.principal, action: "policy.supersede", reason: "superseded" };
  audit.record({ ...told, ...lost, before: superseded.checksum, after: checksum, detail: conflict });
}
