/**
 * The summaries that a resolver follows (docs/design/summaries.md, Resolvers). One watch of its upstream brings the records of clusters as they were sealed, and
 * they are held as a node holds what other nodes of its region tell. How fresh a cluster is goes by the receipts that the upstream tells, by this clock since
 * then: nothing here makes one fresh.
 */
import { SCOPE, type Scope } from "../../catalog/entry/scope.ts";
import { NamespacePrefixes } from "../../catalog/query/prefixes.ts";
import { BODY, deltaId, type KeyText } from "../../catalog/record/record.ts";
import { DigestSum } from "../../catalog/replica/namespace-digest.ts";
import { SNAPSHOT } from "../../catalog/watch/reader.ts";
import { WaymarkError } from "../../lib/errors.ts";
import { NEVER, type Time } from "../../lib/machine.ts";
import { mayPublish } from "../../policy/set/verdict.ts";
import type { PolicyEngine } from "../../policy/versions/engine.ts";
import { decodeRecord, type Opened } from "../../summary/codec.ts";
import type { ClusterKeys, HeldOptions } from "../../summary/held/options.ts";
import { HeldSummaries } from "../../summary/held/summaries.ts";
import { BEACON_NAMESPACE } from "../../summary/keys.ts";
import { SummaryStamper } from "../../summary/stamper.ts";
import { readSummaryMessage, type SummaryMessage } from "../codec.ts";
import { UpstreamFreshness } from "../upstream-freshness.ts";
import { WatchBookmarks } from "../watching/bookmarks.ts";
import { UpstreamWatch, WatchedCatalog } from "../watching/watched-catalog.ts";

export interface FollowedSummariesOptions extends HeldOptions {
  /** The namespaces that are followed, with those below them. An empty text stands for all. */
  readonly prefixes: readonly string[];
  /** The channels of which summaries are shown. */
  readonly scopes: ReadonlySet<Scope>;
  /** Most records, and most bytes of them. */
  readonly maxEntries: number;
  readonly maxBytes: number;
}

/** What is known of the keys of clusters: by the settings, or by the word of the upstream. */
export interface FollowedKeys extends ClusterKeys {
  /** A record was read, before anything of it is verified. */
  note?(content: Opened): void;
  /** As `KeyRegistry` has them. */
  tick(time: Pick<Time, "wallMs">): void;
  version(): number;
  changedSince(version: number): readonly string[] | undefined;
}

export interface FollowedSummariesParts {
  readonly policies: Pick<PolicyEngine, "policy">;
  readonly keys: FollowedKeys;
}

export type SummariesOrder =
  | {
      readonly kind: "open summaries";
      readonly stream: number;
      readonly upstream: string;
      readonly prefixes: readonly string[];
      readonly cursor: string;
    }
  | { readonly kind: "close summaries"; readonly stream: number };

/** An order, or what an upstream said that cannot be right. */
type Out = { push(order: SummariesOrder | { readonly kind: "garbled"; readonly upstream: string; readonly fault: string }): unknown };

/** After a stream failed: at first, and at most, or where the upstream has no summaries or what it says cannot be used. */
const RETRY_MS = 1000;
const LONG_RETRY_MS = 60_000;
/** A server that goes on from a place waits for what the place names. That may be lost with the node that took it, so a snapshot is asked for then. */
const RESUME_MS = 5000;
/** Most prefixes of a watch. With more namespaces everything is followed. */
const MAX_PREFIXES = 1024;

export class FollowedSummaries {
  readonly held: HeldSummaries;
  /** Moves with all work on what is held. */
  mark = 0;
  /** Why nothing is held, where an operator must do something. Undefined without a fault. */
  fault: string | undefined;
  readonly #options: FollowedSummariesOptions;
  readonly #parts: FollowedSummariesParts;
  readonly #followed: WatchedCatalog;
  readonly #prefixes: NamespacePrefixes;
  #watch: UpstreamWatch;
  readonly #freshness = new UpstreamFreshness();
  /** Of all that was told, shown or not. */
  #sum = new DigestSum();
  #upstream: string | undefined;
  #open: { readonly stream: number; readonly upstream: string } | undefined;
  #count = 0;
  #failures = 0;
  #hasFailed = false;
  #retryMonoMs = Number.NEGATIVE_INFINITY;
  /** Until then a digest that differs leads to no further snapshot. */
  #comparesMonoMs = Number.NEGATIVE_INFINITY;
  #isUpstreamStale = false;
  /** When a watch that goes on from a place is given up, if nothing says by then that all is here. */
  #resumeMonoMs = NEVER;
  #policy: PolicyEngine["policy"];
  #version: number;
  #time: Time = { monoMs: Number.NEGATIVE_INFINITY, wallMs: 0 };

