/** Encoded policy versions that nodes hand to each other. */
import type { PolicyHead } from "../../src/fabric/wire/messages.ts";
import { checksumOf } from "../../src/policy/set/rules.ts";
import { encodeVersion } from "../../src/policy/versions/codec.ts";
import type { RolloutStage } from "../../src/policy/versions/version.ts";
import { rule, set } from "./policies.ts";

export interface Version {
  readonly head: PolicyHead;
  readonly bytes: Uint8Array;
}

/** A version with so many rules. */
export function version(number: number, nodeId = "n1", ruleCount = 1, hlc = number * 2048, stage?: RolloutStage): Version {
  const rules = Array.from({ length: ruleCount }, (_, i) => rule(`${nodeId}.x${i}`, { visibilityTenants: ["blue"] }));
  const made = set(rules, { version: `${number} of ${nodeId}` });
  const checksum = checksumOf(made);
  const facts = { number, hlc, nodeId, version: made.version, defaultAllow: false, ruleCount, appliedWallMs: 1, principal: "ann" };
  const rest = { reason: "", changeTicket: "", checksum, lineage: [], stage, changes: [], changesLeftOut: 0, set: made };
  return { head: { number, hlc, nodeId, checksum }, bytes: encodeVersion({ ...facts, ...rest }) };
}
