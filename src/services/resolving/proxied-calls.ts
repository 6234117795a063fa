/**
 * ClusterMap and ListPeers on a resolver. The resolver proxies them to its upstream, and caches the last answers for times when no upstream is
 * available.
 */

import { clone, create, toBinary } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { Scope } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { Source } from "../../../gen/waymark/catalog/v1/watch_pb.js";
import {
  type ClusterMapRequest,
  ClusterMapRequestSchema,
  type ClusterMapResponse,
  ClusterMapResponseSchema,
  DiscoveryService,
  type ListPeersRequest,
  ListPeersRequestSchema,
  type ListPeersResponse,
} from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import type { Time } from "../../lib/machine.ts";
import { durationMs } from "../contract.ts";
import type { CallContext, MethodHandler } from "../service.ts";
import type { ResolverPorts } from "./ports.ts";

/** Largest number of cached answers per method. */
const MAX_KEPT = 100;
/** How long an answer is reused without another call, in ms. If many clients start together, the upstream receives only one call. */
const FRESH_MS = 1000;

/** The fields that the answers of both methods have in common. */
type CommonAnswerFields = Pick<ClusterMapResponse, "age" | "servedBy" | "source" | "stale">;

export interface ProxiedCallsParts {
  readonly ports: Pick<ResolverPorts, "call">;
  readonly servedBy: string;
  readonly now: () => Time;
  /** Returns the ids of the nodes that have at least one entry, visible to the caller, in a namespace or below it. */
  readonly holders: (namespace: string, context: CallContext) => Promise<ReadonlySet<string>>;
}

export class ProxiedCalls {
  readonly #parts: ProxiedCallsParts;
  readonly #maps: LastAnswers<ClusterMapResponse>;
  readonly #peers: LastAnswers<ListPeersResponse>;

  constructor(parts: ProxiedCallsParts) {
    this.#parts = parts;
    this.#maps = new LastAnswers(parts);
    this.#peers = new LastAnswers(parts);
  }

  get handlers(): Readonly<Record<"clusterMap" | "listPeers", MethodHandler>> {
    return {
      clusterMap: { kind: "unary", handle: (request: ClusterMapRequest, context) => this.#clusterMap(request, context) },
      listPeers: { kind: "unary", handle: (request: ListPeersRequest) => this.#listPeers(request) },
    };
  }

  /** Returns the advertised addresses of nodes, with ingress nodes first. Empty while no nodes are known. */
  async urls(): Promise<readonly string[]> {
    try {
      // Nodes in other regions do not serve this catalog.
      const { nodes } = await this.#map(create(ClusterMapRequestSchema, { scope: Scope.REGION }));
      const isIngress = ({ capabilities }: (typeof nodes)[number]) => capabilities.includes("ingress");
      const inOrder = [...nodes.filter(isIngress), ...nodes.filter((node) => !isIngress(node))];
      return inOrder.flatMap(({ detail }) => (detail.case === "node" ? detail.value.advertisedUrls.slice(0, 1) : []));
    } catch {
      return [];
    }
  }

  /**
   * Applies the namespace filter on this resolver, because the upstream would apply it with the rights of this resolver instead of its caller's
   * rights.
   */
  async #clusterMap(request: ClusterMapRequest, context: CallContext): Promise<ClusterMapResponse> {
    const { namespaceFilter } = request;
    if (namespaceFilter === "") return this.#map(request);
    const holders = await this.#parts.holders(namespaceFilter, context);
    const answer = await this.#map(Object.assign(clone(ClusterMapRequestSchema, request), { namespaceFilter: "" }));
    const nodes = answer.nodes.filter(({ nodeId }) => holders.has(nodeId));
    return Object.assign(clone(ClusterMapResponseSchema, answer), { nodes });
  }

  #map(request: ClusterMapRequest): Promise<ClusterMapResponse> {
    const { clusterMap } = DiscoveryService.method;
    return this.#maps.of(nameOf(toBinary(ClusterMapRequestSchema, request)), () => this.#parts.ports.call(clusterMap, request));
  }

  #listPeers(request: ListPeersRequest): Promise<ListPeersResponse> {
    const { listPeers } = DiscoveryService.method;
    return this.#peers.of(nameOf(toBinary(ListPeersRequestSchema, request)), () => this.#parts.ports.call(listPeers, request));
  }
}

function nameOf(request: Uint8Array): string {
  return Buffer.from(request).toString("base64");
}

interface CachedAnswer<A> {
  readonly answer: A;
  /** Time of the request. The age is counted from this time, because the transit time of the answer is unknown. */
  readonly monoMs: number;
}

class LastAnswers<A extends CommonAnswerFields> {
  readonly #parts: Pick<ProxiedCallsParts, "now" | "servedBy">;
  readonly #kept = new Map<string, CachedAnswer<A>>();
  readonly #running = new Map<string, Promise<CachedAnswer<A>>>();

  constructor(parts: Pick<ProxiedCallsParts, "now" | "servedBy">) {
    this.#parts = parts;
  }

  /**
   * Returns a new answer to the request `name`. If `ask` rejects, returns the last answer, marked as stale. If there is no answer, rejects as `ask`
   * does.
   */
  async of(name: string, ask: () => Promise<A>): Promise<A> {
    const kept = this.#kept.get(name);
    const { monoMs } = this.#parts.now();
    if (kept !== undefined && monoMs - kept.monoMs < FRESH_MS) return this.#marked(kept, false);
    try {
      return this.#marked(await (this.#running.get(name) ?? this.#ask(name, ask)), false);
    } catch (error) {
      if (kept === undefined) throw error;
      return this.#marked(kept, true);
    }
  }

  async #ask(name: string, ask: () => Promise<A>): Promise<CachedAnswer<A>> {
    const { monoMs } = this.#parts.now();
    const running = ask().then((answer): CachedAnswer<A> => ({ answer, monoMs }));
    this.#running.set(name, running);
    try {
      const newest = await running;
      this.#kept.delete(name);
      // The answer to a request without filters is never dropped, because programs send this request when they have lost their server.
      const oldest = this.#kept.keys().find((kept) => kept !== "");
      if (this.#kept.size >= MAX_KEPT && oldest !== undefined) this.#kept.delete(oldest);
      this.#kept.set(name, newest);
      return newest;
    } finally {
      this.#running.delete(name);
    }
  }

  #marked({ answer, monoMs }: CachedAnswer<A>, isStale: boolean): A {
    const ageMs = (answer.age === undefined ? 0 : durationMs(answer.age)) + this.#parts.now().monoMs - monoMs;
    return {
      ...answer,
      servedBy: this.#parts.servedBy,
      source: Source.FETCHED,
      stale: isStale || answer.stale,
      age: durationFromMs(Math.round(ageMs)),
    };
  }
}
