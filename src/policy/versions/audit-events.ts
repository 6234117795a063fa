/** The audit events of a policy version that was applied here or taken from another node. */
import { counted } from "../../lib/text/visible-text.ts";
import { type AuditEvent, subjectOf } from "../audit/record.ts";
import type { PolicyVersion, PolicyVia, VersionFacts } from "./version.ts";

interface Applied {
  readonly version: PolicyVersion;
  /** Checksum of the version that was the newest before. */
  readonly before: string;
  readonly reason: "applied" | "rolled_back";
  readonly actor: { readonly principal: string; readonly tenant: string; readonly address: string };
  readonly wallMs: number;
}

interface Taken {
  readonly version: PolicyVersion;
  /** Checksum of the version that was the newest before. */
  readonly before: string;
  /** The version of the same number that it replaced. */
  readonly superseded: VersionFacts | undefined;
  /** Describes that conflict. */
  readonly conflict: string;
  readonly via: PolicyVia;
  readonly wallMs: number;
}

const TOLD = { kind: "policy", namespace: "", outcome: "allowed", rule: "", requestId: "" } as const;

export function appliedEvent({ version, before, reason, actor, wallMs }: Applied): AuditEvent {
  const { number, ruleCount, checksum } = version;
  const { principal, tenant, address } = actor;
  const action = reason === "applied" ? "policy.apply" : "policy.rollback";
  const detail = detailOf(`version ${number} with ${counted(ruleCount, "rule")}`, version);
  const subjects = subjectOf("policy", number);
  return { ...TOLD, atWallMs: wallMs, principal, tenant, source: address, action, reason, before, after: checksum, detail, subjects };
}

/** The events of the version that was taken, and of the version that lost to it. */
export function takenEvents({ version, before, superseded, conflict, via, wallMs }: Taken): readonly AuditEvent[] {
  const { number, ruleCount, nodeId, principal, checksum } = version;
  const told = { ...TOLD, atWallMs: wallMs, tenant: "", source: "", after: checksum, subjects: subjectOf("policy", number) };
  const from = `adopted from node ${nodeId} through node ${via.nodeId} of cluster ${via.clusterId}`;
  const detail = detailOf(`version ${number} with ${counted(ruleCount, "rule")}, ${from}`, version);
  const taken: AuditEvent = { ...told, principal, action: "policy.adopt", reason: "adopted", before, detail };
  if (superseded === undefined) return [taken];
  const lost = { principal: superseded.principal, action: "policy.supersede", reason: "superseded" };
  return [taken, { ...told, ...lost, before: superseded.checksum, detail: conflict }];
}

function detailOf(what: string, { reason, changeTicket }: PolicyVersion): string {
  return [what, reason, changeTicket && `ticket ${changeTicket}`].filter((part) => part !== "").join("; ");
}
