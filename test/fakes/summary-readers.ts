/** A node's reads of summaries, with a replica of its own, and clients that ask the handlers of the service. */
import { create, fromBinary, type MessageInitShape } from "@bufbuild/protobuf";
import type { ServiceSummary } from "../../gen/waymark/catalog/v1/summary_pb.js";
import { Snapshot } from "../../gen/waymark/catalog/v1/watch_pb.js";
import {
  type SummaryQueryRequest,
  SummaryQueryRequestSchema,
  type SummaryQueryResponse,
  SummaryQueryResponseSchema,
  type SummaryWatchRequest,
  SummaryWatchRequestSchema,
  type SummaryWatchResponse,
  SummaryWatchResponseSchema,
} from "../../gen/waymark/discovery/v1/summary_pb.js";
import { EntryIndex } from "../../src/catalog/query/entry-index.ts";
import type { KeyText } from "../../src/catalog/record/record.ts";
import { Slab } from "../../src/catalog/record/slab.ts";
import { Replica } from "../../src/catalog/replica/replica.ts";
import { isAdmitted } from "../../src/discovery/policy-switch-queue.ts";
import { SummaryReads } from "../../src/discovery/summaries/summary-reads.ts";
import type { WaymarkError } from "../../src/lib/errors.ts";
import { Metrics } from "../../src/lib/metrics/metrics.ts";
import { anonymousCaller, type Caller } from "../../src/policy/identity/caller.ts";
import { NO_POLICY, type Policy } from "../../src/policy/set/verdict.ts";
import { type SummaryServiceParts, summaryHandlers } from "../../src/services/discovery/summaries.ts";
import type { CallContext, HttpRoute, StreamSource } from "../../src/services/service.ts";
import { encodeBeacon, encodeSummary, opened } from "../../src/summary/codec.ts";
import type { SourceAge } from "../../src/summary/held/options.ts";
import { recordKey } from "../../src/summary/keys.ts";
import { SummaryStamper } from "../../src/summary/stamper.ts";
import type { Beacon, IngressNode, Summary } from "../../src/summary/summary.ts";
import { at } from "./registry.ts";
import { BEACON, SUMMARY } from "./summaries.ts";

const REGIONS: Readonly<Record<string, string>> = { c1: "eu", "eu-2": "eu", "us-1": "us", "ap-1": "ap" };
export const ANYONE: Caller = anonymousCaller("c1", "192.0.2.1");
export const NODE = { nodeId: "a", clusterId: "c1", region: "eu", boot: "b1" };
const SIGNATURE = new Uint8Array(64).fill(7);

/** The words of a summary that tests compare. */
export function nameOf({ sourceCluster, namespace, serviceId, kind, scope }: ServiceSummary): string {
  return `${namespace} ${serviceId} ${kind} ${scope} ${sourceCluster}`;
}

/** A name with the version, and whether it is stale. */
export function stateOf(item: ServiceSummary): string {
  return `${nameOf(item)} v${item.version}${item.stale ? " stale" : ""}`;
}

export class SummaryWorld {
  readonly replica: Replica;
  readonly summaries: SummaryReads;
  readonly policies: { policy: Policy } = { policy: NO_POLICY };
  readonly denials: string[] = [];
  readonly readNamespaces: string[] = [];
  readonly stale = new Set<string>();
  readonly ingress = new Map<string, readonly IngressNode[]>();
  /** When clusters were heard of. */
  ages: readonly SourceAge[] = [];
  /** Held, and not shown. */
  readonly hidden = new Set<KeyText>();
  isReady = true;
  /** For how long those that are not stale stay so. */
  freshMs = 120_000;
  /** How often somebody was to be woken. */
  wakes = 0;
  #atMs = 0;
  readonly #stamper = new SummaryStamper((cluster) => REGIONS[cluster]);
  readonly #handlers: ReturnType<typeof summaryHandlers>["handlers"];
  readonly routes: readonly HttpRoute[];

