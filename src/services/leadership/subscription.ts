/** Implements LeadershipService.Subscribe: one stream of leaders, which reads the events that its node keeps. */
import { create, toBinary } from "@bufbuild/protobuf";
import { LeaderEventKind, LeadershipServiceSubscribeResponseSchema } from "../../../gen/waymark/control/v1/leadership_pb.js";
import type { LeadershipEvent } from "../../control/leadership/io-types.ts";
import type { LeaderRecord } from "../../control/leadership/records.ts";
import { hasScopePrefix } from "../../control/leadership/scope.ts";
import { enumName } from "../../lib/enum-words.ts";
import type { StreamSource } from "../service.ts";
import { leaderMessage } from "./leader-message.ts";
import type { LeadershipSource, SplitBrain } from "./source.ts";

export interface SubscriptionParts {
  readonly source: Pick<LeadershipSource, "events" | "follow">;
  /** Scopes, or their first parts. Empty means all. */
  readonly scopes: readonly string[];
  readonly includesRenewed: boolean;
  /** Revision after which the stream resumes. Undefined if the stream starts with a snapshot. */
  readonly after: number | undefined;
  /** Calls `wake` several times a second until the returned function is called, because a new snapshot can be due without an event. */
  readonly tick: (wake: () => void) => () => void;
  readonly onClose: () => void;
}

/** An event that has not been sent yet. `id` is 0 if it has none. */
type UnsentEvent =
  | { readonly kind: LeadershipEvent["kind"]; readonly scope: string; readonly leader: LeaderRecord; readonly id: number }
  /** The leader is undefined if its record cannot be read. Without a scope, the snapshot is empty. */
  | { readonly kind: "snapshot"; readonly scope?: string; readonly leader?: LeaderRecord | undefined; readonly id: number }
  | (SplitBrain & { readonly id?: undefined });

/**
 * The stream stores the unsent events of one read, and the newest event without an id for each scope. Other events remain in the node's log until they
 * are read.
 */
export class LeaderSubscription implements StreamSource {
  readonly endsAtDrain = true;
  readonly #parts: SubscriptionParts;
  /** The revision up to which the stream has read the log. Undefined before the first snapshot. */
  #revision: number | undefined;
  #unsent: UnsentEvent[] = [];
  /** By scope; by the empty text for `split_brain`. */
  readonly #withoutId = new Map<string, UnsentEvent>();
  #undo: readonly (() => void)[] = [];

  constructor(parts: SubscriptionParts) {
    this.#parts = parts;
    this.#revision = parts.after;
  }

  attach(wake: () => void): void {
    const { source, tick } = this.#parts;
    const unfollow = source.follow((event) => {
      this.#note(event);
      wake();
    });
    this.#undo = [unfollow, tick(wake)];
  }

  pull(): Uint8Array | undefined {
    if (this.#unsent.length === 0) this.#read();
    const event = this.#unsent.shift();
    return event && bytesOf(event);
  }

  close(): void {
    for (const undo of this.#undo) undo();
    this.#unsent = [];
    this.#parts.onClose();
  }

  /** Keeps an event that is not in the log. */
  #note(event: LeadershipEvent | SplitBrain): void {
    if (event.kind === "renewed" && !this.#parts.includesRenewed) return;
    if (event.kind === "split_brain") this.#withoutId.set("", event);
    else if (event.revision === 0 && this.#matches(event.scope)) this.#withoutId.set(event.scope, { ...event, id: 0 });
  }

  #read(): void {
    const { events } = this.#parts.source;
    const { revision } = events;
    if (revision !== undefined && revision !== this.#revision) {
      const news = this.#revision === undefined ? undefined : events.after(this.#revision);
      this.#unsent = news === undefined ? this.#snapshot(revision) : this.#changes(news);
      this.#revision = revision;
    }
    this.#unsent.push(...this.#withoutId.values());
    this.#withoutId.clear();
  }

  #snapshot(revision: number): UnsentEvent[] {
    const held = [...this.#parts.source.events.current()].filter(([scope, leader]) => leader?.session !== "" && this.#matches(scope));
    if (held.length === 0) return [{ kind: "snapshot", id: revision }];
    return held.map(([scope, leader], i) => ({ kind: "snapshot", scope, leader, id: i === held.length - 1 ? revision : 0 }));
  }

  /** Only the last event of a revision has an id, because a reader that resumes after it must not lack another event of that revision. */
  #changes(news: readonly LeadershipEvent[]): UnsentEvent[] {
    const matching = news.filter(({ scope }) => this.#matches(scope));
    return matching.map((event, i) => ({ ...event, id: matching[i + 1]?.revision === event.revision ? 0 : event.revision }));
  }

  #matches(scope: string): boolean {
    const { scopes } = this.#parts;
    return scopes.length === 0 || scopes.some((prefix) => hasScopePrefix(scope, prefix));
  }
}

function bytesOf(event: UnsentEvent): Uint8Array {
  const message = create(LeadershipServiceSubscribeResponseSchema, {
    id: BigInt(event.id ?? 0),
    kind: LeaderEventKind[enumName(event.kind)],
  });
  if (event.kind === "split_brain") message.detail = event.detail;
  else if (event.scope !== undefined) message.leader = leaderMessage(event.scope, event.leader);
  return toBinary(LeadershipServiceSubscribeResponseSchema, message);
}
