/**
 * Decides whether a step in the rotation of a root is safe. Each step waits until the step before it is visible on every live node: a new root is
 * accepted before certificates are issued under it, and an old root is dropped after its last certificate was replaced.
 */
import { invalid, WaymarkError } from "../../lib/errors.ts";

/** Maximum number of roots that are accepted at the same time. */
const MAX_ROOTS = 4;
/** Maximum number of names in a refusal. */
const MAX_NAMES = 5;

/** A live node of the cluster, as it announces itself. */
export interface RotationMember {
  readonly nodeId: string;
  /** The ids of the root of its certificate, and of the roots that it accepts. Undefined if the node does not announce them. */
  readonly security?: { readonly root: string; readonly roots: readonly string[] } | undefined;
}

export interface RotationState {
  /** Ids of the published roots. */
  readonly published: readonly string[];
  /** Undefined while this node is not in sync with its cluster. */
  readonly members: readonly RotationMember[] | undefined;
}

/** Programs that have a certificate under a root, from the records of the authority. */
export interface RecordedHolders {
  /** Nodes that issue certificates under this root, and under no other. */
  readonly issuers: readonly string[];
  /** Clients, resolvers and live nodes. The record of a node is newer than its announcement. */
  readonly programs: readonly string[];
}

/** Throws `quota_exceeded` if no further root can be published. */
export function judgePublish(count: number): void {
  if (count >= MAX_ROOTS) throw new WaymarkError("quota_exceeded", `${count} roots are published; drop one with "waymark ca drop"`);
}

/** Throws `not_ready` if a live node does not accept certificates under this root. */
export function judgeIssue(rootId: string, { published, members }: RotationState): void {
  if (published.every((each) => each === rootId)) return;
  if (!published.includes(rootId)) throw notYet(`the root ${rootId} of this issuer is not published`);
  const missing = membersOf(members).filter(({ security }) => security?.roots.includes(rootId) !== true);
  if (missing.length > 0) throw notYet(`the root ${rootId} of this issuer is not accepted yet by ${namesOf(missing)}`);
}

/** Throws `invalid_argument` for the last root, and `not_ready` for a root whose certificates are in use. */
export function judgeDrop(rootId: string, { published, members }: RotationState, recorded: RecordedHolders, isForced: boolean): void {
  if (published.every((each) => each === rootId)) throw invalid("root_id", "is the only root; publish another root first");
  if (isForced) return;
  // A node that does not announce its root may have a certificate under this one.
  const users = membersOf(members).filter(({ security = { root: "" } }) => security.root === rootId || security.root === "");
  if (users.length > 0) throw notYet(`live nodes have certificates under the root ${rootId}: ${namesOf(users)}`);
  const { issuers, programs } = recorded;
  if (issuers.length > 0) throw notYet(`nodes issue certificates under the root ${rootId}: ${listed(issuers)}`);
  if (programs.length > 0) throw notYet(`programs have certificates under the root ${rootId}: ${listed(programs)}`);
}

function membersOf(members: RotationState["members"]): readonly RotationMember[] {
  if (members === undefined) throw notYet("this node is not in sync with its cluster");
  return members;
}

function notYet(message: string): WaymarkError {
  return new WaymarkError("not_ready", message);
}

function namesOf(members: readonly RotationMember[]): string {
  return listed(members.map(({ nodeId }) => nodeId));
}

function listed(names: readonly string[]): string {
  return names.length <= MAX_NAMES ? names.join(", ") : `${names.slice(0, MAX_NAMES).join(", ")} and ${names.length - MAX_NAMES} others`;
}
