/** The reads that all listeners share: pages, readers for watches, nodes and status. All reads use the same policy verdict (P11). */
import { decodeEntry } from "../catalog/entry/codec.ts";
import { isControlNamespace, NODES_NAMESPACE } from "../catalog/entry/names.ts";
import { SCOPE } from "../catalog/entry/scope.ts";
import type { EntryView } from "../catalog/entry/view.ts";
import type { EntryIndex } from "../catalog/query/entry-index.ts";
import { ANY, coveredNamespaces, type EntryFilter, filterHash, filterText } from "../catalog/query/filter.ts";
import { type FindOptions, type FoundInstances, findInstances, findJoined, type InstanceName } from "../catalog/query/instances.ts";
import { NamespacePrefixes } from "../catalog/query/prefixes.ts";
import {
  type ConsideredEntry,
  decodePageToken,
  type EntryTest,
  encodePageToken,
  joinedPage,
  MAX_LIMIT,
  type QueryOptions,
  type QueryPage,
  queryPage,
} from "../catalog/query/query.ts";
import { type CatalogRecord, type KeyText, KIND } from "../catalog/record/record.ts";
import type { Replica } from "../catalog/replica/replica.ts";
import type { WatchCursor } from "../catalog/watch/cursor.ts";
import { type HiddenNamespaces, type ReaderNode, type ReaderOptions, WatchReader } from "../catalog/watch/reader.ts";
import { sha256Hex } from "../lib/crypto.ts";
import { WaymarkError } from "../lib/errors.ts";
import { textHash } from "../lib/hash64.ts";
import { counted } from "../lib/text/visible-text.ts";
import { type Caller, hasRole, viewText } from "../policy/identity/caller.ts";
import type { NamespaceRule } from "../policy/set/rules.ts";
import {
  differentOwners,
  hasSameOwners,
  hiddenError,
  NO_POLICY,
  type OnDenied,
  type Policy,
  type PolicySource,
  type PolicyVerdict,
  seesAll,
  type Viewer,
  VisibilityFilter,
  type VisiblePolicy,
  visibilityBetween,
  visibilityOf,
} from "../policy/set/verdict.ts";

/** Maximum bytes of encoded entries in one page: well below the default limit of gRPC clients (4 MiB). */
const MAX_PAGE_BYTES = 1024 * 1024;
/**
 * Maximum total number of characters in the filters of open watches. One filter may have 150,000 characters, and 50,000 watches may be open. Filters
 * with up to SHORT_FILTER characters are not counted.
 */
const MAX_FILTER_CHARS = 128 * 1024 * 1024;
const SHORT_FILTER = 1024;
const ROOM_RETRY_MS = 1000;
/** Retry hint of a new node that has no policy yet. The policy usually arrives within a second. */
const PENDING_RETRY_MS = 500;
/** Number of digits in the hash of a policy's epoch. The hash is part of the holder of short cursors, which has at most 64 characters. */
const EPOCH_HASH_LENGTH = 12;

/** The lists of entries that a resolver uses for answers. On a node, all entries are in the replica's lookup. */
export interface ResolverAnswerLists {
  /**
   * Returns the lists of all entries in a namespace and the namespaces below it. No key is in more than one list. An empty string means all
   * namespaces.
   */
  of(namespace: string): readonly EntryIndex[];
  /** Whether an entry in these lists may be shown. */
  admits(record: CatalogRecord): boolean;
  readonly portableCursor: ReaderOptions["portableCursor"];
  readonly isAtPlace: ReaderOptions["isAtPlace"];
}

export interface QueryPageRequest {
  readonly filter: EntryFilter;
  /** A result of `pageLimit`. */
  readonly limit: number;
  readonly token: string;
  readonly isExplained: boolean;
  /** Distinguishes the lists of different methods in page tokens. */
  readonly salt: string;
  /** An additional test that excludes entries. The parameters are part of the salt. */
  readonly test?: EntryTest | undefined;
  /** As in `QueryOptions`. The parameters are part of the salt. */
  readonly open?: QueryOptions["open"];
}

