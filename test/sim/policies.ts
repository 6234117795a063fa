/** Policy in a simulated node: applied by an operator, handed over and taken from links, as the keeper does it. */
import type { PolicyHead } from "../../src/fabric/wire/messages.ts";
import { runThrough } from "../../src/lib/machine.ts";
import type { Rule } from "../../src/policy/set/rules.ts";
import { decodeVersion, encodeVersion } from "../../src/policy/versions/codec.ts";
import { isNewer, isSamePlace } from "../../src/policy/versions/version.ts";
import { rule, set } from "../fakes/policies.ts";
import type { SimNode, SimProcess } from "./sim-node.ts";

/** What an operator may apply; the first allows everything. */
const VARIANTS: readonly (readonly Rule[])[] = [
  [],
  [rule("svc", { visibilityTenants: ["nobody"] })],
  [rule("svc.eu", { visibilityTenants: ["nobody"] }), rule("other", { owners: ["c2"] })],
  [rule("other", { visibility: ["c1"] })],
];

/** Applies a set at a node, unless it is one that no node would take. */
export function applyPolicy(node: SimNode, variant: number): void {
  const { process } = node;
  process?.whenHeard(() => applyNow(process, variant));
}

function applyNow(process: SimProcess, variant: number): void {
  const wanted = { ...set(VARIANTS[variant % VARIANTS.length] ?? []), defaultAllow: true, version: `v${variant}` };
  const terms = { expectedNumber: 0, stage: undefined, principal: "op", reason: "", changeTicket: "" };
  const version = runThrough(process.policies.stamped(wanted, terms, process.time().wallMs));
  const bytes = encodeVersion(version);
  process.policies.commit(version, bytes.length);
  keep(process, version.number, bytes);
}

/** A version that came over a link. */
export function adoptPolicy(process: SimProcess, head: PolicyHead, bytes: Uint8Array): void {
  process.whenHeard(() => adoptNow(process, head, bytes));
}

function adoptNow(process: SimProcess, head: PolicyHead, bytes: Uint8Array): void {
  const read = decodeVersion(bytes);
  if (!read.ok || !isSamePlace(read.version, head)) {
    process.later({ kind: "policyRefused", head, detail: read.ok ? "another version" : read.fault });
    return;
  }
  if (!isNewer(read.version, process.policies.place)) {
    process.later({ kind: "policy", head: headOf(process) });
    return;
  }
  process.policies.take(read.version, bytes.length);
  keep(process, head.number, bytes);
}

export function headOf({ policies }: SimProcess): PolicyHead {
  const { number, hlc, nodeId, checksum } = policies.place;
  return { number, hlc, nodeId, checksum };
}

function keep(process: SimProcess, number: number, bytes: Uint8Array): void {
  const { disk } = process.node;
  disk.policies = [...disk.policies.filter((row) => row.number !== number), { number, bytes: Uint8Array.from(bytes) }];
  process.switchPolicy();
  process.later({ kind: "policy", head: headOf(process) });
}
