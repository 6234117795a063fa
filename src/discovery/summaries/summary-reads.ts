/**
 * Reads of summaries: the catalog's reads, applied to the second replica, which contains summaries and heartbeats from sources
 * (docs/design/summaries.md, Reading). Pages, cursors, watches and verdicts therefore use the same code.
 */
import { isControlNamespace } from "../../catalog/entry/names.ts";
import { ANY } from "../../catalog/query/filter.ts";
import { queryPage } from "../../catalog/query/query.ts";
import type { CatalogRecord, EntryKey } from "../../catalog/record/record.ts";
import type { Replica } from "../../catalog/replica/replica.ts";
import type { ReaderNode, WatchReader } from "../../catalog/watch/reader.ts";
import { sha256Hex } from "../../lib/crypto.ts";
import { assert } from "../../lib/errors.ts";
import type { Time } from "../../lib/machine.ts";
import type { Caller } from "../../policy/identity/caller.ts";
import type { Policy } from "../../policy/set/verdict.ts";
import { type OnDenied, type PolicySource, seesAll } from "../../policy/set/verdict.ts";
import type { SourceAge } from "../../summary/held/options.ts";
import type { HeldSummaries } from "../../summary/held/summaries.ts";
import type { IngressNode } from "../../summary/summary.ts";
import { Fanout } from "../fanout.ts";
import { type ChangeNumber, PolicySwitch, type SwitchObserver } from "../policy-switch-queue.ts";
import { CatalogReads, type ResolverAnswerLists } from "../reads.ts";
import { WatchAck } from "../watch-ack.ts";

/** The states of the clusters that the summaries describe. */
export interface KnownSources {
  /** Whether the record's source is stale: nothing has been received from it for longer than its ttl. */
  isStale(record: CatalogRecord): boolean;
  /** Returns the stale sources for which any data is stored. */
  staleSources(): Iterable<string>;
  /** Returns how long the source remains fresh if nothing more is received, or 0 for a lost source. */
  freshMs(source: string): number;
  /** Returns the endpoints at which the cluster accepts calls, according to its last heartbeat. */
  ingressOf(source: string): readonly IngressNode[];
  /** Returns when data was last received from the sources. Used for nodes that read from this node on behalf of other nodes. */
  ages(time: Time): readonly SourceAge[];
}

export interface SummaryReadsParts {
  /**
   * The second replica. Its view contains the records that readers may see: verified records that are in force and come from a source that owns the
   * namespace.
   */
  readonly replica: Replica;
  readonly node: ReaderNode;
  readonly policies: PolicySource;
  readonly onDenied: OnDenied;
  readonly sources: KnownSources;
  /** Set on a resolver only. */
  readonly lists?: ResolverAnswerLists;
  /** Called when a watcher must be woken again. */
  readonly onAgain: () => void;
  readonly now: () => Time;
}

/** Number of digits in the hash that names a set of stale sources. */
const NAME_LENGTH = 12;
/** Maximum number of summaries for one name: one per source and channel. */
const MAX_SUMMARIES = 1000;

/** Follows policy changes: the catalog's queue begins them, and `step` performs them in slices. */
export class SummaryReads implements SwitchObserver {
  readonly reads: CatalogReads;
  readonly fanout: Fanout;
  readonly sources: KnownSources;
  readonly #parts: SummaryReadsParts;
  readonly #watchAck: WatchAck;
  readonly #onTurned: ((sources: ReadonlySet<string>) => void)[] = [];
  /** The new policy of the last change. */
  #target: Policy;
  #running: PolicySwitch | undefined;

  constructor(parts: SummaryReadsParts) {
    const { replica, node, policies, onDenied, sources, lists } = parts;
    this.#parts = parts;
    this.sources = sources;
    this.#target = policies.policy;
    this.fanout = new Fanout(parts.onAgain);
    this.#watchAck = new WatchAck(this.fanout);
    // The control plane's namespaces have no summaries, only heartbeats.
    this.reads = new CatalogReads(replica, node, { policies, onDenied, hides: isControlNamespace, ...(lists && { lists }) });
  }

  /** Makes the watches become ready and end together with the catalog's watches. */
  follow(catalog: Pick<Fanout, "drainShare" | "followers" | "isEnding">): void {
    const readiesAll = () => {
      this.fanout.all();
      this.#parts.onAgain();
    };
    catalog.followers.add({ readiesAll, ends: () => this.fanout.end(), drains: (share) => this.fanout.drain(share) });
    if (catalog.isEnding) this.fanout.end();
    if (catalog.drainShare > 0) this.fanout.drain(catalog.drainShare);
  }

  /** Must be called when records have been touched, followed by `WatchWaker.kick`. */
  changed(): void {
    const touched = this.#parts.replica.takeTouched();
    if (touched.size > 0) this.fanout.changed(touched);
  }