export interface PageAnswer {
  readonly records: readonly CatalogRecord[];
  readonly nextToken: string;
  readonly considered: readonly ExplainedEntry[] | undefined;
  readonly hiddenBy: HiddenNamespaces | undefined;
}

/** A considered entry, or all entries that one rule hides, which have no key. */
export type ExplainedEntry = Omit<ConsideredEntry, "key" | "reason"> & { readonly key?: KeyText; readonly reason: string };

export type ReaderRequest = Pick<ReaderOptions, "filter" | "isNamesOnly" | "withDigest">;

interface SharedReader {
  readonly reader: WatchReader;
  /** The viewer of the reader. Readers of one class see the same entries. Undefined for a reader that sees all entries, such as a resolver. */
  readonly viewer: Viewer | undefined;
  /** Whether the reader has pending changes in this policy version. */
  pending: { readonly version: number; readonly isAny: boolean } | undefined;
}

export interface ReadsPolicy {
  readonly policies: PolicySource;
  readonly onDenied: OnDenied;
  /** Set on a resolver only. */
  readonly lists?: ResolverAnswerLists | undefined;
  /** For summaries: namespaces that only resolvers' watches can see. Hiding them from other readers is not recorded as a denial. */
  readonly hides?: (namespace: string) => boolean;
}

/** The policy that applies to a namespace. */
interface EffectiveRule {
  readonly verdict: PolicyVerdict;
  /** The label of the rule or the rule set. */
  readonly version: string;
  /** Undefined if there is no rule or the caller cannot see the namespace. */
  readonly rule: NamespaceRule | undefined;
  /** Number of the version in force, or 0 if there is none. */
  readonly number: number;
}

export class CatalogReads {
  readonly replica: Replica;
  readonly node: ReaderNode;
  readonly #policies: PolicySource;
  readonly #onDenied: OnDenied;
  readonly #lists: ResolverAnswerLists | undefined;
  readonly #hides: ReadsPolicy["hides"];
  /** Identifies the state, other than records and policy, that affects answers. Empty if there is no such state. */
  #answers = "";
  readonly #readers = new Map<string, SharedReader>();
  /** Total number of characters in the names of readers with long filters. */
  #filterChars = 0;
  /** Number of policy changes and policy settlements in this thread. */
  #policyRevision = 0;
  #boot: { readonly version: number; readonly text: string };
  #versionPolicy: Policy;
  /** The policy that all records follow. */
  #shownPolicy: Policy;
  /** The last policy of which every watch has been notified. */
  #settledPolicy: Policy;
  #visible: { readonly of: Policy; readonly visible: VisiblePolicy };
  /**
   * Policies that have been in force since `#settledPolicy`: watches may have read entries under any of them. A node waits until its watches have
   * been notified of the previous policy.
   */
  #unsettled: readonly Policy[] = [];
  /** Policies that have been in force since `#shownPolicy`: records that have arrived since then may follow any of them. */
  #unshown: readonly Policy[] = [];
  /** For one policy version, the prefixes below which records may follow owner rules that differ from the policy in force. */
  #reowned = { version: -1, prefixes: new NamespacePrefixes([]) };