  constructor(options: FollowedSummariesOptions, parts: FollowedSummariesParts) {
    const { prefixes, scopes } = options;
    const { policies, keys } = parts;
    this.#options = options;
    this.#parts = parts;
    this.#policy = policies.policy;
    this.#version = keys.version();
    const isOwner: ConstructorParameters<typeof HeldSummaries>[1]["isOwner"] = ({ namespace, scope }, source) =>
      scopes.has(scope) && mayPublish(policies.policy.source(namespace, source), scope);
    this.held = new HeldSummaries(options, { keys, signer: undefined, imports: () => true, isOwner });
    this.#prefixes = new NamespacePrefixes(prefixes.length < MAX_PREFIXES ? prefixes : [""]);
    const { replica } = this.held;
    const stamper = new SummaryStamper((source) => this.held.regionOf(source));
    const entryOfStored = (bytes: Uint8Array) => {
      keys.note?.(decodeRecord(bytes));
      return stamper.entryOfStored(bytes);
    };
    const onChange = { gone: ignore, ended: ignore, put: (key: KeyText) => this.#told(key) };
    const onTold = { told: ignore, listed: ignore };
    this.#followed = new WatchedCatalog({
      replica,
      bookmarks: new WatchBookmarks(replica),
      stamper: { isSealed: true, entryOfStored },
      onChange,
      onTold,
    });
    this.#followed.onTouch = (key) => this.#touched(key);
    this.#watch = this.#newWatch();
  }

  /** Whether everything that the upstream has was here once. Before that what is not here must not be taken for absent. */
  get isComplete(): boolean {
    return this.#watch.isComplete;
  }

  /** Whether the first snapshot is on its way. A watch that failed once is waited for no more. */
  get isPending(): boolean {
    return this.#open !== undefined && !this.isComplete && !this.#hasFailed;
  }

  /** Whether summaries of a namespace, or of one below it, are followed. */
  follows(namespace: string): boolean {
    return this.#prefixes.meets(namespace);
  }

  /** How good what is held is. */
  answer(time: Time) {
    const isStale = this.#open === undefined || this.#isUpstreamStale || this.#freshness.isSilent(time);
    return { source: "followed" as const, isStale, ageMs: this.#freshness.ageMs(time), unreachable: this.#freshness.unreachable };
  }

  nextDeadlineMs(): number {
    const { policies, keys } = this.#parts;
    if (policies.policy !== this.#policy || keys.version() !== this.#version) return this.#time.monoMs;
    const retryMonoMs = this.#open === undefined && this.#upstream !== undefined ? this.#retryMonoMs : NEVER;
    return Math.min(retryMonoMs, this.#resumeMonoMs, this.held.nextDeadlineMs(this.#time));
  }

  /** The watch is to be one of this upstream. */
  use(upstream: string | undefined, time: Time, out: Out): void {
    if (upstream !== this.#upstream) {
      this.#close(out);
      this.#upstream = upstream;
      this.#failures = 0;
      this.#retryMonoMs = Number.NEGATIVE_INFINITY;
    }
    if (time.monoMs >= this.#resumeMonoMs) this.#beginAnew(time, out);
    if (this.#open !== undefined || upstream === undefined || time.monoMs < this.#retryMonoMs) return;
    this.#count += 1;
    this.#open = { stream: this.#count, upstream };
    // Beacons say where clusters take calls, and announcements which keys count.
    const prefixes = [...new NamespacePrefixes([...this.#prefixes.list, BEACON_NAMESPACE]).list];
    const cursor = this.#watch.move();
    this.#resumeMonoMs = cursor === "" ? NEVER : time.monoMs + RESUME_MS;
    out.push({ kind: "open summaries", ...this.#open, prefixes, cursor });
  }

  /** Opens the watch again at the same upstream. */
  reopen(out: Out): void {
    this.#close(out);
    this.#retryMonoMs = Number.NEGATIVE_INFINITY;
  }

  /** Takes what the open stream says. Undefined: it says nothing that can be used. */
  hear(stream: number, bytes: Uint8Array, delayMs: number, time: Time, out: Out): SummaryMessage | undefined {
    const open = this.#open;
    if (open?.stream !== stream) return undefined;
    let said: SummaryMessage;
    try {
      said = readSummaryMessage(bytes);
      this.#followed.hear(this.#watch, said, time);
    } catch (error) {
      if (!(error instanceof WaymarkError)) throw error;
      // An older server does not know that a resolver asks. What it tells of entries is none the worse.
      out.push({ kind: "garbled", upstream: open.upstream, fault: `summaries: ${error.message}` });
      this.#again(LONG_RETRY_MS, time, out);
      return undefined;
    }
    this.#failures = 0;
    // What a message was held up for counts as age.
    for (const heard of said.heard) this.held.heardAge({ ...heard, ageMs: heard.ageMs + delayMs }, time);
    this.#noteAge(said, delayMs, time);
    if (this.#isTooMuch) this.#letGo(time, out);
    else if (this.#watch.isDoubtful) this.#again(0, time, out);
    else if (this.#differs(said, time)) this.#beginAnew(time, out);
    this.work(time);
    return said;
  }

  /** The stream ended or failed. */
  ended(stream: number, retryMs: number | undefined, isRefused: boolean, { monoMs }: Time): void {
    if (this.#open?.stream !== stream) return;
    this.#open = undefined;
    this.#hasFailed = true;
    this.#resumeMonoMs = NEVER;
    const waitMs = Math.min(LONG_RETRY_MS, RETRY_MS * 2 ** Math.min(this.#failures, 10));
    this.#failures += 1;
    this.#retryMonoMs = monoMs + (isRefused ? LONG_RETRY_MS : Math.max(waitMs, retryMs ?? 0));
  }

  /** Does a slice of what is due: it verifies, shows, hides and ends. */
  work(time: Time): void {
    const { policies, keys } = this.#parts;
    this.#time = time;
    keys.tick(time);
    const version = keys.version();
    if (version !== this.#version) this.held.keysChanged(keys.changedSince(this.#version));
    this.#version = version;
    if (policies.policy !== this.#policy) this.held.rulesChanged();
    this.#policy = policies.policy;
    this.held.work(time);
    this.mark += 1;
  }

  #newWatch(): UpstreamWatch {
    return new UpstreamWatch(new NamespacePrefixes([...this.#prefixes.list, BEACON_NAMESPACE]));
  }

  /** Only messages with an age say how the upstream is. */
  #noteAge({ snapshot, ageMs, isStale, unreachable }: SummaryMessage, delayMs: number, time: Time): void {
    this.#freshness.heard(time, { isChangesOnly: snapshot === SNAPSHOT.NONE && ageMs === undefined });
    if (ageMs === undefined) return;
    this.#resumeMonoMs = NEVER;
    this.#isUpstreamStale = isStale;
    if (this.#watch.isComplete && this.#watch.staged === undefined) this.#freshness.stated(ageMs + delayMs, time, unreachable);
  }

  #close(out: Out): void {
    if (this.#open !== undefined) out.push({ kind: "close summaries", stream: this.#open.stream });
    this.#open = undefined;
    this.#resumeMonoMs = NEVER;
  }

  #beginAnew(time: Time, out: Out): void {
    this.#watch.place = undefined;
    this.#again(0, time, out);
  }

  #again(afterMs: number, { monoMs }: Time, out: Out): void {
    this.#close(out);
    this.#hasFailed = true;
    this.#retryMonoMs = monoMs + afterMs;
  }

  // ---- bounds and digests ----
  get #isTooMuch(): boolean {
    const { replica } = this.held;
    const { maxEntries, maxBytes } = this.#options;
    return this.#followed.entryCount > maxEntries || replica.tombstoneCount > maxEntries || replica.slab.stats().usedBytes > maxBytes;
  }

  /** There is no room for what is told. A part of it would be taken for the whole, so nothing is kept. */
  #letGo(time: Time, out: Out): void {
    this.#again(LONG_RETRY_MS, time, out);
    this.#followed.drop(this.#watch.prefixes, new NamespacePrefixes([]), time);
    this.held.replica.collect(time, Number.POSITIVE_INFINITY, "count");
    this.#sum = new DigestSum();
    this.#watch = this.#newWatch();
    this.fault =
      "summaries do not fit resolver.max_entries and resolver.max_bytes, which bound them apart from entries: name fewer namespaces in summary.resolver_namespaces";
  }

  /** Whether the upstream has something else than is held. Asked again at most once a minute. */
  #differs({ digest, snapshot }: SummaryMessage, { monoMs }: Time): boolean {
    if (snapshot === SNAPSHOT.END) this.fault = undefined;
    if (digest === undefined || this.#watch.staged !== undefined) return false;
    if (digest.count === this.#sum.count && digest.digest === this.#sum.value) return false;
    if (monoMs < this.#comparesMonoMs) return false;
    this.#comparesMonoMs = monoMs + LONG_RETRY_MS;
    return true;
  }

  #touched(key: KeyText): void {
    for (const record of this.held.replica.records(key)) if (record.body === BODY.ENTRY) this.#sum.subtract(deltaId(record));
  }

  #told(key: KeyText): void {
    for (const record of this.held.replica.records(key)) if (record.body === BODY.ENTRY) this.#sum.add(deltaId(record));
  }
}

const ignore = (): void => {
  // What is followed is in no copy and under no guard.
};

/** The channels of summaries, by the words of the settings. */
export const CHANNELS: Readonly<Record<"zone" | "region" | "global", Scope>> = {
  zone: SCOPE.ZONE,
  region: SCOPE.REGION,
  global: SCOPE.GLOBAL,
};
