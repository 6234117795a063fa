/**
 * The validation rules for entries. Generated code checks the contract's rules, because protovalidate's CEL is 50 times as slow;
 * test/catalog/entry/rules.test.ts proves that both give the same results. This file contains the rules that need hand-written code: unique target
 * names, hosts that clients can connect to, reserved namespaces, a detail that matches its kind, metadata that Waymark uses, and the required fields
 * of a record. `kinds.ts` contains the rules for each kind's detail.
 */

import type { EntryFields, EntryKeyFields, TargetFields } from "../../../gen/waymark/catalog/v1/entry_codec.ts";
import { KIND_OF_DETAIL, WORD_OF_KIND } from "../../../gen/waymark/catalog/v1/entry_kinds.ts";
import { checkEntry as checkContract } from "../../../gen/waymark/catalog/v1/entry_rules.ts";
import { uncallableReason } from "../../lib/addresses.ts";
import { METADATA_KEY, NODE_BOUNDS } from "../../lib/bounds.ts";
import { KIND, type Kind } from "../record/record.ts";
import { checkChecks } from "./checks.ts";
import { type EntrySource, findKind, KINDS } from "./kinds.ts";
import {
  type FieldProblems,
  findHostForm,
  isControlNamespace,
  isName,
  isReservedNamespace,
  NODES_NAMESPACE,
  nameRule,
  quoted,
  RESOLVERS_NAMESPACE,
} from "./names.ts";
import { SCOPE } from "./scope.ts";

/** Adds all problems that an entry has. */
export function checkEntry(entry: EntryFields, problems: FieldProblems, writer: EntrySource): void {
  checkContract(entry, problems);
  const { key, detail, targets } = entry;
  if (key !== undefined) checkPlace(key, detail, problems, writer);
  if (key !== undefined && writer === "client" && isReservedNamespace(key.namespace)) checkReserved(entry, key, problems);
  if (writer === "record" && entry.scope > SCOPE.GLOBAL) problems.add("scope", `${entry.scope} is not a scope`);
  if (targets.length > 1) checkTargetNames(targets, problems);
  if (writer === "client") checkTargetHosts(targets, problems);
  if (writer === "client") checkMetadata(entry.metadata, problems);
  if (writer === "client" && entry.checks.length > 0) checkChecks(entry, problems);
  if (detail.case === undefined) return;
  const before = problems.count;
  KINDS[KIND_OF_DETAIL[detail.case]].check?.(detail, problems, writer);
  if (problems.count !== before) problems.under(before, `${detail.case}.`);
}

/**
 * Returns the kind of an entry: the kind that it specifies, or else the kind of its detail, or else SERVICE. The result is valid only if `checkEntry`
 * has found no problem.
 */
export function kindOf(key: EntryKeyFields, detail: EntryFields["detail"]): Kind {
  return findKind(key.kind) ?? (detail.case === undefined ? KIND.SERVICE : KIND_OF_DETAIL[detail.case]);
}

function checkPlace(key: EntryKeyFields, detail: EntryFields["detail"], problems: FieldProblems, writer: EntrySource): void {
  const kind = findKind(key.kind);
  if (writer === "record" && kind === undefined) problems.add("key.kind", key.kind === 0 ? "is required" : `${key.kind} is not a kind`);
  if (kind !== undefined && detail.case !== undefined && KIND_OF_DETAIL[detail.case] !== kind) {
    problems.add(detail.case, `does not match kind ${WORD_OF_KIND[kind]}`);
  }
}

/** Checks an entry that is in a reserved namespace. `discovery/registrar/write-authorization.ts` decides which callers may register there. */
function checkReserved(entry: EntryFields, key: EntryKeyFields, problems: FieldProblems): void {
  const row = findRoleNamespace(key.namespace);
  if (row === undefined) problems.add("key.namespace", `${quoted(key.namespace)} is reserved for the control plane`);
  else row.check(entry, key, problems);
}

function checkTargetHosts(targets: readonly TargetFields[], problems: FieldProblems): void {
  for (let i = 0; i < targets.length; i++) {
    const host = targets[i]?.host ?? "";
    const reason = uncallableReason(host);
    // All other values are rejected by the contract's rules.
    if (reason !== undefined && findHostForm(host, problems.bounds.maxHostLength) !== undefined)
      problems.add(`targets[${i}].host`, `${quoted(host)} is ${reason}; no client can connect to it`);
  }
}

function checkTargetNames(targets: readonly TargetFields[], problems: FieldProblems): void {
  const seen = new Set<string>();
  for (let i = 0; i < targets.length; i++) {
    const name = targets[i]?.name ?? "";
    if (name === "") continue;
    if (seen.has(name)) problems.add(`targets[${i}].name`, `${quoted(name)} is listed twice`);
    seen.add(name);
  }
}

