/** The catalog as read by DNS: with the permissions of a view's caller, and with samples for names that have many entries. */
import { isControlNamespace, isReservedNamespace, NODES_NAMESPACE } from "../../catalog/entry/names.ts";
import type { EntryView } from "../../catalog/entry/view.ts";
import { readTtlMs } from "../../catalog/entry/view.ts";
import {
  type FindOptions,
  type FoundInstances,
  GOLDEN_RATIO,
  type InstanceName,
  type NameSampling,
} from "../../catalog/query/instances.ts";
import { type CatalogRecord, type EntryKey, type KeyText, KIND, type Kind, keyText, viewHealth } from "../../catalog/record/record.ts";
import type { Replica } from "../../catalog/replica/replica.ts";
import { addressText } from "../../discovery/address-names.ts";
import type { ParsedAliasClaim } from "../../discovery/alias-claim.ts";
import { healthRank } from "../../discovery/candidates.ts";
import type { DnsNames } from "../../discovery/dns-names.ts";
import type { CatalogReads } from "../../discovery/reads.ts";
import type { ClusterNames } from "../../discovery/summaries/cluster-names.ts";
import type { ViewerClass } from "../../discovery/visible-names.ts";
import type { IpAddress } from "../../lib/addresses.ts";
import { WaymarkError } from "../../lib/errors.ts";
import { anonymousCaller, type Caller, viewText } from "../../policy/identity/caller.ts";
import type { PolicySource } from "../../policy/set/verdict.ts";
import { wordsOf } from "../names/labels.ts";
import { type ListedService, MAX_AT_ADDRESS, MAX_BROWSED, type TruncatedList } from "../subject/browsing.ts";
import { findGateways } from "../subject/gateways.ts";
import { DependencyRecorder, type PlanDependencies } from "../subject/plan-dependencies.ts";
import { type AliasOwner, type LookupOutcome, PendingNameError, type RemoteLookup } from "../subject/remote-lookup.ts";
import { DEFAULT_VIEW, type DnsCatalog, type DnsView, MAX_TARGETS } from "../subject/subject.ts";
import { hiddenAbove, isClaimRightful, namespaceOf, ownWords } from "./alias-visibility.ts";
import { listServices } from "./services.ts";
import type { ViewerOfView } from "./views.ts";

/** The parts of a node or resolver that DNS uses. */
export interface DnsSources {
  readonly reads: CatalogReads;
  readonly replica: Pick<Replica, "revision">;
  readonly dnsNames: Pick<DnsNames, "catchUp" | "findAlias" | "follow" | "hasNameUnder" | "namesAt" | "view">;
  readonly identity: { readonly clusterId: string };
  readonly policies: PolicySource;
  /** Looks up names that are not watched. Absent on nodes, because they have the complete catalog. */
  readonly remoteLookup?: RemoteLookup | undefined;
  /** Resolves names that have no usable entry in this cluster to other clusters. If absent, only local entries are used. */
  readonly clusters?: Pick<ClusterNames, "catchUp" | "find" | "follow" | "hasNameUnder" | "now"> | undefined;
  /** The entry that represents the serving process as `<its id>.node` while no node has this id. Absent on nodes, because they are in the catalog. */
  readonly self?: EntryView | undefined;
  /** Maximum number of entries returned for a name with many entries. Defaults to as many entries as fit into a response. */
  readonly mostEntries?: number | undefined;
}

/** More versions than a policy can have during the lifetime of a process. */
const VERSIONS_PER_GENERATION = 2 ** 22;
/**
 * Names with more instances are sampled and their answers have TC set, because all addresses would not fit into a message. A UDP response has room
 * for about twenty healthy instances.
 */
const DNS_SAMPLING = { form: "spread", rank: healthRank, ideal: 0, fit: 0, wanted: 32, whole: MAX_TARGETS } as const;

/** Sampling options for an existence check, which uses the first entry found, regardless of its health. */
const ANY_ONE = { form: "spread", at: 0, rank: () => 0, ideal: 0, fit: 0, wanted: 1, most: 1, whole: 1 } as const;

