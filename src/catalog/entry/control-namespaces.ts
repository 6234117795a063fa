/**
 * The namespaces of the control plane, and who may write each (semantics.md, Names and bounds). Every other namespace below `discovery` is closed to all
 * writers. Policy filters none of them, and no quota counts there, so each row has bounds of its own.
 */
import type { EntryFields, EntryKeyFields } from "../../../gen/waymark/catalog/v1/entry_codec.ts";
import { KIND_OF_DETAIL } from "../../../gen/waymark/catalog/v1/entry_kinds.ts";
import { NODE_BOUNDS } from "../../lib/bounds.ts";
import { KIND } from "../record/record.ts";
import { findKind } from "./kinds.ts";
import { isControlNamespace, isName, NODES_NAMESPACE, nameRule, quoted, RESOLVERS_NAMESPACE } from "./names.ts";
import type { Problems } from "./problems.ts";
import { SCOPE } from "./scope.ts";

/** A namespace where each node writes its own entry, and nobody anything else. */
export interface NodesNamespace {
  readonly writers: "nodes";
}

/** A namespace where callers with a role may register, within bounds. */
export interface RoleNamespace {
  readonly writers: "mesh.resolve";
  /** Adds the faults of an entry that does not belong there. */
  readonly check: (entry: EntryFields, key: EntryKeyFields, problems: Problems) => void;
  /** Most entries that one principal may have there. */
  readonly maxEntries: number;
  /** Most bytes of an encoded entry without load and times. */
  readonly maxEntryBytes: number;
  /** Longest ttl of a lease. It is how long the entry of a program that died stays. */
  readonly maxTtlMs: number;
}

export type ControlNamespace = NodesNamespace | RoleNamespace;

const CONTROL_NAMESPACES: ReadonlyMap<string, ControlNamespace> = new Map<string, ControlNamespace>([
  [NODES_NAMESPACE, { writers: "nodes" }],
  // A resolver runs on each of many machines, and they may share one credential.
  [RESOLVERS_NAMESPACE, { writers: "mesh.resolve", check: checkResolver, maxEntries: 256, maxEntryBytes: 8192, maxTtlMs: 300_000 }],
]);

/** Whether only nodes write in a namespace, each its own entry. */
export function isOfNodes(namespace: string): boolean {
  return CONTROL_NAMESPACES.get(namespace)?.writers === "nodes";
}

/** The row of a namespace where callers with a role may register. Undefined for all others. HOT: mostly it compares some characters. */
export function findRoleNamespace(namespace: string): RoleNamespace | undefined {
  const row = isControlNamespace(namespace) ? CONTROL_NAMESPACES.get(namespace) : undefined;
  return row === undefined || row.writers === "nodes" ? undefined : row;
}

/** A resolver is a SERVICE under its own id. It claims no other name, has no node probe anything, and is for readers of its own region. */
function checkResolver({ aliases, checks, detail, scope }: EntryFields, key: EntryKeyFields, problems: Problems): void {
  const { name, instanceId } = key;
  const kind = findKind(key.kind) ?? (detail.case === undefined ? KIND.SERVICE : KIND_OF_DETAIL[detail.case]);
  if (kind !== KIND.SERVICE) problems.add("key.kind", `an entry of ${RESOLVERS_NAMESPACE} must be a service`);
  if (!isName(name, NODE_BOUNDS.maxIdLength)) problems.add("key.name", nameRule(name, NODE_BOUNDS.maxIdLength));
  if (instanceId !== name) problems.add("key.instance_id", `${quoted(instanceId)} must be the name: both are the id of the resolver`);
  if (aliases.length > 0) problems.add("aliases", `an entry of ${RESOLVERS_NAMESPACE} may have none`);
  if (checks.length > 0) problems.add("checks", `an entry of ${RESOLVERS_NAMESPACE} may have none`);
  if (scope > SCOPE.REGION) problems.add("scope", "a resolver serves its own region: REGION is the widest scope");
}
