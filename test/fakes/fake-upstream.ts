/** A server that resolvers read, in memory behind a real gRPC listener: it tells the truth, unless a test says how it misbehaves. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  CatalogQueryRequestSchema,
  CatalogWatchRequestSchema,
  ServerInfoResponseSchema,
} from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { WatchPolicyResponseSchema } from "../../gen/waymark/policy/v1/policy_pb.js";
import { ANY } from "../../src/catalog/query/filter.ts";
import { NamespacePrefixes } from "../../src/catalog/query/prefixes.ts";
import { queryPage } from "../../src/catalog/query/query.ts";
import type { Kind } from "../../src/catalog/record/record.ts";
import { parseCursor } from "../../src/catalog/watch/cursor.ts";
import { WatchFeed } from "../../src/catalog/watch/feed.ts";
import { WatchReader } from "../../src/catalog/watch/reader.ts";
import type { GrpcMethod, MethodCall } from "../../src/grpc/server/method.ts";
import { WaymarkError } from "../../src/lib/errors.ts";
import { grpcStatus } from "../../src/server/grpc-methods.ts";
import { refusal } from "../../src/server/status.ts";
import { replicaAge } from "../../src/services/discovery/answer-age.ts";
import { DiscoveryBytes } from "../../src/services/discovery/response-bytes.ts";
import { type Serving, serve } from "./grpc-room.ts";
import { FabricComponent } from "./mesh.ts";

const MESSAGE_BYTES = 400;
const NO_LOADS = { of: () => undefined };
const NO_ROOM = grpcStatus(refusal(new WaymarkError("quota_exceeded", "no room")));
const now = () => ({ monoMs: performance.now(), wallMs: Date.now() });

interface Watch {
  readonly call: MethodCall;
  readonly feed: WatchFeed;
  readonly prefixes: readonly string[];
}

export class FakeUpstream {
  readonly node: FabricComponent;
  facts = { clusterId: "local", region: "local", via: [] as string[] };
  /** Whether its watches say nothing, though it takes them. */
  isSilent = false;
  /** Changes what it sends. */
  garble: { watch: (bytes: Uint8Array) => Uint8Array; info: (bytes: Uint8Array) => Uint8Array; page: (bytes: Uint8Array) => Uint8Array } = {
    watch: (bytes) => bytes,
    info: (bytes) => bytes,
    page: (bytes) => bytes,
  };
  /** Resets the next watch after so many messages. */
  resetAfter = Number.POSITIVE_INFINITY;
  /** Prefixes for which it has no room: a watch that names one of them is refused. */
  roomless: readonly string[] = [];
  /** By path, with the credential that came along. */
  readonly calls: string[] = [];
  readonly watches = new Set<Watch>();
  watchCount = 0;
  #serving: Serving | undefined;

  constructor(id: string) {
    this.node = new FabricComponent(id);
  }

  async start(): Promise<this> {
    this.#serving = await serve({ methods: this.#methods() });
    return this;
  }

  get address(): string {
    return this.#serving?.address ?? "";
  }

  get serving(): Serving | undefined {
    return this.#serving;
  }

  put(...keys: readonly string[]): void {
    for (const key of keys) this.node.put(key as never, 0, now());
    this.node.commit(now());
    for (const watch of this.watches) this.#tell(watch);
  }

  #methods(): readonly GrpcMethod[] {
    const noted = (call: MethodCall) =>
      void this.calls.push(`${call.method.path.split("/").at(-1)} ${String(call.metadata.get("authorization") ?? "")}`);
    return [
      {
        path: "/waymark.discovery.v1.DiscoveryService/ServerInfo",
        kind: "unary",
        handle: (_, call) => {
          noted(call);
          call.respond(this.garble.info(toBinary(ServerInfoResponseSchema, create(ServerInfoResponseSchema, this.facts))));
        },
      },
      {
        path: "/waymark.discovery.v1.DiscoveryService/CatalogQuery",
        kind: "unary",
        handle: (request, call) => {
          noted(call);
          call.respond(this.garble.page(this.#page(request)));
        },
      },
      {
        path: "/waymark.discovery.v1.DiscoveryService/CatalogWatch",
        kind: "server_streaming",
        handle: (request, call) => {
          noted(call);
          const { namespacePrefixes } = fromBinary(CatalogWatchRequestSchema, request);
          if (namespacePrefixes.some((prefix) => this.roomless.includes(prefix))) call.finish(NO_ROOM);
          else this.#open(request, call);
        },
      },
      {
        path: "/waymark.policy.v1.PolicyService/WatchPolicy",
        kind: "server_streaming",
        handle: (_, call) => {
          noted(call);
          const state = { versions: [], policyEpoch: "none" };
          call.write(toBinary(WatchPolicyResponseSchema, create(WatchPolicyResponseSchema, { state })));
        },
      },
    ];
  }

  #open(request: Uint8Array, call: MethodCall): void {
    const { namespacePrefixes: prefixes, cursor } = fromBinary(CatalogWatchRequestSchema, request);
    const filter = { ...ANY, resolved: new NamespacePrefixes(prefixes) };
    const options = { filter, name: "r", hash: "r", allowed: () => true, policyEpoch: () => "e", isNamesOnly: false, withDigest: false };
    const from = cursor === "" ? undefined : parseCursor(cursor);
    const reader = new WatchReader(options, this.node.replica, this.node.facts);
    const watch: Watch = { call, feed: new WatchFeed(reader, { from, bookmarkIntervalMs: 1000 }, now()), prefixes };
    this.watchCount += 1;
    this.watches.add(watch);
    call.onCancelled(() => this.watches.delete(watch));
    this.#tell(watch);
  }

  #tell(watch: Watch): void {
    const { call, feed } = watch;
    const { node } = this;
    for (let n = 0; !this.isSilent; n++) {
      const message = feed.next(now(), MESSAGE_BYTES, true);
      if (message === undefined) return;
      const resolved = { policyEpoch: "none", via: [] };
      const options = { isNamesOnly: false, sentWallMs: 0, servedBy: node.nodeId, age: replicaAge(20), resolved };
      if (n >= this.resetAfter) {
        this.resetAfter = Number.POSITIVE_INFINITY;
        this.watches.delete(watch);
        call.reset(2);
        return;
      }
      call.write(this.garble.watch(new DiscoveryBytes(node.replica.slab, NO_LOADS).watch(message, options)));
    }
  }

  #page(request: Uint8Array): Uint8Array {
    const { kinds, namespace, names } = fromBinary(CatalogQueryRequestSchema, request);
    const { node } = this;
    const kindMask = kinds.reduce((mask, kind) => mask | (1 << (kind as Kind)), 0);
    const of = { limit: 1000, afterKey: "", self: node.facts, allowed: () => true, explain: false };
    const { records } = queryPage(node.replica.lookup, { ...ANY, namespace, names, kindMask }, of);
    return new DiscoveryBytes(node.replica.slab, NO_LOADS).query({
      records,
      nextToken: "",
      revision: 1,
      cursor: "",
      servedBy: node.nodeId,
      age: replicaAge(20),
      generatedWallMs: 0,
      explanations: [],
      resolved: { policyEpoch: "none", via: [] },
    });
  }
}