  constructor(replica: Replica, node: ReaderNode, policy: ReadsPolicy) {
    this.replica = replica;
    this.#lists = policy.lists;
    this.#hides = policy.hides;
    this.#policies = policy.policies;
    // A new node without a policy hides everything, which is not recorded as a denial.
    this.#onDenied = (caller, denial) => {
      if (!policy.policies.policy.isPending) policy.onDenied(caller, denial);
    };
    this.#versionPolicy = policy.policies.policy;
    this.#shownPolicy = policy.policies.policy;
    this.#settledPolicy = policy.policies.policy;
    this.#visible = { of: this.#shownPolicy, visible: this.#shownPolicy };
    this.#boot = { version: -1, text: "" };
    const bootOf = () => this.#bootOf(node.boot);
    this.node = {
      nodeId: node.nodeId,
      clusterId: node.clusterId,
      region: node.region,
      get boot() {
        return bootOf();
      },
    };
  }

  /** The epoch of the policy in force. */
  get policyEpoch(): string {
    return this.#policies.policy.epoch;
  }

  /** Rejects a resolver's reads until this node knows which entries the owner rules hide. */
  checkResolved(): void {
    if (this.#policies.policy.isPending)
      throw new WaymarkError(
        "not_ready",
        "this node is waiting for its cluster's policy and does not serve resolvers yet; retry later or on another node",
        {
          retryMs: PENDING_RETRY_MS,
        },
      );
  }

  /**
   * Rejects a watch that resumes from a portable cursor until this node's watches have been notified of its first policy. Before that, such a cursor
   * can only be answered with a snapshot, and after a restart of all nodes, every reader would resume at about that time.
   */
  checkResume(): void {
    if (this.#settledPolicy.isPending)
      throw new WaymarkError(
        "not_ready",
        "this node is waiting for its cluster's policy and cannot resume from a cursor yet; retry later or on another node",
        {
          retryMs: PENDING_RETRY_MS,
        },
      );
  }

  /** Returns whether a caller may see a namespace, and the reason. */
  verdict(caller: Caller, namespace: string): PolicyVerdict {
    return this.#policyFor(caller).viewer(namespace, { clusterId: caller.cluster, tenant: caller.tenant });
  }

  /** Returns the policy that applies to a caller's reads: in the operator's view, none. */
  #policyFor({ hasOperatorView }: Caller): VisiblePolicy {
    return hasOperatorView === true ? NO_POLICY : this.policy;
  }

  /** In the operator's view, returns which rules hide these namespaces from the same caller otherwise. Undefined in other views. */
  hiddenBy(caller: Caller, items: readonly { readonly namespace: string }[]): HiddenNamespaces | undefined {
    if (caller.hasOperatorView !== true) return undefined;
    const rules = items.map(({ namespace }) => [namespace, this.#hidingRule(caller, namespace)] as const);
    return Object.fromEntries(rules.filter((pair): pair is [string, string] => pair[1] !== undefined));
  }

  /** Returns the rule that hides a namespace from a caller's own view, or `default_allow`, which is not a rule. Undefined if it is visible. */
  #hidingRule({ cluster: clusterId, tenant }: Caller, namespace: string): string | undefined {
    const { allowed, rule } = this.policy.viewer(namespace, { clusterId, tenant });
    return allowed ? undefined : rule || "default_allow";
  }

  /** Counts the matching entries that the policy hides from an operator, by rule. Cost: one page of hidden namespaces. */
  #explainHidden(caller: Caller, { filter, test, open }: QueryPageRequest): readonly ExplainedEntry[] {
    const allowed = this.#shown((namespace) => this.#hidingRule(caller, namespace) !== undefined);
    const { records, nextKey } = this.#pageOf(filter, {
      limit: MAX_LIMIT,
      afterKey: "",
      self: this.node,
      allowed,
      explain: false,
      test,
      open,
    });
    return [...Map.groupBy(records, ({ namespace }) => this.#hidingRule(caller, namespace))].map(([rule, { length }]) => {
      const count = `${nextKey === undefined ? "" : "at least "}${counted(length, "entry is", "entries are")}`;
      return { kept: false, reason: "policy", detail: `${count} hidden by rule ${rule}` };
    });
  }

  /** Returns the verdict on a namespace under the policy in force. The rule is returned only to a caller that may see the namespace. */
  rule(caller: Caller, namespace: string): EffectiveRule {
    const verdict = this.verdict(caller, namespace);
    const { policy } = this.#policies;
    // The control plane's namespaces are not covered by any rule.
    const rule = verdict.allowed && !isControlNamespace(namespace) ? policy.ruleOf(namespace) : undefined;
    const label = rule?.policyVersion ?? "";
    return { verdict, version: label === "" ? (policy.set?.version ?? "") : label, rule, number: policy.number };
  }

  /**
   * Rejects a watch of exactly this namespace if the caller cannot see the namespace. `namespace` is empty for a watch of more than one namespace.
   */
  checkWatch(caller: Caller, namespace: string): void {
    if (namespace === "") return;
    if (this.#policies.policy.isPending)
      throw new WaymarkError(
        "not_ready",
        "this node is waiting for its cluster's policy and cannot start a watch on a single namespace yet; retry later or on another node",
        { retryMs: PENDING_RETRY_MS },
      );
    const verdict = this.verdict(caller, namespace);
    if (verdict.allowed) return;
    this.#onDenied(caller, { action: "watch", namespace, verdict });
    throw hiddenError("namespace", namespace);
  }

  /** Records in the audit log which of these namespaces are omitted from another node's answer because the policy hides them from the caller. */
  noteHidden(caller: Caller, namespaces: readonly string[]): void {
    for (const namespace of namespaces) {
      const verdict = this.verdict(caller, namespace);
      if (!verdict.allowed) this.#onDenied(caller, { action: "query", namespace, verdict });
    }
  }

  /** A number that changes immediately when the policy changes, and again when the policy has settled. */
  get policyRevision(): number {
    this.#note(this.#policies.policy);
    return this.#policyRevision;
  }

  /** Must be called when another policy may be in force, before any records arrive under that policy. */
  notePolicy(): void {
    this.#note(this.#policies.policy);
  }

  /**
   * Records that answers have changed even though neither the records nor the policy did. `name` identifies the new state. Earlier cursors are
   * answered with a snapshot. The caller must refresh the affected watches in the same turn.
   */
  noteAnswers(name: string): void {
    if (name === this.#answers) return;
    this.#answers = name;
    this.#policyRevision += 1;
  }

  #note(policy: Policy): void {
    if (policy === this.#versionPolicy) return;
    this.#versionPolicy = policy;
    this.#policyRevision += 1;
    this.#unsettled = [...this.#unsettled, policy];
    this.#unshown = [...this.#unshown, policy];
  }

  /**
   * Whether every watch has been notified of the policy in force. Until then, a watch may have skipped changes that it will receive later, so cursors
   * are answered only with a snapshot.
   */
  get isSettled(): boolean {
    return this.#policies.policy === this.#settledPolicy;
  }

  /** Whether records do not follow any policy yet, and are hidden from all callers. */
  get isPending(): boolean {
    return this.#shownPolicy.isPending;
  }

  /** The current visibility: under the policy in force and, until all records follow the new owner rules, also under the previous policy. */
  get policy(): VisiblePolicy {
    const { policy } = this.#policies;
    if (this.#visible.of !== policy) this.#visible = { of: policy, visible: visibilityBetween(this.#shownPolicy, policy) };
    return this.#visible.visible;
  }

  /** Notes that all records of the catalog follow this policy's owner rules. */
  show(policy: Policy): void {
    this.#shownPolicy = policy;
    const { policy: inForce } = this.#policies;
    this.#unshown = policy === inForce ? [] : this.#unshown.slice(this.#unshown.indexOf(policy) + 1);
    this.#visible = { of: inForce, visible: policy === inForce ? policy : visibilityBetween(policy, inForce) };
    this.#policyRevision += 1;
  }

  /** Returns the viewer of a reader. Returns undefined for a resolver, and after the reader has been released. */
  viewerOf(reader: WatchReader): Viewer | undefined {
    return this.#readers.get(reader.options.name)?.viewer;
  }

  /** Notes that every watch has been notified of this policy. */
  settle(policy: Policy): void {
    this.#settledPolicy = policy;
    this.#unsettled = policy === this.#policies.policy ? [] : this.#unsettled.slice(this.#unsettled.indexOf(policy) + 1);
    this.#policyRevision += 1;
  }

  /** Returns a page in key order. Throws `invalid_argument` for a page token that was issued for another filter. */
  page(caller: Caller, request: QueryPageRequest): PageAnswer {
    const { filter, limit, token, isExplained } = request;
    const salt = viewText(caller, request.salt);
    // HOT: most queries have only one page, so the hash is computed only if there is a next page.
    const afterKey = token === "" ? "" : decodePageToken(token, filterHash(filter, salt));
    const policy = this.#policyFor(caller);
    const visibility = policy.set === undefined || filter.resolved !== undefined ? undefined : new VisibilityFilter(policy, caller);
    // Hidden and absent namespaces are handled the same way: no lookup happens before the verdict.
    const isHidden = visibility !== undefined && filter.namespace !== "" && !visibility.sees(filter.namespace);
    const page = isHidden
      ? { records: [], nextKey: undefined, considered: isExplained ? [] : undefined }
      : this.#pageOf(filter, {
          limit,
          afterKey,
          self: this.node,
          allowed: this.#shown(visibility?.sees ?? seesAll),
          explain: isExplained,
          test: request.test,
          open: request.open,
        });
    visibility?.tell(this.#onDenied);
    // A resolver does not have all hidden entries, and has the others only for its own use. Only the first page of a query counts them.
    const isHidingTold =
      isExplained && token === "" && visibility !== undefined && this.#lists === undefined && hasRole(caller, "mesh.operate");
    const kept = countWithin(page.records, MAX_PAGE_BYTES);
    const records = kept === page.records.length ? page.records : page.records.slice(0, kept);
    const nextKey = records === page.records ? page.nextKey : records.at(-1)?.key;
    return {
      records,
      nextToken: nextKey === undefined ? "" : encodePageToken(nextKey, filterHash(filter, salt)),
      considered: isHidingTold ? [...(page.considered ?? []), ...this.#explainHidden(caller, request)] : page.considered,
      hiddenBy: this.hiddenBy(caller, records),
    };
  }

  /**
   * Returns a text that identifies the set of entries that a watch with this request shows to this caller. A cursor of one watch is valid for another
   * only if both texts are equal. HOT: once per query.
   */
  readerText(caller: Caller, { filter, isNamesOnly }: Omit<ReaderRequest, "withDigest">): string {
    // A resolver reports which namespaces it has cached up to its cursor, and viewer rules do not hide any entries from it.
    if (filter.resolved !== undefined) return "watch\0resolver";
    // The meaning of LOCAL differs between nodes, so a cursor from such a watch is valid only on the node that issued it.
    const place = filter.scope === SCOPE.LOCAL ? this.node.nodeId : "";
    return filterText(filter, viewText(caller, `watch\0${caller.tenant}\0${caller.cluster}\0${place}${isNamesOnly ? "\0names" : ""}`));
  }

  /**
   * Returns the cursor. While a policy is being put in force, it is unknown which changes the cursor's reader has received, so the resulting cursor
   * can only be answered with a snapshot.
   */
  placed(cursor: WatchCursor): WatchCursor | undefined {
    if (this.isSettled) return cursor;
    return cursor.kind === "short" ? undefined : { ...cursor, policyEpoch: "" };
  }

  /** Returns the reader that equal watches share. Call `release` when the stream closes. */
  reader(caller: Caller, request: ReaderRequest): WatchReader {
    const text = this.readerText(caller, request);
    const isResolved = request.filter.resolved !== undefined;
    // The name contains the whole text instead of a hash, because with a forged hash one tenant could get another tenant's reader.
    const name = `${isResolved ? filterText(request.filter, text) : text} ${request.withDigest}`;
    let shared = this.#readers.get(name);
    if (shared === undefined) {
      this.#keepFilter(name);
      const seesEverything = isResolved || caller.hasOperatorView === true;
      const viewer = seesEverything ? undefined : { clusterId: caller.cluster, tenant: caller.tenant };
      const options = {
        ...request,
        name,
        hash: textHash(text),
        allowed: isResolved ? seesAll : this.#shown(this.#sees(caller)),
        hiddenBy: caller.hasOperatorView === true ? (records: readonly CatalogRecord[]) => this.hiddenBy(caller, records) : undefined,
        isOwed: (namespace: string) => !this.isSettled && this.#isChanged(namespace, viewer),
        isOwedAny: () => !this.isSettled && this.#hasAnyPending(name),
        policyEpoch: () => this.#policyEpoch,
        portableCursor: this.#lists?.portableCursor,
        isAtPlace: this.#lists?.isAtPlace,
      };
      shared = { reader: new WatchReader(options, this.replica, this.node), viewer, pending: undefined };
      this.#readers.set(name, shared);
    }
    shared.reader.streamCount += 1;
    return shared.reader;
  }

  #shown(sees: (namespace: string) => boolean): (namespace: string) => boolean {
    const hides = this.#hides;
    return hides === undefined ? sees : (namespace) => !hides(namespace) && sees(namespace);
  }

  release(reader: WatchReader): void {
    const { name } = reader.options;
    const shared = this.#readers.get(name);
    if (shared === undefined) return;
    reader.streamCount -= 1;
    if (reader.streamCount > 0) return;
    this.#readers.delete(name);
    this.#filterChars -= keptChars(name);
  }

  #keepFilter(name: string): void {
    const chars = keptChars(name);
    if (chars > 0 && this.#filterChars + chars > MAX_FILTER_CHARS)
      throw new WaymarkError(
        "quota_exceeded",
        "the filters of all open watches together are too long: use a namespace or a prefix, or fewer names and tags",
        { retryMs: ROOM_RETRY_MS },
      );
    this.#filterChars += chars;
  }

  /** Returns a test for the namespaces that a caller sees, for scans that are not recorded in the audit log. */
  allowed(caller: Caller): (namespace: string) => boolean {
    return this.#shown(this.#policies.policy.set === undefined ? seesAll : this.#sees(caller));
  }

  #sees(caller: Caller): (namespace: string) => boolean {
    return caller.hasOperatorView === true ? seesAll : visibilityOf(this, caller);
  }

  /** Returns a record's entry as plain values. Cost: one decode. */
  entry(record: CatalogRecord): EntryView {
    return decodeEntry(this.replica.slab.view(record.at, record.sizeBytes), record.origin.life);
  }

  /**
   * Returns all visible records in key order, in slices. A slice uses a limited part of a turn, contains at most `SLICE_BYTES` of entries, and is
   * valid only in the turn in which it was read. A filter for a hidden namespace is recorded in the audit log.
   */
  scan(caller: Caller, filter: EntryFilter): Iterable<readonly CatalogRecord[]> {
    const { namespace } = filter;
    const verdict = namespace === "" ? undefined : this.verdict(caller, namespace);
    if (verdict?.allowed === false) this.#onDenied(caller, { action: "query", namespace, verdict });
    return this.#pages(caller, filter, { limit: SLICE_RECORDS, maxBytes: SLICE_BYTES });
  }

  /** Returns visible records, one page at a time. Each page is read when it is requested. */
  *#pages(caller: Caller, filter: EntryFilter, { limit, maxBytes = Infinity }: PageBounds): Generator<readonly CatalogRecord[]> {
    for (let afterKey: string | undefined = ""; afterKey !== undefined; ) {
      const options = { limit, afterKey, self: this.node, allowed: this.allowed(caller), explain: false };
      const { records, nextKey } = this.#pageOf(filter, options);
      const kept = records.slice(0, countWithin(records, maxBytes));
      yield kept;
      afterKey = kept.length < records.length ? kept.at(-1)?.key : nextKey;
    }
  }

  /** Returns visible entries of one name, or a sample if the name has many entries (`findInstances`). */
  find<T>(caller: Caller, name: InstanceName, options: FindOptions<T>): FoundInstances<T> {
    const verdict = this.verdict(caller, name.namespace);
    if (verdict.allowed) return this.#found(name, options);
    this.#onDenied(caller, { action: "query", namespace: name.namespace, verdict });
    return { found: [], isSample: false, ranks: undefined };
  }

  #found<T>(name: InstanceName, options: FindOptions<T>): FoundInstances<T> {
    const lists = this.#lists;
    if (lists === undefined) return findInstances(this.replica.lookup, name, options);
    const { suits = () => true } = options;
    return findJoined(lists.of(name.namespace), name, { ...options, suits: (record) => lists.admits(record) && suits(record) });
  }

  #pageOf(filter: EntryFilter, options: QueryOptions): QueryPage {
    const lists = this.#lists;
    if (lists === undefined) return queryPage(this.replica.lookup, filter, options);
    const lookups = lists.of(filter.namespace === "" ? filter.prefix : filter.namespace);
    // With `open`, the opened list contains the entries of all lists.
    const page = options.open === undefined ? joinedPage(lookups, filter, options) : queryPage(this.replica.lookup, filter, options);
    const isAdmitted = (record: CatalogRecord | undefined) => record === undefined || lists.admits(record);
    // HOT: once per query on a resolver. Explanations are rarely requested, and nearly always all records are admitted.
    if (page.considered === undefined && page.records.every(isAdmitted)) return page;
    const considered = page.considered?.filter(({ key }) => lookups.every((lookup) => isAdmitted(lookup.find(key))));
    return { ...page, records: page.records.filter(isAdmitted), considered };
  }

  /** Returns NODE entries. With `namespaceFilter`, returns only the nodes that have entries in or below that namespace. */
  nodes(caller: Caller, request: Omit<QueryPageRequest, "salt" | "isExplained">, namespaceFilter: string): PageAnswer {
    const answer = this.page(caller, { ...request, isExplained: false, salt: `nodes\0${namespaceFilter}` });
    if (namespaceFilter === "") return answer;
    const holders = this.#holders(caller, namespaceFilter, new Set(answer.records.map((record) => record.traits.nodeId)));
    return { ...answer, records: answer.records.filter((record) => holders.has(record.traits.nodeId)) };
  }

  /**
   * Whether a viewer must still be notified of a new verdict on a namespace or of new owner rules for the namespace's records. A resolver is notified
   * only of new owner rules.
   */
  #isChanged(namespace: string, viewer: Viewer | undefined): boolean {
    const { policy } = this.#policies;
    if (viewer !== undefined) {
      const { allowed } = policy.viewer(namespace, viewer);
      const isOther = (earlier: Policy) => earlier.viewer(namespace, viewer).allowed !== allowed;
      if (isOther(this.#settledPolicy) || this.#unsettled.some(isOther)) return true;
    }
    return this.#followed.some((followed) => !hasSameOwners(followed, policy, namespace));
  }

  /** The policies that records may follow, other than the policy in force. */
  get #followed(): readonly Policy[] {
    return [this.#shownPolicy, ...this.#unshown].filter((followed) => followed !== this.#policies.policy);
  }

  /**
   * Whether any namespace that the filter covers may have new owners. The lists do not contain a namespace whose records were all hidden until now.
   */
  #mayHaveOtherOwners({ namespace, prefix, resolved }: EntryFilter): boolean {
    if (namespace !== "") return false;
    const version = this.policyRevision;
    if (this.#reowned.version !== version) {
      const { policy } = this.#policies;
      this.#reowned = { version, prefixes: new NamespacePrefixes(this.#followed.flatMap((followed) => differentOwners(followed, policy))) };
    }
    const { prefixes } = this.#reowned;
    return prefixes.meets(prefix) && (resolved === undefined || resolved.list.some((each) => prefixes.meets(each)));
  }

  /**
   * Whether the reader has any pending change. Cost: O(namespaces of which the reader may have entries), once per policy version. Namespaces that
   * appear in the meantime interrupt the reader's scans.
   */
  #hasAnyPending(name: string): boolean {
    const shared = this.#readers.get(name);
    if (shared === undefined) return false;
    const version = this.policyRevision;
    if (shared.pending?.version !== version) {
      const { filter } = shared.reader.options;
      let isAny = this.#mayHaveOtherOwners(filter);
      if (!isAny)
        for (const namespace of coveredNamespaces(this.replica.lookup.namespaces, filter)) {
          isAny = this.#isChanged(namespace, shared.viewer);
          if (isAny) break;
        }
      shared.pending = { version, isAny };
    }
    return shared.pending.isAny;
  }

  /**
   * Returns the holder of short cursors, which identifies the process and the state of its policy. All threads of a node use the same text for the
   * same state. The text may recur if an earlier policy is put in force again. Even then, a cursor with that holder does not skip any changes: its
   * reader received entries under the same rules, and records whose owner rules changed in between have been touched since. A reader may have skipped
   * changes only while a policy is being put in force. During that time the holder contains both epochs, and cursors are answered with a snapshot
   * (`placed`). After that, the holder contains only one epoch and therefore differs. HOT: once per message.
   */
  #bootOf(boot: string): string {
    const version = this.policyRevision;
    if (this.#boot.version !== version) {
      const epoch = this.#policyEpoch;
      this.#boot = { version, text: epoch === NO_POLICY.epoch ? boot : `${boot}-${sha256Hex(epoch).slice(0, EPOCH_HASH_LENGTH)}` };
    }
    return this.#boot.text;
  }

  get #policyEpoch(): string {
    const { policy } = this.#policies;
    const epoch = this.isSettled ? policy.epoch : `${this.#settledPolicy.epoch}>${policy.epoch}`;
    return this.#answers === "" ? epoch : `${epoch}+${this.#answers}`;
  }

  /** Returns the requested nodes that have an entry in or below the namespace. Stops when all requested nodes have been found. */
  #holders(caller: Caller, prefix: string, wanted: ReadonlySet<string>): ReadonlySet<string> {
    const found = new Set<string>();
    for (const records of this.#pages(caller, { ...ANY, prefix }, { limit: HOLDERS_PAGE })) {
      for (const { traits } of records) if (wanted.has(traits.nodeId)) found.add(traits.nodeId);
      if (found.size === wanted.size) break;
    }
    return found;
  }
}

interface PageBounds {
  readonly limit: number;
  /** Maximum bytes of encoded entries. A page always has at least one entry. */
  readonly maxBytes?: number;
}

/** Limits for one slice of a scan: about half a millisecond of work. */
const SLICE_RECORDS = 200;
const SLICE_BYTES = 32 * 1024;

/** Number of entries read per step to find the nodes of a namespace. */
const HOLDERS_PAGE = 1000;

function keptChars(name: string): number {
  return name.length > SHORT_FILTER ? name.length : 0;
}

/** The filter of NODE entries. */
export const NODES: EntryFilter = { ...ANY, namespace: NODES_NAMESPACE, kindMask: 1 << KIND.NODE };

/** Returns the number of records that fit, at least one. */
function countWithin(records: readonly CatalogRecord[], maxBytes: number): number {
  let bytes = 0;
  for (let i = 0; i < records.length; i++) {
    bytes += records[i]?.sizeBytes ?? 0;
    if (bytes > maxBytes && i > 0) return i;
  }
  return records.length;
}