  /**
   * Must be called when the given sources have become stale or fresh. Watches receive the namespaces of the sources' summaries again, because the
   * records did not change.
   */
  turned(sources: ReadonlySet<string>): void {
    const stale = [...this.sources.staleSources()].toSorted();
    this.reads.noteAnswers(stale.length === 0 ? "" : sha256Hex(stale.join("\0")).slice(0, NAME_LENGTH));
    for (const notify of this.#onTurned) notify(sources);
    if (this.fanout.size === 0) return;
    const namespaces = this.#namespacesOf(sources);
    const namespacesByReader = new Map<WatchReader, readonly string[]>();
    for (const watcher of this.fanout.watchers()) {
      const { reader } = watcher.feed;
      const { allowed, filter } = reader.options;
      // A resolver itself decides which summaries are stale.
      if (filter.resolved !== undefined) continue;
      // The namespace must not be revealed to watches that cannot see it.
      const known =
        namespacesByReader.get(reader) ?? namespaces.filter((namespace) => reader.mayHoldNamespace(namespace) && allowed(namespace));
      namespacesByReader.set(reader, known);
      if (known.length === 0) continue;
      watcher.feed.refresh(known);
      this.fanout.again(watcher);
    }
  }

  /** Registers a callback for sources that become stale or fresh. It stays registered for as long as this object exists. */
  onTurned(notify: (sources: ReadonlySet<string>) => void): void {
    this.#onTurned.push(notify);
  }

  /**
   * Returns the summaries for one name, from all sources and channels. Returns no summaries to a caller that cannot see the name's namespace. This is
   * not recorded in the audit log, because the caller requested entries, not summaries.
   */
  named(caller: Caller, { kind, namespace, name }: Pick<EntryKey, "kind" | "name" | "namespace">): readonly CatalogRecord[] {
    const { replica, node } = this.#parts;
    if (isControlNamespace(namespace) || !this.reads.verdict(caller, namespace).allowed) return [];
    const filter = { ...ANY, namespace, names: [name], kindMask: 1 << kind };
    return queryPage(replica.lookup, filter, { limit: MAX_SUMMARIES, afterKey: "", self: node, allowed: seesAll, explain: false }).records;
  }

  /** Called when another policy is in force: first, the records are updated to follow it, and then the watches are notified. */
  begins(_change: ChangeNumber): void {
    assert(this.#running === undefined, "the previous policy change is not complete for summaries");
    const { replica, node, policies } = this.#parts;
    const change = { before: this.#target, after: policies.policy };
    this.#target = change.after;
    this.reads.notePolicy();
    this.#running = new PolicySwitch({ replica, reads: this.reads, fanout: this.fanout, clusterId: node.clusterId }, change);
  }

  /** Does nothing, because summaries do not depend on the policy that the catalog's records follow. */
  shows(): void {}

  /** Whether `step` has work to do. */
  get isRunning(): boolean {
    return this.#running !== undefined;
  }

  /**
   * Performs up to `maxCount` units of a policy change. Returns whether a change was completed. The caller must then call `SwitchQueue.onFollowed`,
   * and perform the actions that follow `changed`.
   */
  step(maxCount: number): boolean {
    if (this.#running?.step(maxCount) !== true) return false;
    this.#running = undefined;
    this.#watchAck.begin(this.#parts.replica.revision, this.#parts.now());
    this.fanout.all();
    return true;
  }

  get isShown(): boolean {
    return this.#running === undefined;
  }

  get isAcknowledged(): boolean {
    return this.#running === undefined && this.#watchAck.isOver(this.#parts.now());
  }

  /** Returns the namespaces of the sources' summaries. Cost: every summary is read when a source is lost or found. */
  #namespacesOf(sources: ReadonlySet<string>): readonly string[] {
    const found = new Set<string>();
    const cursor = this.#parts.replica.lookup.cursor();
    for (let record = cursor.next(); record !== undefined; record = cursor.next()) {
      if (!sources.has(record.traits.clusterId)) continue;
      found.add(record.namespace);
      // One summary is enough for each namespace.
      cursor.seek(`${record.namespace}\u0001`);
    }
    return [...found];
  }
}

// The states of clusters for readers of summaries, from the stored heartbeats.

export function heldSources(held: HeldSummaries, now: () => Time): KnownSources {
  return {
    isStale: (record) => held.isStale(record, now()),
    staleSources: () => staleSourcesOf(held, now()),
    freshMs: (source) => held.freshMs(source, now()),
    ingressOf: (source) => held.beaconOf(source)?.ingress ?? [],
    ages: (time) => held.ages(time),
  };
}

/** Returns the sources from which nothing has been received for their ttl. */
export function staleSourcesOf(held: HeldSummaries, time: Time): ReadonlySet<string> {
  return new Set(held.sources(time).flatMap(({ source, state }) => (state === "fresh" ? [] : [source])));
}
