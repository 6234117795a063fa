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

/** Throws `quota_exceeded` if no further root can be published. */
export function judgePublish(count: number): void {
  if (count >= MAX_ROOTS) throw new WaymarkError("quota_exceeded", `${count} roots are published; drop one with "waymark ca drop"`);
}

/** Throws `not_ready` if a live node does not accept certificates under this root. */
export function judgeIssue(rootId: string, { published, members }: RotationState): void {
  if (published.every((each) => each === rootId)) return;
  const isPublished = published.includes(rootId);
  const missing = membersOf(members).filter(({ security }) => !(isPublished && security?.roots.includes(rootId) === true));
  refuse(`the root ${rootId} of this issuer is not accepted yet by`, missing.map(nodeOf));
}

/**
 * Throws `invalid_argument` for the last root, and `not_ready` for a root whose certificates are in use. `recorded` has the issuers under this root
 * alone, and the live nodes, clients and resolvers with a certificate under it, by the records of the authority, which are newer than announcements.
 */
export function judgeDrop(rootId: string, { published, members }: RotationState, recorded: readonly string[], isForced: boolean): void {
  if (published.every((each) => each === rootId)) throw invalid("root_id", "is the only root; publish another root first");
  if (isForced) return;
  // A node that does not announce its root may have a certificate under this one.
  const announced = membersOf(members).filter(({ security = { root: "" } }) => security.root === rootId || security.root === "");
  refuse(`the root ${rootId} is in use by`, [...new Set([...announced.map(nodeOf), ...recorded])]);
}

function nodeOf({ nodeId }: RotationMember): string {
  return `node ${nodeId}`;
}

function membersOf(members: RotationState["members"]): readonly RotationMember[] {
  if (members === undefined) throw new WaymarkError("not_ready", "this node is not in sync with its cluster");
  return members;
}

function refuse(why: string, names: readonly string[]): void {
  const more = names.length > MAX_NAMES ? ` and ${names.length - MAX_NAMES} others` : "";
  if (names.length > 0) throw new WaymarkError("not_ready", `${why} ${names.slice(0, MAX_NAMES).join(", ")}${more}`);
}
