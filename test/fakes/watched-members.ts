/** Members that a test writes down, and their followers. */
import type { MemberDirectory, MemberRow } from "../../src/services/peers/members.ts";
import { updateOf } from "./fabric-values.ts";

export function memberRow(nodeId: string, more: Partial<MemberRow> = {}): MemberRow {
  return { ...updateOf(nodeId, { region: "r1" }), lastSeenWallMs: 1, rttMs: 1, isSelf: false, isLinked: true, ...more };
}

export class FakeMembers implements MemberDirectory {
  readonly rows = new Map<string, MemberRow>();
  readonly #followers = new Set<(nodeId: string) => void>();

  constructor(...rows: MemberRow[]) {
    for (const each of rows) this.rows.set(each.nodeId, each);
  }

  put(changed: MemberRow): void {
    this.rows.set(changed.nodeId, changed);
    for (const follower of this.#followers) follower(changed.nodeId);
  }

  drop(nodeId: string): void {
    this.rows.delete(nodeId);
    for (const follower of this.#followers) follower(nodeId);
  }

  members = () => [...this.rows.values()];
  member = (nodeId: string) => this.rows.get(nodeId);
  story = () => ({ events: [], suspicionEndsWallMs: undefined, confirmedBy: [] });
  lag = () => ({ isReady: true, isCaughtUp: true, isProtected: false, detail: "", ageMs: 0, origins: [], links: [] });
  follow = (onChange: (nodeId: string) => void) => {
    this.#followers.add(onChange);
    return () => this.#followers.delete(onChange);
  };
}