  constructor({ nodeId = NODE.nodeId, allowsViewerOverride = false } = {}) {
    const bounds = { tombstoneTtlMs: 1000, minTombstones: 4 };
    this.replica = new Replica(new EntryIndex(), new Slab(), { nodeId, generation: 1, lastSeq: 0, floor: 0, place: NODE, ...bounds });
    this.replica.setAdmission((stored) => !this.hidden.has(stored.key) && isAdmitted(this.policies.policy, stored, NODE.clusterId));
    this.summaries = new SummaryReads({
      replica: this.replica,
      node: { ...NODE, nodeId, boot: `boot-${nodeId}` },
      policies: this.policies,
      onDenied: (who, { action, namespace, verdict }) => this.denials.push(`${who.tenant} ${action} ${namespace} ${verdict.reason}`),
      sources: {
        isStale: ({ traits }) => this.stale.has(traits.clusterId),
        staleSources: () => this.stale,
        freshMs: (source) => (this.stale.has(source) ? 0 : this.freshMs),
        ingressOf: (source) => this.ingress.get(source) ?? [],
        ages: () => this.ages,
      },
      onAgain: () => {
        this.wakes += 1;
      },
      now: () => this.now(),
    });
    const parts: SummaryServiceParts = {
      summaries: this.summaries,
      identity: { nodeId, boot: `boot-${nodeId}` },
      mesh: { ageMs: () => 40, unreachable: () => undefined, hasPeers: () => true },
      isReady: () => this.isReady,
      checkStart: () => {},
      now: () => this.now(),
      random: () => 0,
      allowsViewerOverride,
      isTls: false,
      metrics: new Metrics(),
      onRead: (_, namespace) => this.readNamespaces.push(namespace),
    };
    ({ handlers: this.#handlers, routes: this.routes } = summaryHandlers(parts));
  }

  now() {
    return at(this.#atMs);
  }

  pass(ms: number): void {
    this.#atMs += ms;
  }

  /** A summary is put under its key. Returns the key. */
  put(fields: Partial<Summary>): KeyText {
    const summary = { ...SUMMARY, ...fields };
    this.#put("summary", encodeSummary(summary));
    return recordKey(summary);
  }

  beacon(source: string, said: Partial<Beacon> = {}): void {
    this.#put("beacon", encodeBeacon({ ...BEACON, withdrawals: [], source, ...said }));
  }

  #put(what: "beacon" | "summary", signed: Uint8Array): void {
    const { seq } = this.#stamper.stage(this.replica, opened(what, { signed, signature: SIGNATURE, hops: 0 }));
    this.replica.commit(seq, this.now());
    this.summaries.changed();
  }

  /** The room that holds summaries shows a key no more, or again. */
  hide(key: KeyText, isHidden = true): void {
    if (isHidden) this.hidden.add(key);
    else this.hidden.delete(key);
    for (const stored of this.replica.records(key)) this.replica.touch(stored);
    this.summaries.changed();
  }

  turn(source: string, isStale: boolean): void {
    if (isStale) this.stale.add(source);
    else this.stale.delete(source);
    this.summaries.turned(new Set([source]));
  }

  /** Another policy is in force; `steps` at most are done of showing it. Returns whether it is shown. */
  change(policy: Policy, steps = Number.POSITIVE_INFINITY): boolean {
    this.policies.policy = policy;
    this.summaries.begins(1);
    return this.finish(steps);
  }

  finish(steps = Number.POSITIVE_INFINITY): boolean {
    for (let n = 0; n < steps && this.summaries.isRunning; n += 1) this.summaries.step(2);
    this.summaries.changed();
    return this.summaries.isShown;
  }

  query(request: MessageInitShape<typeof SummaryQueryRequestSchema> = {}, caller = ANYONE): SummaryQueryResponse {
    const handler = this.#handlers.summaryQuery;
    if (handler.kind !== "unary") throw new Error(handler.kind);
    const handle = handler.handle as (asked: SummaryQueryRequest, context: CallContext) => Uint8Array;
    return fromBinary(SummaryQueryResponseSchema, handle(create(SummaryQueryRequestSchema, request), this.#context(caller)));
  }

  /** All pages, each after what happens before it. */
  pages(request: MessageInitShape<typeof SummaryQueryRequestSchema>, between: () => void = () => {}): readonly SummaryQueryResponse[] {
    const pages = [this.query(request)];
    for (let page = pages[0]; page !== undefined && page.nextPageToken !== ""; page = pages.at(-1)) {
      between();
      pages.push(this.query({ ...request, pageToken: page.nextPageToken }));
    }
    return pages;
  }

  watch(request: MessageInitShape<typeof SummaryWatchRequestSchema> = {}, caller = ANYONE): StreamSource {
    const handler = this.#handlers.summaryWatch;
    if (handler.kind !== "server_streaming") throw new Error(handler.kind);
    const open = handler.open as (asked: SummaryWatchRequest, context: CallContext) => StreamSource;
    return open(create(SummaryWatchRequestSchema, request), this.#context(caller));
  }

  #context(caller: Caller): CallContext {
    return { caller, time: this.now(), requestId: "r" };
  }
}

/** A client that folds a watch of summaries. */
export class SummaryFold {
  readonly #request: MessageInitShape<typeof SummaryWatchRequestSchema>;
  #world: SummaryWorld;
  readonly #caller: Caller;
  #source: StreamSource;
  readonly #held = new Map<string, string>();
  #replaced: { readonly all: boolean; readonly namespaces: readonly string[]; readonly seen: Set<string> } | undefined;
  cursor = "";
  portableCursor = "";
  /** Why the stream ended. */
  end: WaymarkError | undefined;
  /** Since the last pull. */
  messages: readonly SummaryWatchResponse[] = [];

  constructor(world: SummaryWorld, request: MessageInitShape<typeof SummaryWatchRequestSchema> = {}, caller = ANYONE) {
    this.#request = request;
    this.#world = world;
    this.#caller = caller;
    this.#source = this.#open("");
  }

  #open(cursor: string): StreamSource {
    const source = this.#world.watch({ ...this.#request, cursor }, this.#caller);
    source.attach(
      () => {},
      (error) => {
        this.end = error;
      },
    );
    return source;
  }

  /** What it holds, sorted. */
  get held(): readonly string[] {
    return [...this.#held.values()].toSorted();
  }

  /** Goes on from the last cursor, here or at another node. */
  reconnect(to = this.#world): void {
    const cursor = to === this.#world ? this.cursor : this.portableCursor;
    this.#source.close();
    this.#replaced = undefined;
    this.#world = to;
    this.#source = this.#open(cursor);
  }

  /** Takes all there is, with a bookmark at the end. */
  settle(): readonly string[] {
    this.pull();
    this.#world.pass(10_000);
    this.pull();
    return this.held;
  }

  pull(): void {
    const messages: SummaryWatchResponse[] = [];
    for (let bytes = this.#source.pull(this.#world.now()); bytes !== undefined; bytes = this.#source.pull(this.#world.now())) {
      const message = fromBinary(SummaryWatchResponseSchema, new Uint8Array(bytes));
      messages.push(message);
      this.#fold(message);
    }
    this.messages = messages;
  }

  close(): void {
    this.#source.close();
  }

  #fold(message: SummaryWatchResponse): void {
    const { snapshot, replaces, deltas } = message;
    if (snapshot === Snapshot.BEGIN) this.#replaced = { all: replaces.length === 0, namespaces: replaces, seen: new Set() };
    for (const { payload } of deltas) {
      if (payload.case === "summary") {
        const name = nameOf(payload.value);
        this.#held.set(name, stateOf(payload.value));
        this.#replaced?.seen.add(name);
      } else if (payload.case === "removed") {
        const { namespace, name, kind, instanceId, clusterId } = payload.value;
        const scope = ["", "local", "zone", "region", "global"].indexOf(instanceId);
        this.#held.delete(`${namespace} ${name} ${kind} ${scope} ${clusterId}`);
      }
    }
    if (snapshot === Snapshot.END && this.#replaced !== undefined) {
      const { all, namespaces, seen } = this.#replaced;
      for (const name of this.#held.keys())
        if (!seen.has(name) && (all || namespaces.includes(name.split(" ")[0] ?? ""))) this.#held.delete(name);
      this.#replaced = undefined;
    }
    if (message.cursor !== "") this.cursor = message.cursor;
    if (message.portableCursor !== "") this.portableCursor = message.portableCursor;
  }
}