/** `self` is the entry that represents the serving process, when the name is that process's own name. */
type FoundHere<T> = Pick<FoundInstances<T>, "found" | "isSample"> & { readonly self: EntryView | undefined };
const NOTHING_FOUND = { found: [], isSample: false, self: undefined } as const;

/** Maximum number of entries per name that are examined to find a healthy entry at an address. */
const MAX_READ_OF_NAME = 64;

/** A name that neither a namespace nor an alias can have, so lookups of it find nothing. */
const NOWHERE = "~";

/** Maximum total size of the entries read for TXT records, in bytes: several times the largest response. */
const MOST_TEXT_BYTES = 1024 * 1024;

/** Maximum number of hidden namespaces that an answer in a reverse zone reports. */
const MAX_HIDDEN = 16;

/**
 * Returns the catalog as seen by a view. The viewer is an anonymous caller, unless another viewer is given. `onHidden` is called once per answer with
 * the hidden namespaces.
 */
export function dnsCatalog(
  random: () => number,
  sources: DnsSources,
  onHidden: (namespaces: readonly string[]) => void = () => {},
  viewer: ViewerOfView = { view: DEFAULT_VIEW, caller: anonymousCaller(sources.identity.clusterId, "") },
): DnsCatalog {
  const { remoteLookup } = sources;
  const notes = {
    hidden: new Set<string>(),
    rests: new DependencyRecorder(),
    hasSampled: false,
    sampleCount: 0,
    hasRead: false,
    endsWallMs: Number.POSITIVE_INFINITY,
    position: random(),
  };
  const held =
    remoteLookup && new CatalogInDns({ ...sources, remoteLookup: remoteLookup.held }, viewer, { notes, onHidden, held: undefined });
  const texts = new CatalogInDns(sources, viewer, { notes, onHidden, held, mostBytes: MOST_TEXT_BYTES });
  return new CatalogInDns(sources, viewer, { notes, onHidden, held, texts });
}

/** Observations made while an answer is being built. */
interface AnswerNotes {
  readonly hidden: Set<string>;
  readonly rests: DependencyRecorder;
  hasSampled: boolean;
  sampleCount: number;
  /** Whether any data was read that a resolver receives from its upstreams. */
  hasRead: boolean;
  /** The earliest expiry of data read from other clusters. */
  endsWallMs: number;
  /**
   * Position of the next sample. It starts at a random position, so that nodes do not all start with the same instances, and then advances so that
   * all instances are sampled.
   */
  position: number;
}

interface AnswerInProgress {
  readonly notes: AnswerNotes;
  readonly onHidden: (namespaces: readonly string[]) => void;
  readonly held: DnsCatalog | undefined;
  readonly texts?: DnsCatalog;
  /** Maximum number of bytes that `find` reads from a name's entries. It always reads at least one entry. If absent, there is no limit. */
  readonly mostBytes?: number;
}

class CatalogInDns implements DnsCatalog {
  readonly view: DnsView;
  readonly held: DnsCatalog | undefined;
  readonly texts: DnsCatalog | undefined;
  readonly #mostBytes: number;
  readonly onHidden: (namespaces: readonly string[]) => void;
  readonly changes: DnsCatalog["changes"];
  readonly remoteLookup: RemoteLookup | undefined;
  readonly now: DnsCatalog["now"];
  readonly findCluster: DnsCatalog["findCluster"];
  readonly #sources: DnsSources;
  readonly #notes: AnswerNotes;
  readonly #viewer: Caller;
  readonly #counts: (claim: ParsedAliasClaim) => boolean;
  readonly #viewerClass: ViewerClass;
  /** `at` is set before each use. HOT. */
  readonly #sampling: { -readonly [K in keyof NameSampling]: NameSampling[K] };

