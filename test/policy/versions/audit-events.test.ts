import { expect, test } from "vitest";
import { decodeVersion } from "../../../src/policy/versions/codec.ts";
import { appliedEvent, takenEvents } from "../../../src/policy/versions/policy-store.ts";
import type { PolicyVersion } from "../../../src/policy/versions/version.ts";
import { version } from "../../fakes/policy-versions.ts";

const ACTOR = { principal: "bob", tenant: "ops", address: "192.0.2.1", tokenId: "cert:01" };
const VIA = { nodeId: "m", clusterId: "eu-2" };

function made(number: number, fields: Partial<PolicyVersion> = {}): PolicyVersion {
  const read = decodeVersion(version(number).bytes);
  if (!read.ok) throw new Error(read.fault);
  return { ...read.version, ...fields };
}

test.each([
  ["applied", {}, "policy.apply", "version 2 with 1 rule"],
  ["applied", { reason: "why", changeTicket: "T-1" }, "policy.apply", "version 2 with 1 rule; why"],
  ["rolled_back", { reason: "why" }, "policy.rollback", "version 2 with 1 rule; why"],
] as const)("the audit says who put a version in force, how and why: %s %o", (reason, fields, action, detail) => {
  const applied = made(2, fields);
  expect(appliedEvent({ version: applied, before: "b", reason, actor: ACTOR, wallMs: 7 })).toMatchObject({
    atWallMs: 7,
    kind: "policy",
    principal: "bob",
    tenant: "ops",
    source: "192.0.2.1",
    action,
    outcome: "allowed",
    reason,
    before: "b",
    after: applied.checksum,
    detail,
    tokenId: "cert:01",
    ticket: applied.changeTicket,
  });
});

test("the audit says by whose way a version came, and whose it took the place of", () => {
  const [taken, lost] = [made(2), made(1, { principal: "carl", checksum: "lost" })];
  const terms = { version: taken, before: "b", conflict: "one lost", via: VIA, wallMs: 7 };
  const detail = "version 2 with 1 rule, adopted from node n1 through node m of cluster eu-2";
  const adopted = { action: "policy.adopt", principal: "ann", source: "", before: "b", after: taken.checksum, detail };
  expect(takenEvents({ ...terms, superseded: undefined })).toMatchObject([adopted]);
  expect(takenEvents({ ...terms, superseded: lost })).toMatchObject([
    adopted,
    { action: "policy.supersede", principal: "carl", before: "lost", after: taken.checksum, detail: "one lost" },
  ]);
});
