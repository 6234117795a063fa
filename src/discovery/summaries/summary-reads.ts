/**
 * The reads of summaries: those of the catalog, over the second replica, which holds summaries and beacons (docs/design/summaries.md, Reading). So pages, cursors,
 * watches and verdicts are the same code.
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

/** What is known of the clusters that summaries are about. */
export interface KnownSources {
  /** Whether the source of the record has not been heard of for its ttl. */
  isStale(record: CatalogRecord): boolean;
  /** Those of which anything is held. */
  staleSources(): Iterable<string>;
  /** For how long the source counts as heard of, if nothing more is heard. 0 for a lost one. */
  freshMs(source: string): number;
  /** Where the cluster takes calls, by its last beacon. */
  ingressOf(source: string): readonly IngressNode[];
  /** When they were heard of, for those that read here for others. */
  ages(time: Time): readonly SourceAge[];
}

export interface SummaryReadsParts {
  /** The second replica. The records in its view are what readers may be shown: verified, in force, and by a source that owns the namespace. */
  readonly replica: Replica;
  readonly node: ReaderNode;
  readonly policies: PolicySource;
  readonly onDenied: OnDenied;
  readonly sources: KnownSources;
  /** Of a resolver. */
  readonly lists?: ResolverAnswerLists;
  /** Called when a watcher must be woken again. */
  readonly onAgain: () => void;
  readonly now: () => Time;
}

/** Digits of the name of a set of stale sources. */
const NAME_LENGTH = 12;
/** Most summaries of one name: one a source and channel. */
const MAX_SUMMARIES = 1000;

/** It follows changes of policy: begun by the queue of the catalog, and done in slices by `step`. */
export class SummaryReads implements SwitchObserver {
  readonly reads: CatalogReads;
  readonly fanout: Fanout;
  readonly sources: KnownSources;
  readonly #parts: SummaryReadsParts;
  readonly #watchAck: WatchAck;
  readonly #onTurned: ((sources: ReadonlySet<string>) => void)[] = [];
  /** The policy that the last change led to. */
  #told: Policy;
  #running: PolicySwitch | undefined;

  constructor(parts: SummaryReadsParts) {
    const { replica, node, policies, onDenied, sources, lists } = parts;
    this.#parts = parts;
    this.sources = sources;
    this.#told = policies.policy;
    this.fanout = new Fanout(parts.onAgain);
    this.#watchAck = new WatchAck(this.fanout);
    // The control plane's namespaces have no summaries; there stand beacons.
    this.reads = new CatalogReads(replica, node, { policies, onDenied, hides: isControlNamespace, ...(lists && { lists }) });
  }

  /** The watches become ready, and end, with those of the catalog. */
  follow(catalog: Pick<Fanout, "followers" | "isEnding">): void {
    const readiesAll = () => {
      this.fanout.all();
      this.#parts.onAgain();
    };
    catalog.followers.add({ readiesAll, ends: () => this.fanout.end() });
    if (catalog.isEnding) this.fanout.end();
  }

  /** Records were touched. Call `Wakeup.kick` afterwards. */
  changed(): void {
    const touched = this.#parts.replica.takeTouched();
    if (touched.size > 0) this.fanout.changed(touched);
  }

  /** These sources are stale from now on, or no more. Watches get the namespaces of their summaries anew, because the records did not change. */
  turned(sources: ReadonlySet<string>): void {
    const stale = [...this.sources.staleSources()].toSorted();
    this.reads.noteAnswers(stale.length === 0 ? "" : sha256Hex(stale.join("\0")).slice(0, NAME_LENGTH));
    for (const tell of this.#onTurned) tell(sources);
    if (this.fanout.size === 0) return;
    const namespaces = this.#namespacesOf(sources);
    const told = new Map<WatchReader, readonly string[]>();
    for (const watcher of this.fanout.watchers()) {
      const { reader } = watcher.feed;
      const { allowed, filter } = reader.options;
      // A resolver knows by itself what is stale.
      if (filter.resolved !== undefined) continue;
      // A namespace that the watch may not see must not be named to it.
      const known = told.get(reader) ?? namespaces.filter((namespace) => reader.mayHoldNamespace(namespace) && allowed(namespace));
      told.set(reader, known);
      if (known.length === 0) continue;
      watcher.feed.refresh(known);
      this.fanout.again(watcher);
    }
  }

  /** Is told of sources that are stale from then on, or no more, for as long as this object lives. */
  onTurned(tell: (sources: ReadonlySet<string>) => void): void {
    this.#onTurned.push(tell);
  }

  /** The summaries of one name, of all sources and channels. None for a caller that may not see its namespace, which is told to no audit: the caller asked for entries. */
  named(caller: Caller, { kind, namespace, name }: Pick<EntryKey, "kind" | "name" | "namespace">): readonly CatalogRecord[] {
    const { replica, node } = this.#parts;
    if (isControlNamespace(namespace) || !this.reads.verdict(caller, namespace).allowed) return [];
    const filter = { ...ANY, namespace, names: [name], kindMask: 1 << kind };
    return queryPage(replica.lookup, filter, { limit: MAX_SUMMARIES, afterKey: "", self: node, allowed: seesAll, explain: false }).records;
  }

  /** The policy in force is another: the records follow, and then the watches are told. */
  begins(_change: ChangeNumber): void {
    assert(this.#running === undefined, "a change of policy begins before the one before is complete for summaries");
    const { replica, node, policies } = this.#parts;
    const change = { before: this.#told, after: policies.policy };
    this.#told = change.after;
    this.reads.notePolicy();
    this.#running = new PolicySwitch({ replica, reads: this.reads, fanout: this.fanout, clusterId: node.clusterId }, change);
  }

  /** What records of the catalog follow does not matter here. */
  shows(): void {}

  /** Whether `step` has something to do. */
  get isRunning(): boolean {
    return this.#running !== undefined;
  }

  /** Does `maxCount` units of a change of policy. Returns whether one was completed: `SwitchQueue.onFollowed` is then to be called, and what `changed` calls. */
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

  get isHeard(): boolean {
    return this.#running === undefined && this.#watchAck.isOver(this.#parts.now());
  }

  /** Cost: a look at every summary, when a source is lost or found. */
  #namespacesOf(sources: ReadonlySet<string>): readonly string[] {
    const found = new Set<string>();
    const cursor = this.#parts.replica.lookup.cursor();
    for (let record = cursor.next(); record !== undefined; record = cursor.next()) {
      if (!sources.has(record.traits.clusterId)) continue;
      found.add(record.namespace);
      // Its other summaries say nothing new.
      cursor.seek(`${record.namespace}\u0001`);
    }
    return [...found];
  }
}

// What readers of summaries are told of clusters, by what is held of their beacons.

export function heldSources(held: HeldSummaries, now: () => Time): KnownSources {
  return {
    isStale: (record) => held.isStale(record, now()),
    staleSources: () => staleSourcesOf(held, now()),
    freshMs: (source) => held.freshMs(source, now()),
    ingressOf: (source) => held.beaconOf(source)?.ingress ?? [],
    ages: (time) => held.ages(time),
  };
}

/** Those that have not been heard of for their ttl. */
export function staleSourcesOf(held: HeldSummaries, time: Time): ReadonlySet<string> {
  return new Set(held.sources(time).flatMap(({ source, state }) => (state === "fresh" ? [] : [source])));
}