  constructor(
    sources: DnsSources,
    { view, caller }: ViewerOfView,
    { notes, onHidden, held, texts, mostBytes = Number.POSITIVE_INFINITY }: AnswerInProgress,
  ) {
    const { identity, policies } = sources;
    this.view = view;
    this.held = held;
    this.texts = texts;
    this.#mostBytes = mostBytes;
    this.onHidden = onHidden;
    this.changes = sources.clusters ?? sources.dnsNames;
    this.now = sources.clusters?.now;
    this.remoteLookup = sources.remoteLookup;
    this.#sources = sources;
    this.#notes = notes;
    this.#viewer = caller;
    const { reads, clusters } = sources;
    if (clusters !== undefined) this.findCluster = (kind, namespace, name) => this.#clusterOf(clusters, { kind, namespace, name });
    this.#viewerClass = {
      key: viewText(caller, `${caller.cluster}\0${caller.tenant}`),
      version: () => reads.policyRevision,
      sees: (namespace) => reads.verdict(caller, namespace).allowed,
      seesName: (name) => this.#hiddenAbove(name) === undefined,
    };
    const { mostEntries } = sources;
    const bounds = mostEntries === undefined ? {} : { wanted: mostEntries, most: mostEntries, whole: mostEntries };
    this.#sampling = { ...DNS_SAMPLING, ...bounds, at: 0 };
    this.#counts = (claim) => isClaimRightful(claim, policies.policy, identity.clusterId) && this.#hiddenAbove(claim.name) === undefined;
  }

  get version(): number {
    const { reads, remoteLookup } = this.#sources;
    // Distinguishes plans built while an upstream was reachable from plans that may contain stale data.
    const version = 2 * reads.policyRevision + (remoteLookup?.isCutOff === true ? 1 : 0);
    // Plans that were built for an earlier view with the same index therefore never match.
    return version + (this.view.generation ?? 0) * VERSIONS_PER_GENERATION;
  }

  takePlanDependencies(): PlanDependencies {
    return this.#notes.rests.take(() => this.remoteLookup?.takeDependencies());
  }

  find(kind: Kind, namespace: string, name: string, port?: string, instanceId?: string): readonly EntryView[] {
    const { reads } = this.#sources;
    let leftBytes = this.#mostBytes;
    const read = (record: CatalogRecord) => {
      if (leftBytes <= 0) return undefined;
      leftBytes -= record.sizeBytes;
      this.#notes.rests.origin(record.origin.id);
      return { key: record.key, entry: reads.entry(record) };
    };
    const sampling = this.#samplingNow;
    const { found: tried, isSample, self } = this.#find({ kind, namespace, name, onlyInstanceId: instanceId }, port, { sampling, read });
    const found = tried.filter((one) => one !== undefined);
    if (found.length < tried.length) this.#notes.sampleCount += 1;
    if (self !== undefined && found.length === 0) return [self];
    if (!isSample) return found.map(({ entry }) => entry);
    this.#took();
    return found.toSorted((a, b) => (a.key < b.key ? -1 : 1)).map(({ entry }) => entry);
  }

  has(kind: Kind, namespace: string, name: string, port?: string): boolean {
    const { found, self } = this.#find({ kind, namespace, name }, port, { sampling: ANY_ONE, read: () => true });
    return found.length > 0 || self !== undefined;
  }

  #find<T>(asked: InstanceName, port: string | undefined, options: Pick<FindOptions<T>, "read" | "sampling">): FoundHere<T> {
    const { kind, namespace, name } = asked;
    const { reads } = this.#sources;
    if (!reads.verdict(this.#viewer, namespace).allowed) {
      if (namespace === NOWHERE) return NOTHING_FOUND;
      this.#notes.hidden.add(namespace);
      // Looks up an absent name instead, so that lookups of hidden and absent names take the same time. A resolver would fetch the absent name, so it
      // returns immediately.
      return this.remoteLookup === undefined ? this.#find({ ...asked, namespace: NOWHERE }, port, options) : NOTHING_FOUND;
    }
    this.#notes.rests.entries(kind, namespace, name);
    this.#noteElsewhere(namespace);
    const self = kind === KIND.NODE && namespace === NODES_NAMESPACE ? this.#selfIf(name) : undefined;
    if (!this.#knows({ kind, namespace, name }, self !== undefined) && self !== undefined) return { ...NOTHING_FOUND, self };
    const suits = port === undefined ? undefined : ({ traits }: CatalogRecord) => traits.ports.includes(port);
    const { sampling, read } = options;
    const { found, isSample } = reads.find(this.#viewer, asked, { sampling, read, suits });
    return { found, isSample, self };
  }

  #clusterOf(clusters: NonNullable<DnsSources["clusters"]>, name: Pick<EntryKey, "kind" | "name" | "namespace">): EntryView | undefined {
    const { rests, hidden } = this.#notes;
    if (!this.#sources.reads.verdict(this.#viewer, name.namespace).allowed) {
      hidden.add(name.namespace);
      // Looks up an absent name instead, so that lookups of hidden and absent names take the same time.
      return name.namespace === NOWHERE ? undefined : this.#clusterOf(clusters, { ...name, namespace: NOWHERE });
    }
    rests.entries(name.kind, name.namespace, name.name);
    const found = clusters.find(this.#viewer, name, this.view.locality?.region);
    for (const beacon of found.rests) rests.beacon(beacon);
    rests.ends(found.ends);
    this.#notes.endsWallMs = Math.min(this.#notes.endsWallMs, found.ends.wallMs);
    return found.entry;
  }

  services(namespace: string): TruncatedList<ListedService> {
    const { reads, remoteLookup } = this.#sources;
    // This is checked before the verdict, so that the error does not reveal which namespaces exist.
    if (remoteLookup?.isEmpty === false)
      throw new WaymarkError("not_ready", "cannot list the services of a namespace: this resolver does not watch all namespaces");
    if (!reads.verdict(this.#viewer, namespace).allowed) {
      this.#notes.hidden.add(namespace);
      return { items: [], isCut: false };
    }
    const { rests } = this.#notes;
    rests.services(namespace);
    this.#noteElsewhere(namespace);
    const { lookup, slab } = reads.replica;
    const read = (record: CatalogRecord) => {
      rests.origin(record.origin.id);
      return { health: viewHealth(record), ttlMs: readTtlMs(slab.view(record.at, record.sizeBytes)) };
    };
    return listServices(lookup, namespace, { most: MAX_BROWSED, read });
  }

  get sampleCount(): number {
    return this.#notes.sampleCount;
  }

  takeSampled(): boolean {
    const has = this.#notes.hasSampled;
    this.#notes.hasSampled = false;
    return has;
  }

  takeHidden(): readonly string[] {
    const { hidden } = this.#notes;
    if (hidden.size === 0) return [];
    const namespaces = [...hidden];
    hidden.clear();
    return namespaces;
  }

  takeLeftMs(): number {
    const { remoteLookup } = this.#sources;
    const { endsWallMs } = this.#notes;
    this.#notes.endsWallMs = Number.POSITIVE_INFINITY;
    // Expired data is not used, so at least 1 ms is left.
    const ownMs = endsWallMs === Number.POSITIVE_INFINITY ? endsWallMs : Math.max(1, endsWallMs - (this.now?.().wallMs ?? endsWallMs));
    const leftMs = Math.min(ownMs, remoteLookup?.takeRemainingMs() ?? Number.POSITIVE_INFINITY);
    const hasRead = this.#notes.hasRead;
    this.#notes.hasRead = false;
    // While the resolver is cut off, it does not receive changes in watched namespaces either.
    return hasRead && remoteLookup?.isCutOff === true ? 0 : leftMs;
  }

  answered(answered: LookupOutcome): void {
    this.#sources.remoteLookup?.answered(answered);
  }

  hasNameUnder(suffix: string, zone: string): boolean {
    const { reads, dnsNames, remoteLookup, policies, clusters } = this.#sources;
    const seesName = (name: string) => this.#hiddenAbove(name) === undefined;
    const view = { sees: reads.allowed(this.#viewer), counts: this.#counts, seesName, viewerClass: this.#viewerClassNow };
    this.#notes.rests.below(suffix, zone);
    this.#noteElsewhere("");
    if (dnsNames.hasNameUnder(suffix, zone, view) || clusters?.hasNameUnder(suffix, zone, view) === true) return true;
    if (remoteLookup === undefined || remoteLookup.isEmpty) return false;
    // If the policy denies by default, many visible names are below hidden names. Lookups therefore include hidden names, whether they exist or not,
    // but the viewer receives only visible names.
    if (policies.policy.set?.defaultAllow !== false && this.#isHidden(ownWords(suffix))) return false;
    return remoteLookup.hasNameUnder(suffix, zone, view);
  }

  findAlias(name: string, zone: string): readonly EntryView[] {
    const { reads, dnsNames, remoteLookup } = this.#sources;
    // Checks the verdict before any lookup, so that neither the answer nor its timing reveals hidden names.
    const hidden = this.#hiddenAbove(name);
    if (hidden !== undefined) {
      this.#notes.hidden.add(hidden);
      return remoteLookup === undefined && name !== NOWHERE ? this.findAlias(NOWHERE, zone) : [];
    }
    const allowed = reads.allowed(this.#viewer);
    const { rests } = this.#notes;
    rests.alias(name, zone);
    this.#noteElsewhere("");
    const sees = (namespace: string) => allowed(namespace) || (this.#notes.hidden.add(namespace), false);
    const view = { sees, counts: this.#counts, viewerClass: this.#viewerClassNow };
    const sampling = this.#samplingNow;
    const { records, isSample } = dnsNames.findAlias(name, zone, view, sampling);
    if (isSample) this.#took();
    for (const { origin } of records) rests.origin(origin.id);
    const own = records.map((record) => reads.entry(record));
    if (remoteLookup === undefined || this.#isHidden(wordsBehindPorts(name))) return own;
    const others = remoteLookup.findAlias(name, zone, view, own.length > 0);
    return others.length === 0 ? own : inOrder(own, others);
  }

  atAddress(address: IpAddress): TruncatedList<EntryView> {
    const { reads, dnsNames } = this.#sources;
    const { rests, hidden } = this.#notes;
    const allowed = reads.allowed(this.#viewer);
    rests.address(addressText(address));
    this.#noteElsewhere("");
    const found: CatalogRecord[] = [];
    let isCut = false;
    for (const [name, keys] of dnsNames.namesAt(address)) {
      const namespace = name.slice(0, name.indexOf("\0"));
      if (!allowed(namespace)) {
        // The number is bounded because every answer reports these namespaces.
        if (hidden.size < MAX_HIDDEN) hidden.add(namespace);
        continue;
      }
      const { best, isWhole } = this.#bestOf(keys);
      if (!isWhole) isCut = true;
      if (best === undefined) continue;
      // Counts only visible entries, so that the number does not reveal hidden entries.
      if (found.length === MAX_AT_ADDRESS) {
        isCut = true;
        break;
      }
      found.push(best);
    }
    const records = found.toSorted((a, b) => (a.key < b.key ? -1 : 1));
    return { items: records.map((record) => reads.entry(record)), isCut };
  }

  /** Returns the healthiest of the first `MAX_READ_OF_NAME` records. `isWhole` means that the remaining records cannot be healthier. */
  #bestOf(keys: Iterable<KeyText>): { readonly best: CatalogRecord | undefined; readonly isWhole: boolean } {
    const { dnsNames } = this.#sources;
    let best: CatalogRecord | undefined;
    let readCount = 0;
    for (const key of keys) {
      if (readCount === MAX_READ_OF_NAME) return { best, isWhole: false };
      readCount += 1;
      const record = dnsNames.view(key);
      if (record === undefined) continue;
      this.#notes.rests.origin(record.origin.id);
      if (best === undefined || healthRank(record) < healthRank(best)) best = record;
      if (healthRank(record) === DNS_SAMPLING.ideal) break;
    }
    return { best, isWhole: true };
  }

  gateways(zone: string): readonly EntryView[] {
    const { reads, identity, remoteLookup } = this.#sources;
    // A resolver watches node entries like other entries and cannot know whether it has all of them.
    if (remoteLookup !== undefined) return [];
    this.#notes.rests.nodes();
    const read = (record: CatalogRecord) => reads.entry(record);
    return findGateways(reads.replica.lookup, { clusterId: identity.clusterId, zone, read });
  }

  /**
   * Returns whether the policy hides the namespace that contains a name, by a rule or because no rule allows it. Returns false if the name itself is
   * a namespace that a rule makes visible. Such a name is not fetched, so that neither the timing of the answer nor the cache reveals what exists. A
   * name with one label is not in a namespace. Its data is checked against the policy when the data arrives.
   */
  #isHidden(labels: readonly string[]): boolean {
    if (labels.length < 2) return false;
    const { reads, policies } = this.#sources;
    const above = namespaceOf(labels.slice(1));
    // The namespace `node` contains the nodes, and the policy never hides nodes.
    if (isReservedNamespace(above) || reads.verdict(this.#viewer, above).allowed) return false;
    const own = namespaceOf(labels);
    const isNamed = isControlNamespace(own) || policies.policy.ruleOf(own) !== undefined;
    return !isNamed || !reads.verdict(this.#viewer, own).allowed;
  }

  #hiddenAbove(name: string): string | undefined {
    const { reads, policies } = this.#sources;
    return hiddenAbove(name, policies.policy, (namespace) => reads.verdict(this.#viewer, namespace).allowed);
  }

  /** Returns undefined when no names are hidden because there is no policy. */
  get #viewerClassNow(): ViewerClass | undefined {
    return this.#sources.policies.policy.set === undefined ? undefined : this.#viewerClass;
  }

  /** Records the dependency of the next read: on the namespace being watched or, if it is not, on the remote lookups. */
  #noteElsewhere(namespace: string): void {
    const { remoteLookup } = this.#sources;
    if (remoteLookup === undefined) return;
    this.#notes.hasRead = true;
    if (remoteLookup.isFollowed(namespace)) this.#notes.rests.followed(namespace);
    else this.#notes.rests.asked();
  }

  #selfIf(name: string): EntryView | undefined {
    const { self } = this.#sources;
    return self?.key.name === name ? self : undefined;
  }

  /**
   * Returns true when the entries of the name are available. Throws like `RemoteLookup.require`, but returns false when no upstream can be queried and the name
   * is optional.
   */
  #knows(name: InstanceName, isOptional: boolean): boolean {
    try {
      this.#sources.remoteLookup?.require(name);
      return true;
    } catch (error) {
      if (!isOptional || error instanceof PendingNameError) throw error;
      return false;
    }
  }

  get #samplingNow(): NameSampling {
    this.#sampling.at = this.#notes.position;
    return this.#sampling;
  }

  #took(): void {
    this.#notes.hasSampled = true;
    this.#notes.sampleCount += 1;
    this.#notes.position = (this.#notes.position + GOLDEN_RATIO) % 1;
  }
}

/** Returns the labels after the port and transport labels. Labels before `_svc._tcp` are not part of a namespace. */
function wordsBehindPorts(name: string): readonly string[] {
  const words = wordsOf(name);
  return words.slice(words.findLastIndex((word) => word.startsWith("_")) + 1);
}

/** Sorts entries with an alias by key, which is the order used on nodes. */
function inOrder(own: readonly EntryView[], others: readonly AliasOwner[]): readonly EntryView[] {
  const all = [...own, ...others.map(({ entry }) => entry)].map((entry) => ({ entry, key: keyText(entry.key) }));
  return all.toSorted((a, b) => (a.key < b.key ? -1 : 1)).map(({ entry }) => entry);
}