// Validates the metadata keys that Waymark itself uses. Clients may use all other keys freely.

const DNS_PREFIX = "waymark.dns.";
const DNS_KEYS: readonly string[] = Object.values(METADATA_KEY).filter((key) => key.startsWith(DNS_PREFIX));

/** Adds the problems found in a client's metadata to `problems`. */
function checkMetadata(metadata: Readonly<Record<string, string>>, problems: FieldProblems): void {
  const { maxHostLength, maxNameLength } = problems.bounds;
  for (const key of Object.keys(metadata))
    if (key.startsWith(DNS_PREFIX) && !DNS_KEYS.includes(key))
      problems.add(
        `metadata[${quoted(key)}]`,
        `cannot be set by clients; the allowed keys that begin with ${DNS_PREFIX} are: ${DNS_KEYS.join(", ")}`,
      );
  const host = metadata[METADATA_KEY.CNAME];
  if (host !== undefined && findHostForm(host, maxHostLength) !== "name")
    problems.add(`metadata[${quoted(METADATA_KEY.CNAME)}]`, `${quoted(host)} must be a DNS name; an address belongs in targets`);
  const importer = metadata[METADATA_KEY.IMPORT];
  if (importer !== undefined && !isName(importer, maxNameLength))
    problems.add(`metadata[${quoted(METADATA_KEY.IMPORT)}]`, nameRule(importer, maxNameLength, problems.bounds));
}

// The namespaces of the control plane, and who may write in each (semantics.md, Names and bounds). All other namespaces below `discovery` are closed
// to every caller. These namespaces are not filtered by the policy and have no quotas, so each row has its own limits.

/** A namespace in which each node writes its own entry, and clients cannot write. */
interface NodesNamespace {
  readonly writers: "nodes";
}

/** A namespace in which callers with a certain role may register entries, within limits. */
export interface RoleNamespace {
  readonly writers: "mesh.resolve";
  /** Adds the problems of an entry that must not be in this namespace. */
  readonly check: (entry: EntryFields, key: EntryKeyFields, problems: FieldProblems) => void;
  /** Maximum number of entries that one principal may have in the namespace. */
  readonly maxEntries: number;
  /** Maximum size in bytes of an encoded entry, not including its load and times. */
  readonly maxEntryBytes: number;
  /** Maximum ttl of a lease. A crashed program's entry remains for this time at most. */
  readonly maxTtlMs: number;
}

type ControlNamespace = NodesNamespace | RoleNamespace;

const CONTROL_NAMESPACES: ReadonlyMap<string, ControlNamespace> = new Map<string, ControlNamespace>([
  [NODES_NAMESPACE, { writers: "nodes" }],
  // Resolvers run on many machines, which may share one credential.
  [RESOLVERS_NAMESPACE, { writers: "mesh.resolve", check: checkResolver, maxEntries: 256, maxEntryBytes: 8192, maxTtlMs: 300_000 }],
]);

/** Whether a namespace is reserved for nodes, each of which writes its own entry. */
export function isOfNodes(namespace: string): boolean {
  return CONTROL_NAMESPACES.get(namespace)?.writers === "nodes";
}

/**
 * Returns the row for a namespace in which callers with a role may register. Undefined for all other namespaces. HOT: most calls compare only a few
 * characters.
 */
export function findRoleNamespace(namespace: string): RoleNamespace | undefined {
  const row = isControlNamespace(namespace) ? CONTROL_NAMESPACES.get(namespace) : undefined;
  return row === undefined || row.writers === "nodes" ? undefined : row;
}

/** Checks a resolver's entry: it must be a SERVICE under the resolver's own id, without aliases and checks, for readers in its own region. */
function checkResolver({ aliases, checks, detail, scope }: EntryFields, key: EntryKeyFields, problems: FieldProblems): void {
  const { name, instanceId } = key;
  const kind = findKind(key.kind) ?? (detail.case === undefined ? KIND.SERVICE : KIND_OF_DETAIL[detail.case]);
  if (kind !== KIND.SERVICE) problems.add("key.kind", `must be SERVICE for an entry in ${RESOLVERS_NAMESPACE}`);
  if (!isName(name, NODE_BOUNDS.maxIdLength)) problems.add("key.name", nameRule(name, NODE_BOUNDS.maxIdLength));
  if (instanceId !== name) problems.add("key.instance_id", `${quoted(instanceId)} must equal key.name: both are the resolver's id`);
  if (aliases.length > 0) problems.add("aliases", `must be empty for an entry in ${RESOLVERS_NAMESPACE}`);
  if (checks.length > 0) problems.add("checks", `must be empty for an entry in ${RESOLVERS_NAMESPACE}`);
  if (scope > SCOPE.REGION) problems.add("scope", "must be REGION or narrower, because a resolver serves its own region");
}
