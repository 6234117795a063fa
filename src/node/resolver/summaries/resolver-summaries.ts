/** The summaries of a resolver: joins what it follows of them to the policy, and to who reads them. The rules are in `src/resolver/summaries/` and `src/summary/`. */
import type { NodeFacts } from "../../../catalog/watch/reader.ts";
import { heldSources, SummaryReads, staleSourcesOf } from "../../../discovery/summaries/summary-reads.ts";
import type { Time } from "../../../lib/machine.ts";
import type { OnDenied } from "../../../policy/set/verdict.ts";
import type { PolicyEngine } from "../../../policy/versions/engine.ts";
import { type FollowedKeys, FollowedSummaries, type FollowedSummariesOptions } from "../../../resolver/summaries/followed-summaries.ts";

export interface ResolverSummariesParts {
  readonly policies: PolicyEngine;
  readonly keys: FollowedKeys;
  readonly node: NodeFacts;
  readonly onDenied: OnDenied;
  /** Called when a watcher of summaries must be woken. */
  readonly onAgain: () => void;
  readonly now: () => Time;
}

/** Units of a change of policy in one step. */
const SWITCHED_AT_A_TIME = 512;

export class ResolverSummaries {
  readonly followed: FollowedSummaries;
  readonly reads: SummaryReads;
  readonly #onAgain: () => void;
  #mark = 0;
  #revision = 0;
  #stale: ReadonlySet<string> = new Set();

  constructor(options: FollowedSummariesOptions, parts: ResolverSummariesParts) {
    const { policies, keys, now, onAgain } = parts;
    this.#onAgain = onAgain;
    this.followed = new FollowedSummaries(options, { policies, keys });
    const { held } = this.followed;
    const { lookup } = held.replica;
    // It is told of views, so its cursors are good here alone.
    const lists = { of: () => [lookup], admits: () => true, portableCursor: () => "", isAtPlace: undefined };
    this.reads = new SummaryReads({ ...parts, replica: held.replica, sources: heldSources(held, now), lists });
  }

  /** Notes for readers what is new. Returns whether a step of a change of policy completed it: `SwitchQueue.onFollowed` is then to be called. */
  show(time: Time): boolean {
    const hasFollowed = this.reads.isRunning && this.reads.step(SWITCHED_AT_A_TIME);
    const { mark, held } = this.followed;
    if (mark === this.#mark && !hasFollowed) return false;
    this.#mark = mark;
    const stale = staleSourcesOf(held, time);
    const turned = stale.symmetricDifference(this.#stale);
    this.#stale = stale;
    if (turned.size > 0) this.reads.turned(turned);
    const { revision } = held.replica;
    if (revision === this.#revision && turned.size === 0 && !hasFollowed) return false;
    this.#revision = revision;
    this.reads.changed();
    this.#onAgain();
    return hasFollowed;
  }
}
