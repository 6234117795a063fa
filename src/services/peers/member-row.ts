/** A member of the mesh, as the serving node sees it. */
import type { MemberUpdate } from "../../fabric/wire/messages.ts";

/** A member, with this node's measurements of it. */
export interface MemberRow extends MemberUpdate {
  readonly lastSeenWallMs: number | undefined;
  readonly rttMs: number | undefined;
  readonly isSelf: boolean;
  readonly isLinked: boolean;
}
